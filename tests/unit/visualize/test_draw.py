"""Overlays show what the result says, where it says it."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.errors import ImageError
from panoptic_deeplab.visualize.colors import class_colors, segment_colors
from panoptic_deeplab.visualize.draw import draw_panoptic, draw_semantic, enlarge


def test_colors_are_mixed_at_alpha_and_void_stays_as_it_is(image, scene):
    picture = np.array(draw_panoptic(image, scene, alpha=0.6, labels=False)).astype(float)
    colors = segment_colors(scene)
    for (y, x), index in {(60, 20): 0, (60, 120): 1, (100, 20): 2}.items():
        assert np.abs(picture[y, x] - (0.4 * 100 + 0.6 * colors[index])).max() <= 0.5
    assert (picture[:39] == 100).all()


def test_boundaries_are_white_and_only_between_segments(image, scene):
    picture = np.array(draw_panoptic(image, scene, labels=False))
    white = (picture == 255).all(-1)
    assert white[59, 60:90].all()  # the upper pixel of each pair
    assert white[50, 9]
    assert white[50, 49]
    assert not white[100, :59].any()
    assert white.sum() < 0.05 * white.size


def test_lines_grow_with_the_image(scene, image):
    def white_rows(factor: int) -> int:
        panoptic_map = np.kron(scene.panoptic_map, np.ones((factor, factor), np.int32))
        large = replace(scene, panoptic_map=panoptic_map, semantic_map=None)
        picture = draw_panoptic(np.kron(image, np.ones((factor, factor, 1), np.uint8)), large, labels=False)
        column = np.array(picture)[:, 75 * factor]
        return int((column[: 80 * factor] == 255).all(-1).sum())

    assert [white_rows(factor) for factor in (1, 7, 10)] == [1, 2, 3]


def test_crowds_are_hatched(image, scene):
    picture = np.array(draw_panoptic(image, scene, labels=False))
    crowd = picture[90:110, 65:85].reshape(-1, 3)
    assert len(np.unique(crowd, axis=0)) == 2
    instance = picture[50:70, 20:40].reshape(-1, 3)
    assert len(np.unique(instance, axis=0)) == 1


def test_what_scores_low_is_left_out_and_the_rest_keeps_its_colors(image, scene):
    everything = np.array(draw_panoptic(image, scene, labels=False))
    picture = np.array(draw_panoptic(image, scene, labels=False, min_score=0.6))
    assert (picture[45:55, 105:145] == 100).all()  # the car of 0.5
    assert np.array_equal(picture[45:75, 15:45], everything[45:75, 15:45])
    assert np.array_equal(picture[100:110, :50], everything[100:110, :50])  # without a score


def test_narrow_images_can_be_enlarged_first(image, scene):
    enlarged = draw_panoptic(image, scene, min_width=400)
    assert enlarged.size == (400, 300)
    for width in (160, 100):
        unchanged = draw_panoptic(image, scene, min_width=width)
        assert np.array_equal(np.array(unchanged), np.array(draw_panoptic(image, scene)))


def test_a_strip_is_enlarged_to_a_picture_of_reasonable_size():
    assert enlarge(Image.new("RGB", (10, 20)), 100).size == (100, 200)
    assert enlarge(Image.new("RGB", (1, 300)), 100).size == (2, 600)
    assert enlarge(Image.new("RGB", (1, 3000)), 100).size == (1, 3000)


def test_images_may_be_files(tmp_path, image, scene):
    Image.fromarray(image).save(tmp_path / "a.png")
    assert np.array_equal(np.array(draw_panoptic(tmp_path / "a.png", scene)), np.array(draw_panoptic(image, scene)))


def test_empty_result_leaves_the_image(image, empty):
    assert np.array_equal(np.array(draw_panoptic(image, empty)), image)


def test_unfit_arguments_are_errors(image, scene, tmp_path):
    with pytest.raises(ValueError, match=r"60 x 160 pixels.*120 x 160"):
        draw_panoptic(image[:60], scene)
    with pytest.raises(ValueError, match="`alpha`"):
        draw_panoptic(image, scene, alpha=1.5)
    with pytest.raises(ImageError, match=r"none\.png"):
        draw_panoptic(tmp_path / "none.png", scene)


def test_semantic_map_has_class_colors_and_black_void(scene):
    picture = np.array(draw_semantic(np.array([[0, 1, 255]], np.uint8), scene.categories))
    assert picture.tolist() == [[[128, 64, 128], [0, 0, 142], [0, 0, 0]]]


def test_instances_can_have_the_color_of_their_class_whatever_else_there_is(image, scene):
    colors = class_colors(scene)
    for index, segment in enumerate(scene.segments_info):
        alone = replace(scene, segments_info=[segment])
        assert (class_colors(alone)[0] == colors[index]).all()
    picture = np.array(draw_panoptic(image, scene, alpha=1, labels=False, instance_colors=False))
    for (y, x), index in {(60, 20): 0, (60, 120): 1, (100, 20): 2}.items():
        assert (picture[y, x] == colors[index]).all()
    things = [index for index, segment in enumerate(scene.segments_info) if segment.isthing and not segment.iscrowd]
    assert all(colors[index].max() >= 190 for index in things)
