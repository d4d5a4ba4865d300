"""Colors are distinct, deterministic and readable."""

from dataclasses import replace

import numpy as np
import pytest

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.results.ids import id_to_rgb
from panoptic_deeplab.results.panoptic_result import PanopticResult
from panoptic_deeplab.visualize.colors import (
    _oklab,
    colorize,
    describe,
    paint_segments,
    readable_on,
    segment_colors,
    visible_ids,
)


def test_stuff_and_crowd_have_class_colors_and_instances_their_own(scene):
    first_car, second_car, road, crowd = segment_colors(scene).tolist()
    assert road == [128, 64, 128]
    assert crowd == [220, 20, 60]
    assert first_car != second_car
    assert first_car[2] > 150  # a lighter blue than the class color, which would hide on dark images
    assert max(first_car[:2]) < 100
    assert np.array_equal(segment_colors(scene), segment_colors(scene))


def test_many_instances_of_a_class_differ_clearly(scene):
    car = scene.segments_info[0]
    crowd_of_cars = replace(scene, segments_info=[replace(car, id=i) for i in range(1, 31)])
    colors = _oklab(segment_colors(crowd_of_cars) / 255)
    distances = np.linalg.norm(colors[:, None] - colors[None], axis=-1)[np.triu_indices(30, 1)]
    assert distances.min() > 0.06  # three times what people just notice
    assert np.linalg.norm(np.diff(colors, axis=0), axis=1).min() > 0.1


def test_neighbors_differ_where_colors_come_again(scene):
    """Two hundred cars in rows: each looks different from those around it."""
    places = [(x, y) for y in range(10) for x in range(20)]
    car = scene.segments_info[0]
    cars = [replace(car, id=n, bbox=(x * 20, y * 20, 18, 18)) for n, (x, y) in enumerate(places, start=1)]
    colors = _oklab(segment_colors(replace(scene, segments_info=cars)) / 255)
    at = np.array(places)
    apart = np.abs(at[:, None] - at[None]).max(-1)
    differences = np.linalg.norm(colors[:, None] - colors[None], axis=-1)
    assert differences[apart == 1].min() > 0.08  # four times what people just notice


def test_painting_replaces_each_id(scene):
    colors = segment_colors(scene)
    painted = paint_segments(scene, colors, void=(1, 2, 3))
    for segment, color in zip(scene.segments_info, colors, strict=True):
        assert (painted[scene.panoptic_map == segment.id] == color).all()
    assert (painted[scene.panoptic_map == 0] == (1, 2, 3)).all()


def test_painting_an_empty_result(empty):
    assert not paint_segments(empty, segment_colors(empty)).any()


def test_scale_gets_lighter_with_the_value_and_clips():
    levels = colorize(np.linspace(0, 1, 256)[None]).astype(float) @ (0.299, 0.587, 0.114)
    assert (np.diff(levels[0]) > -1).all()
    assert levels[0, 0] < 5
    assert levels[0, -1] > 220
    assert np.array_equal(colorize(np.array([[-3.0, 7.0]])), colorize(np.array([[0.0, 1.0]])))
    assert colorize(np.array([[np.nan]])).tolist() == colorize(np.array([[0.0]])).tolist()


@pytest.mark.parametrize(("color", "text"), [((255, 255, 0), 0), ((0, 0, 142), 255), ((0, 0, 0), 255)])
def test_text_is_black_on_light_and_white_on_dark(color, text):
    assert readable_on(color) == (text, text, text)


def test_descriptions(scene):
    assert [describe(s) for s in scene.segments_info] == ["car 0.91", "car 0.50", "road", "person (crowd)"]


def test_visible_ids_are_distinct_and_look_like_the_segments():
    categories = CategoryTable(
        name="t",
        categories=(
            Category(id=1, name="cell", isthing=True, color=(0, 0, 0)),
            Category(id=2, name="dark", isthing=False, color=(0, 0, 0)),
        ),
    )
    panoptic_map = np.arange(5001, dtype=np.int32).reshape(3, -1)
    result = PanopticResult.from_maps(panoptic_map, {n: 1 if n < 5000 else 2 for n in range(1, 5001)}, categories)
    ids = visible_ids(result)
    assert len(set(ids)) == 5000
    colors = id_to_rgb(np.array([ids]))[0].astype(int)
    assert colors.max(axis=1).min() >= 48
    assert np.abs(colors - np.maximum(segment_colors(result), 64)).max() < 17
