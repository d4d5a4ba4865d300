"""Results at another size keep map and table in agreement."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.inference.resizing import measure_segments, resize_result
from panoptic_deeplab.results import PanopticResult, Segment, check_consistency

CATEGORIES = CategoryTable(name="test", categories=(Category(id=1, name="cell", isthing=True, color=(9, 9, 9)),))


def _result(panoptic_map: np.ndarray) -> PanopticResult:
    ids = [int(i) for i in np.unique(panoptic_map) if i][::-1]
    areas, boxes = measure_segments(panoptic_map, np.array(ids, np.int64))
    segments = [
        Segment(id=i, category_id=1, name="cell", isthing=True, area=int(a), bbox=tuple(b), score=i / 100)
        for i, a, b in zip(ids, areas, boxes.tolist(), strict=True)
    ]
    return PanopticResult(
        panoptic_map=panoptic_map,
        segments_info=segments,
        categories=CATEGORIES,
        semantic_map=np.where(panoptic_map > 0, 0, 255).astype(np.uint8),
    )


@pytest.mark.parametrize("size", [(7, 5), (26, 34), (13, 17), (40, 9), (1, 1), (100, 100)])
def test_maps_equal_torch_nearest_exact_and_segments_equal_a_plain_count(size):
    panoptic_map = np.random.default_rng(0).integers(0, 6, (13, 17)).astype(np.int32) * 7
    resized = resize_result(_result(panoptic_map), size)
    expected = F.interpolate(torch.from_numpy(panoptic_map).float()[None, None], size, mode="nearest-exact")
    assert np.array_equal(resized.panoptic_map, expected[0, 0].numpy())
    assert np.array_equal(resized.semantic_map == 0, resized.panoptic_map > 0)
    check_consistency(resized.panoptic_map, [s.id for s in resized.segments_info], where="test")
    for segment in resized.segments_info:
        y, x = np.nonzero(resized.panoptic_map == segment.id)
        assert segment.area == len(y)
        assert segment.bbox == (x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1)
        assert segment.score == segment.id / 100


def test_lost_segments_leave_the_table():
    panoptic_map = np.full((8, 8), 3, np.int32)
    panoptic_map[0, 0] = 5
    assert [s.id for s in resize_result(_result(panoptic_map), (4, 4)).segments_info] == [3]


def test_equal_size_is_the_same_result():
    result = _result(np.ones((3, 4), np.int32))
    assert resize_result(result, (3, 4)) is result


def test_void_only():
    resized = resize_result(_result(np.zeros((3, 4), np.int32)), (6, 8))
    assert resized.segments_info == []
    assert resized.size == (6, 8)


def test_measured_ids_may_come_in_any_order_and_be_absent():
    areas, boxes = measure_segments(np.array([[0, 9, 9], [4, 0, 9]], np.int32), np.array([9, 2, 4]))
    assert areas.tolist() == [3, 0, 1]
    assert boxes.tolist() == [[1, 0, 2, 2], [0, 0, 0, 0], [0, 1, 1, 1]]
