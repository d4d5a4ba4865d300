"""Pages of pictures, and the picture of errors."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from panoptic_deeplab.config import InputConfig
from panoptic_deeplab.maps import Targets
from panoptic_deeplab.visualize.draw import draw_panoptic
from panoptic_deeplab.visualize.mosaic import ERROR_COLORS, MosaicRow, draw_errors, draw_mosaic, draw_train_batch, tile


def _names(picture: Image.Image) -> np.ndarray:
    """Which of the error colors each pixel has."""
    pixels = np.array(picture)
    names = np.full(pixels.shape[:2], "?", dtype="<U20")
    for name, color in ERROR_COLORS.items():
        names[(pixels == color).all(-1)] = name
    assert (names != "?").all()
    return names


def test_perfect_prediction_has_no_error(scene):
    names = _names(draw_errors(scene, scene))
    assert (names[scene.panoptic_map == 0] == "not labeled").all()
    assert (names[scene.panoptic_map != 0] == "correct").all()


def test_each_kind_of_error_is_shown(scene):
    prediction_map = scene.panoptic_map.copy()
    prediction_map[40:80, 10:50] = 0  # a car left void
    prediction_map[40:80, 100:150] = np.where(np.arange(50) < 25, 90, 91)  # a car split in halves
    car = scene.segments_info[1]
    segments = [car, replace(car, id=91), *scene.segments_info[2:]]
    prediction = replace(scene, panoptic_map=prediction_map, segments_info=segments)
    names = _names(draw_errors(prediction, scene))
    assert (names[60:80, 10:50] == "left void").all()
    assert (names[60:80, 100:150] == "wrong instance").all()
    assert (names[85:115, 60:90] == "correct").all()

    person = [replace(s, category_id=24, name="person") if s.id == 3 else s for s in scene.segments_info]
    names = _names(draw_errors(replace(scene, segments_info=person), scene))
    assert (names[60:80, 10:50] == "wrong class").all()
    assert (names[60:80, 100:150] == "correct").all()


def test_void_of_the_truth_does_not_spoil_a_match(scene):
    truth_map = scene.panoptic_map.copy()
    truth_map[55:80, 10:50] = 0  # only 15 of 40 rows of the car are labeled, all of them found
    names = _names(draw_errors(scene, replace(scene, panoptic_map=truth_map)))
    assert (names[40:55, 10:50] == "correct").all()


def test_crowds_and_stuff_need_only_the_class(scene):
    thing = [replace(s, iscrowd=False) for s in scene.segments_info]
    prediction_map = scene.panoptic_map.copy()
    prediction_map[85:115, 60:90] = np.where(np.arange(30) < 10, 8, np.where(np.arange(30) < 20, 81, 82))
    segments = [*thing, replace(thing[3], id=81), replace(thing[3], id=82)]
    prediction = replace(scene, panoptic_map=prediction_map, segments_info=segments)
    assert (_names(draw_errors(prediction, scene))[85:115, 60:90] == "correct").all()
    not_crowd = replace(scene, segments_info=thing)
    assert (_names(draw_errors(prediction, not_crowd))[85:115, 60:90] == "wrong instance").all()


def test_empty_prediction_and_empty_truth(scene, empty):
    assert "correct" not in _names(draw_errors(empty, scene))
    assert (_names(draw_errors(scene, empty)) == "not labeled").all()


def test_mosaic_has_a_row_an_image_and_four_columns(image, scene, empty):
    rows = [
        MosaicRow(title="first", image=image, truth=scene, prediction=empty),
        MosaicRow(title="no labels", image=image, prediction=scene),
    ]
    page = draw_mosaic(rows, cell_width=160)
    assert page.width == 4 * 166 + 6
    assert page.height == 22 + 2 * (120 + 22 + 6) + 22
    pixels = np.array(page)
    assert (pixels[44:164, 6:166] == 100).all()
    assert (pixels[200:300, 172:332] == 250).all()  # no truth, an empty cell
    assert np.array_equal(pixels[44:164, 504:664], np.array(draw_errors(empty, scene)))


def test_small_images_are_enlarged_before_names_are_written(image, scene):
    page = np.array(draw_mosaic([MosaicRow(title="a", image=image, truth=scene, prediction=scene)], cell_width=480))
    expected = draw_panoptic(np.kron(image, np.ones((3, 3, 1), np.uint8)), scene.resized((360, 480)))
    for left in (6 + 486, 6 + 2 * 486):
        assert np.array_equal(page[44 : 44 + 360, left : left + 480], np.array(expected))


def test_pictures_are_scaled_to_the_cell():
    large, small = Image.new("RGB", (400, 100), (9, 9, 9)), Image.new("RGB", (10, 30), (200, 0, 0))
    page = np.array(tile([("a", [large, small])], columns=("large", "small"), cell_width=100))
    assert ((page == 9).all(-1)).sum() == 100 * 25
    assert ((page == (200, 0, 0)).all(-1)).sum() == 100 * 300


def test_a_title_stays_on_its_line():
    page = np.array(tile([("a\nb\nc", [Image.new("RGB", (60, 60))])], columns=("x",), cell_width=60))
    assert (page[44:104, 6:66] == 0).all()


def test_nothing_to_show_is_an_error():
    with pytest.raises(ValueError, match="at least one row"):
        draw_mosaic([])


def test_train_batch_shows_the_image_as_it_was_before_normalization(scene):
    config = InputConfig()
    images = torch.full((3, 3, 120, 160), 100 / 255)
    images = (images - torch.tensor(config.pixel_mean)[:, None, None]) / torch.tensor(config.pixel_std)[:, None, None]
    semantic = torch.from_numpy(scene.semantic_map).repeat(3, 1, 1)
    plane = torch.zeros(3, 120, 160)
    offset = torch.full((3, 2, 120, 160), 5.0)
    weight = torch.from_numpy(scene.panoptic_map == 3).float().repeat(3, 1, 1)
    heatmap = plane.clone()
    heatmap[:, 60, 30] = 1
    targets = Targets(semantic, heatmap, offset, plane + 1, plane + 1, weight)
    page = draw_train_batch(
        images, targets, categories=scene.categories, input_config=config, max_images=2, cell_width=160
    )
    pixels = np.array(page)
    assert page.height == 22 + 2 * (120 + 22 + 6) + 44
    assert (pixels[44:164, 6:166] == 100).all()
    assert len(np.unique(pixels[-42:-2, 6:46].reshape(-1, 3), axis=0)) > 100  # the wheel
    assert pixels[44 + 100, 172 + 20].tolist() == [128, 64, 128]
    assert pixels[44 + 60, 338 + 30].tolist() == [252, 255, 164]
    assert pixels[44 + 60, 504 + 30].min() == 0  # offset inside of the supervised car
    assert pixels[44 + 60, 504 + 120].tolist() == [255, 255, 255]
