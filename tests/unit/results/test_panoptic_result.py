"""The container of results, its form at other sizes, and the check of map against table."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment
from panoptic_deeplab.results.places import check_consistency, segment_index

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


def test_segment_index_is_the_place_in_segments_info():
    result = _result([[0, 2**24 - 1, 3], [3, 0, 0]], [_segment(2**24 - 1, isthing=True), _segment(3, isthing=False)])
    assert result.segment_index().tolist() == [[0, 1, 2], [2, 0, 0]]
    assert _result([[0, 0]], []).segment_index().tolist() == [[0, 0]]


@pytest.mark.parametrize("id_", [4, 6, 2**24 - 1])
@pytest.mark.parametrize("use", [PanopticResult.segment_index, PanopticResult.train_id_map])
def test_pixels_of_unlisted_segments_are_errors_not_other_segments(id_, use):
    with pytest.raises(DatasetError, match=rf"has id {id_} at \(y=0, x=2\)"):
        use(_result([[0, 5, id_]], [_segment(5, isthing=True)]))


@pytest.mark.parametrize(
    ("panoptic_map", "ids", "message"),
    [
        ([[-1, 0]], [], "a.png has segment ids from -1 to 0"),
        ([[0, 2**24]], [2**24], "a.png has segment ids from 0 to 16777216"),
        ([[0, 1]], [1, 0], "a.png: segments_info lists id 0. Expected 1 to"),
        ([[0, 1]], [1, 1], "a.png: segments_info lists id 1 more than once"),
    ],
)
def test_segment_index_of_impossible_ids(panoptic_map, ids, message):
    with pytest.raises(DatasetError, match=message):
        segment_index(np.array(panoptic_map, np.int32), ids, where="a.png")


def _measured(panoptic_map: np.ndarray) -> PanopticResult:
    """With right areas and boxes, the largest id first."""
    segments = []
    for id_ in (int(i) for i in np.unique(panoptic_map)[::-1] if i):
        y, x = np.nonzero(panoptic_map == id_)
        box = (int(x.min()), int(y.min()), int(np.ptp(x)) + 1, int(np.ptp(y)) + 1)
        segments.append(
            Segment(id=id_, category_id=26, name="car", isthing=True, area=len(y), bbox=box, score=id_ / 100)
        )
    semantic_map = np.where(panoptic_map > 0, 1, 255).astype(np.uint8)
    return PanopticResult(
        panoptic_map=panoptic_map, segments_info=segments, categories=CATEGORIES, semantic_map=semantic_map
    )


@pytest.mark.parametrize("size", [(7, 5), (26, 34), (13, 17), (40, 9), (1, 1), (100, 100)])
def test_resized_maps_equal_torch_nearest_exact_and_segments_a_plain_count(size):
    panoptic_map = np.random.default_rng(0).integers(0, 6, (13, 17)).astype(np.int32) * 7
    resized = _measured(panoptic_map).resized(size)
    expected = F.interpolate(torch.from_numpy(panoptic_map).float()[None, None], size, mode="nearest-exact")
    assert np.array_equal(resized.panoptic_map, expected[0, 0].numpy())
    assert resized.panoptic_map.dtype == np.int32
    assert np.array_equal(resized.semantic_map == 1, resized.panoptic_map > 0)
    check_consistency(resized.panoptic_map, [s.id for s in resized.segments_info], where="test")
    assert resized.segments_info == _measured(resized.panoptic_map).segments_info


def test_segments_that_resizing_loses_leave_the_table():
    panoptic_map = np.full((8, 8), 3, np.int32)
    panoptic_map[0, 0] = 5
    assert [s.id for s in _measured(panoptic_map).resized((4, 4)).segments_info] == [3]


def test_resizing_to_the_same_size_gives_the_same_result():
    result = _measured(np.ones((3, 4), np.int32))
    assert result.resized((3, 4)) is result


@pytest.mark.parametrize(("before", "after"), [((4, 4), (0, 4)), ((4, 4), (3, -1)), ((0, 0), (4, 4))])
def test_sizes_without_pixels_are_refused(before, after):
    table = CategoryTable(name="t", categories=(Category(id=1, name="car", isthing=True, color=(0, 0, 0)),))
    result = PanopticResult(panoptic_map=np.zeros(before, np.int32), segments_info=[], categories=table)
    result.check()
    with pytest.raises(DatasetError, match="Expected positive sizes"):
        result.resized(after)


def test_resizing_a_result_without_segments():
    resized = _measured(np.zeros((3, 4), np.int32)).resized((6, 8))
    assert resized.segments_info == []
    assert resized.size == (6, 8)


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


GOOD = {"id": 4, "category_id": 26, "name": "car", "isthing": True, "area": 2, "bbox": (1, 0, 1, 2)}


UNTYPED = """
import numpy as np
from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment
GOOD = {good}
table = CategoryTable(name="t", categories=(Category(id=26, name="car", isthing=True, color=(0, 0, 0)),))
map_ = np.array([[0, 4], [0, 4]], np.int32)
def refused(map_, *segments):
    try:
        PanopticResult(panoptic_map=map_, segments_info=list(segments), categories=table)
    except DatasetError as error:
        print(error)
for change in (
    dict(id=4.5), dict(id="4"), dict(category_id=None), dict(area=1.5), dict(bbox=(1, 0, 1)), dict(bbox=None),
    dict(score=float("nan")), dict(score="high"),
):
    refused(map_, Segment(**GOOD | change))
refused(map_, GOOD)
refused(map_, None)
refused(map_, Segment(**GOOD), Segment(**GOOD))
refused(map_.tolist())
refused(map_ / 2)
for semantic in (map_.astype(np.int64), np.zeros((3, 3), np.uint8), "x"):
    try:
        PanopticResult(panoptic_map=map_, segments_info=[], categories=table, semantic_map=semantic)
    except DatasetError as error:
        print(error)
