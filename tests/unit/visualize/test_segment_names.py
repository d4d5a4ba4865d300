"""Names hide no object, and are written where they tell something."""

from dataclasses import replace

import numpy as np
import pytest

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.results.panoptic_result import PanopticResult
from panoptic_deeplab.visualize.draw import draw_panoptic

STREET = CategoryTable(
    name="street",
    categories=(
        Category(id=1, name="road", isthing=False, color=(128, 64, 128)),
        Category(id=2, name="sky", isthing=False, color=(70, 130, 180)),
        Category(id=3, name="car", isthing=True, color=(0, 0, 142)),
        Category(id=4, name="person", isthing=True, color=(220, 20, 60)),
    ),
)
CELLS = CategoryTable(
    name="cells",
    categories=(
        Category(id=1, name="background", isthing=False, color=(0, 0, 0)),
        Category(id=3, name="cell", isthing=True, color=(0, 0, 142)),
    ),
)
SIZE = (240, 320)


def _result(boxes, categories=STREET, *, category=3, size=SIZE):
    """Objects on a road: id -> rows and columns."""
    panoptic_map = np.full(size, 1, np.int32)
    for number, (y0, y1, x0, x1) in enumerate(boxes, start=2):
        panoptic_map[y0:y1, x0:x1] = number
    classes = {id_: 1 if id_ == 1 else category for id_ in np.unique(panoptic_map).tolist()}
    return PanopticResult.from_maps(panoptic_map, classes, categories, scores=dict.fromkeys(classes, 0.87))


def _written(result):
    """Pixels that names have changed."""
    image = np.full((*result.size, 3), 100, np.uint8)
    return (np.array(draw_panoptic(image, result)) != np.array(draw_panoptic(image, result, labels=False))).any(-1)


def test_a_large_object_has_its_name_inside_and_stays_visible():
    result = _result([(40, 200, 60, 260)])
    written = _written(result)
    inside = result.panoptic_map == 2
    assert 0 < written[inside].mean() < 0.25
    assert written[100:140, 120:200].any()  # in the middle


def test_a_small_object_has_its_name_beside_it():
    result = _result([(100, 125, 150, 180)])
    written = _written(result)
    assert not written[result.panoptic_map == 2].any()
    near = np.zeros(SIZE, bool)
    near[70:155, 90:240] = True
    assert written[near].any()


def test_no_name_lies_on_an_object_that_it_does_not_name():
    generator = np.random.default_rng(0)
    for _ in range(5):
        boxes = [(y, y + h, x, x + w) for y, x, h, w in generator.integers((0, 0, 15, 15), (200, 280, 40, 40), (12, 4))]
        result = _result(boxes)
        written = _written(result)
        for segment in result.segments_info:
            if segment.isthing:
                assert written[result.panoptic_map == segment.id].mean() <= 0.25


def test_very_small_objects_have_no_name():
    assert _written(_result([(100, 110, 150, 160)])).sum() == _written(_result([])).sum()


def test_a_crowd_of_one_class_has_no_names():
    boxes = [(y, y + 20, x, x + 20) for y in range(10, 200, 50) for x in range(10, 300, 50)]
    assert len(boxes) == 24
    assert _written(_result(boxes)).sum() == _written(_result([])).sum()
    assert _written(_result(boxes[:8])).sum() > 3 * _written(_result([])).sum()


def test_one_thing_class_needs_no_names():
    assert not _written(_result([(40, 200, 60, 260)], CELLS)).any()


def test_a_name_of_stuff_lies_on_the_stuff():
    ring = np.full(SIZE, 1, np.int32)
    ring[60:180, 60:260] = 2
    result = PanopticResult.from_maps(ring, {1: 1, 2: 4}, STREET)
    written = _written(result)
    road = written & (ring == 1)
    assert road.any()
    assert written[ring == 2].mean() < 0.25


@pytest.mark.parametrize("size", [(9, 9), (1, 300), (40, 8)])
def test_pictures_without_room_have_no_names(size):
    result = _result([(0, 1, 0, 4)], size=size)
    assert not _written(result).any()


def test_names_of_any_length():
    table = replace(STREET, categories=(*STREET.categories[:3], replace(STREET.categories[3], name="x" * 200)))
    assert _written(_result([(40, 200, 60, 260)], table, category=4)).sum() == _written(_result([])).sum()
