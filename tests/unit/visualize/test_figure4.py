from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.visualize.figure4 import draw_figure4

CELL = 80


@pytest.fixture
def maps(scene) -> dict[str, np.ndarray]:
    heatmap = np.zeros(scene.size, np.float32)
    heatmap[60, 30] = heatmap[60, 125] = 1
    y, x = np.mgrid[: scene.size[0], : scene.size[1]]
    offset = np.stack([60 - y, np.where(x < 75, 30, 125) - x]).astype(np.float32)
    return {"center_heatmap": heatmap, "offset": offset}


def cells(figure: Image.Image, size: tuple[int, int]) -> list[np.ndarray]:
    """The six pictures of the page."""
    page = np.asarray(figure)
    top = 44  # two lines of text
    lefts = [6 + column * (size[1] + 6) for column in range(6)]
    assert page.shape[1] == lefts[-1] + size[1] + 6
    return [page[top : top + size[0], left : left + size[1]].astype(int) for left in lefts]


def test_six_pictures_in_the_order_of_the_figure(image, scene, maps):
    figure = draw_figure4(image, scene, **maps, title="photo", cell_width=160)
    shown, semantic, heatmap, offset, instances, panoptic = cells(figure, (120, 160))
    assert (shown == 100).all()
    assert np.array_equal(semantic[60, 20], scene.categories.colors[1])
    assert np.array_equal(semantic[0, 0], (0, 0, 0))
    assert np.abs(heatmap[60, 30] - heatmap[0, 0]).sum() > 200
    assert (offset[100, 10] == 255).all()  # stuff
    assert (offset[60, 15] != 255).any()
    left, right = offset[60, 15], offset[60, 45]
    assert left[0] > left[2]  # the way leads to the right: red
    assert right[0] < right[2]
    assert (instances[100, 10] == 0).all()
    assert not np.array_equal(instances[60, 20], instances[60, 120])
    assert (panoptic[60, 20] != shown[60, 20]).any()


def test_instances_have_colors_that_say_nothing_about_the_class(image, scene, maps):
    instances = cells(draw_figure4(image, scene, **maps, cell_width=160), (120, 160))[4]
    classes = cells(draw_figure4(image, scene, **maps, cell_width=160), (120, 160))[1]
    first, second, other_class = instances[60, 20], instances[60, 120], instances[100, 75]
    assert np.array_equal(classes[60, 20], classes[60, 120])
    distances = [np.abs(a - b).sum() for a, b in ((first, second), (first, other_class), (second, other_class))]
    assert min(distances) > 100


@pytest.mark.parametrize(("width", "size"), [(CELL, (60, 80)), (320, (240, 320))])
def test_pictures_are_reduced_and_enlarged_to_the_cell(image, scene, maps, width, size):
    pictures = cells(draw_figure4(image, scene, **maps, cell_width=width), size)
    assert all(picture.shape == (*size, 3) for picture in pictures)
    assert (pictures[5] == 255).all(axis=-1).any()  # lines between segments are as wide as before


def test_a_result_without_argmax_is_drawn_from_its_segments(image, scene, maps):
    with_argmax = draw_figure4(image, scene, **maps)
    without = draw_figure4(image, replace(scene, semantic_map=None), **maps)
    assert np.array_equal(np.asarray(with_argmax), np.asarray(without))