for no_table in (None, "coco", [], CategoryTable):
    try:
        PanopticResult(panoptic_map=map_, segments_info=[], categories=no_table)
    except DatasetError as error:
        print(error)
"""


def test_what_is_no_segment_or_map_is_refused_at_once():
    """In a process without the type checks of the tests, as users have it."""
    code = UNTYPED.format(good=repr(GOOD))
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert ["Expected whole numbers, four of them in the bbox" in line for line in lines[:6]] == [True] * 6
    assert lines[6].startswith("Segment 4 has the score nan.")
    assert lines[7].startswith("Segment 4 has the score 'high'.")
    assert "holds a dict. Expected objects of the class `Segment`" in lines[8]
    assert "holds a NoneType" in lines[9]
    assert "lists id 4 more than once" in lines[10]
    assert [line.startswith("`panoptic_map` of a PanopticResult must be") for line in lines[11:13]] == [True] * 2
    assert [line.startswith("`semantic_map` of a PanopticResult must be") for line in lines[13:16]] == [True] * 3
    assert [line.startswith("`categories` of a PanopticResult must be") for line in lines[16:]] == [True] * 4


@pytest.mark.parametrize("beyond", [2, 254])
def test_a_check_finds_train_ids_that_the_table_lacks(beyond):
    def result(train_id: int) -> PanopticResult:
        semantic_map = np.array([[0, train_id], [1, 255]], np.uint8)
        return PanopticResult(
            panoptic_map=np.zeros((2, 2), np.int32), segments_info=[], categories=CATEGORIES, semantic_map=semantic_map
        )

    result(1).check()
    with pytest.raises(DatasetError, match=rf"a\.png: semantic_map has the train id {beyond}, but .* 2 classes"):
        result(beyond).check(where="a.png")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"area": 3}, r"a\.png: .* segment 4 \(car\) has 3 pixels, but the map has 2"),
        ({"id": 5}, r"a\.png has id 4 at \(y=0, x=1\)"),
        ({"id": 2**70}, r"a\.png: segments_info lists an id of more than 64 bits"),
        ({"category_id": 9}, r"a\.png: segment 4 has category_id 9, which the category table 'test' lacks"),
        ({"bbox": (1, 0, 2, 2)}, r"a\.png: segment 4 \(car\) has the bbox .* leaves the map of 2 x 2 pixels"),
        ({"bbox": (1, 0, 0, 2)}, "leaves the map"),
        ({"bbox": (-1, 0, 1, 1)}, "leaves the map"),
    ],
)
def test_a_check_finds_segments_that_are_not_those_of_the_map(change, message):
    panoptic_map = [[0, 4], [0, 4]]
    _result(panoptic_map, [Segment(**GOOD)]).check()
    with pytest.raises(DatasetError, match=message):
        _result(panoptic_map, [Segment(**(GOOD | change))]).check(where="a.png")
    with pytest.raises(DatasetError, match="lists id 7, but no pixel"):
        _result(panoptic_map, [Segment(**GOOD), Segment(**(GOOD | {"id": 7, "area": 0}))]).check()


class TestFromMaps:
    MAP = np.array([[0, 5, 5], [9, 5, 9]], np.uint8)

    def test_areas_boxes_and_names_are_computed(self) -> None:
        table = CategoryTable.load("synthetic")
        result = PanopticResult.from_maps(self.MAP, {9: 8, 5: 1}, table, crowd=[9], scores={5: 0.5})
        result.check()
        assert result.panoptic_map.dtype == np.int32
        car, road = result.segments_info
        assert (car.id, car.name, car.isthing, car.iscrowd, car.score) == (9, "car", True, True, None)
        assert (car.area, car.bbox) == (2, (0, 1, 3, 1))
        assert (road.category_id, road.area, road.bbox, road.score) == (1, 3, (1, 0, 2, 2), 0.5)

    @pytest.mark.parametrize(
        ("category_ids", "more", "said"),
        [
            ({5: 1}, {}, r"id 9 at \(y=1, x=0\)"),
            ({5: 1, 9: 8, 7: 8}, {}, "id 7, but no pixel"),
            ({5: 1, 9: 80}, {}, "segment 9 has category_id 80, which the category table"),
            ({5: 1, 9: 1}, {}, "segments 5 and 9 of the stuff class 'road'"),
            ({5: 1, 9: 8}, {"crowd": [5]}, "`crowd` names segment 5"),
            ({5: 1, 9: 8}, {"scores": {4: 0.1}}, "`scores` names segment 4"),
            ({5: 1, 9: 8}, {"scores": {9: float("nan")}}, "score nan"),
            ({0: 1, 5: 1, 9: 8}, {}, "lists id 0"),
        ],
    )
    def test_inconsistent_segments_are_refused(self, category_ids: Any, more: Any, said: str) -> None:
        with pytest.raises(DatasetError, match=said):
            PanopticResult.from_maps(self.MAP, category_ids, CategoryTable.load("synthetic"), **more)


def test_weak_things_become_void():
    weak, strong = _segment(1, isthing=True, score=0.2), _segment(2, isthing=True, score=0.5)
    stuff, unscored = _segment(3, isthing=False, score=0.1), _segment(4, isthing=True)
    result = _result([[1, 2], [3, 4]], [weak, strong, stuff, unscored])
    kept = result.without_weak_things(0.5)
    assert kept.panoptic_map.tolist() == [[0, 2], [3, 4]]
    assert kept.segments_info == [strong, stuff, unscored]
    assert result.without_weak_things(0.2) is result
