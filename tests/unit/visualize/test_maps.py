"""Heatmaps, the color wheel and instance pictures."""

from dataclasses import replace

import numpy as np
import pytest

from panoptic_deeplab.visualize.maps import (
    color_wheel,
    draw_heatmap,
    draw_instances,
    draw_offset,
    draw_offset_legend,
    thing_pixels,
)


def _color(dy: float, dx: float) -> tuple[int, ...]:
    offset = np.array([[[dy]], [[dx]]], np.float32)
    return tuple(np.array(draw_offset(offset, max_length=1.0))[0, 0].tolist())


def test_wheel_has_pure_hues_at_the_corners_of_its_six_parts():
    wheel = color_wheel()
    assert wheel.shape == (55, 3)
    assert wheel[[0, 15, 21, 25, 36, 49]].tolist() == [
        [255, 0, 0], [255, 255, 0], [0, 255, 0], [0, 255, 255], [0, 0, 255], [255, 0, 255]
    ]  # fmt: skip
    assert (wheel.max(1) == 255).all()
    assert (wheel.min(1) == 0).all()


def test_direction_is_the_hue():
    assert _color(0, 1) == (255, 0, 0)
    red, green, blue = _color(0, -1)  # the opposite of red
    assert red == 0
    assert min(green, blue) > 150
    red, green, blue = _color(1, 0)  # down: yellow
    assert min(red, green) > 200
    assert blue == 0
    red, green, blue = _color(-1, 0)  # up: between blue and magenta
    assert blue == 255
    assert green == 0


def test_distance_is_the_saturation():
    assert _color(0, 0) == (255, 255, 255)
    green = [_color(0, length)[1] for length in (0, 0.1, 0.5, 0.9, 1)]
    assert green == sorted(green, reverse=True)
    assert len(set(green)) == 5
    assert _color(0, 5) == _color(0, 1)


def test_hues_have_no_step_at_the_end_of_the_turn():
    angles = np.linspace(-np.pi, np.pi, 721)
    offset = np.stack([np.sin(angles), np.cos(angles)])[:, None]
    colors = np.array(draw_offset(offset, max_length=1.0))[0].astype(int)
    assert np.abs(np.diff(colors, axis=0)).max() < 12


def test_mask_and_outliers():
    offset = np.zeros((2, 20, 20), np.float32)
    offset[1, :10] = 3
    offset[1, 10:] = -50
    mask = np.zeros((20, 20), bool)
    mask[:10] = True
    picture = np.array(draw_offset(offset, mask=mask))
    assert (picture[10:] == 255).all()
    assert (picture[:10] == (255, 0, 0)).all()  # the unpainted long offsets do not set the scale
    offset[1, 0, 0] = 1000
    assert (np.array(draw_offset(offset, mask=mask))[1:10] == (255, 0, 0)).all()


def test_thing_pixels_are_those_of_the_argmax(scene):
    semantic_map = np.full((120, 160), 255, np.uint8)
    semantic_map[0, 0], semantic_map[0, 1] = 1, 0  # a car, road
    assert np.argwhere(thing_pixels(replace(scene, semantic_map=semantic_map))).tolist() == [[0, 0]]
    merged = thing_pixels(replace(scene, semantic_map=None))
    assert np.array_equal(merged, np.isin(scene.panoptic_map, [3, 90, 8]))


def test_no_offsets_are_white():
    assert (np.array(draw_offset(np.zeros((2, 3, 4), np.float32))) == 255).all()


def test_legend_points_to_its_middle():
    wheel = np.array(draw_offset_legend(65))
    assert wheel.shape == (65, 65, 3)
    assert wheel[32, 0].tolist() == [255, 0, 0]  # from the left, the way to the middle leads to the right
    assert wheel[32, 32].tolist() == [255, 255, 255]
    assert wheel[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("value", [0.1, 1.0])
def test_heatmap_shows_centers_over_a_dark_image(image, value):
    heatmap = np.zeros((120, 160), np.float32)
    heatmap[30, 40] = value
    picture = np.array(draw_heatmap(image, heatmap)).astype(int)
    assert (picture[0, 0] == 50).all()
    assert np.abs(picture[30, 40] - picture[0, 0]).sum() > 25
    changed = (picture != 50).any(-1)
    assert changed.sum() == 1


def test_heatmap_clips_what_a_regression_may_give(image):
    assert (np.array(draw_heatmap(image, np.full((120, 160), -0.3))) == 50).all()
    assert np.array_equal(
        np.array(draw_heatmap(image, np.full((120, 160), 1.7))), np.array(draw_heatmap(image, np.ones((120, 160))))
    )


def test_instances_are_things_on_black(scene):
    picture = np.array(draw_instances(scene))
    assert (picture[scene.panoptic_map == 5] == 0).all()
    assert picture[60, 20].any()
    assert picture[60, 120].any()
    assert picture[60, 20].tolist() != picture[60, 120].tolist()
