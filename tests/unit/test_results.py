"""The container of results and the check of map against table."""

import numpy as np
import pytest

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.results import PanopticResult, Segment, check_consistency

CATEGORIES = CategoryTable(
    name="test",
    categories=(
        Category(id=7, name="road", isthing=False, color=(128, 64, 128)),
        Category(id=26, name="car", isthing=True, color=(0, 0, 142)),
    ),
)


def _segment(id_: int, *, isthing: bool, score: float | None = None) -> Segment:
    category_id, name = (26, "car") if isthing else (7, "road")
    return Segment(id=id_, category_id=category_id, name=name, isthing=isthing, area=1, bbox=(0, 0, 1, 1), score=score)


def _result(panoptic_map: list[list[int]], segments: list[Segment]) -> PanopticResult:
    return PanopticResult(panoptic_map=np.array(panoptic_map, np.int32), segments_info=segments, categories=CATEGORIES)


def test_size_is_height_before_width():
    assert _result([[1, 1, 0]], [_segment(1, isthing=False)]).size == (1, 3)


def test_masks_follow_the_order_of_segments_info():
    result = _result([[9, 0, 2]], [_segment(9, isthing=False), _segment(2, isthing=True)])
    assert result.masks().tolist() == [[[True, False, False]], [[False, False, True]]]


def test_masks_of_an_empty_result_have_no_rows():
    assert _result([[0, 0]], []).masks().shape == (0, 1, 2)


def test_instances_are_things_with_the_best_score_first():
    segments = [
        _segment(1, isthing=True, score=0.2),
        _segment(2, isthing=False, score=1.0),
        _segment(3, isthing=True),
        _segment(4, isthing=True, score=0.9),
    ]
    assert [s.id for s in _result([[1, 2, 3, 4]], segments).instances()] == [4, 1, 3]


def test_train_id_map_is_255_where_void():
    result = _result([[0, 5, 3]], [_segment(5, isthing=True), _segment(3, isthing=False)])
    train_ids = result.train_id_map()
    assert train_ids.dtype == np.uint8
    assert train_ids.tolist() == [[255, 1, 0]]


def test_consistent_map_and_table_pass():
    check_consistency(np.array([[0, 4, 2]], np.int32), [2, 4], where="a.png")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([4], r"a\.png has id 2 at \(y=0, x=2\)"),
        ([2, 4, 8], "lists id 8, but no pixel"),
        ([2, 4, 4], "lists id 4 more than once"),
    ],
)
def test_contradictions_are_errors(ids, message):
    with pytest.raises(DatasetError, match=message):
        check_consistency(np.array([[0, 4, 2]], np.int32), ids, where="a.png")
