"""Translation of raw segments into the labels of a `Sample`."""

import numpy as np
import pytest

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.data.labels import RawSegment, translate_labels
from panoptic_deeplab.errors import DatasetError

MERGED = CategoryTable(
    name="merged",
    categories=(
        Category(id=1, name="ground", isthing=False, color=(1, 1, 1), dataset_ids=(10, 11)),
        Category(id=2, name="animal", isthing=True, color=(2, 2, 2), dataset_ids=(20, 21)),
    ),
    void_ids=(99,),
)


def translate(rows: list[list[int]], segments: list[RawSegment]):
    return translate_labels(np.array(rows, np.int32), segments, categories=MERGED, where="street.png")


def test_stuff_of_one_merged_class_is_joined_and_things_are_not():
    rows = [[5, 5, 6, 6], [7, 8, 8, 0]]
    segments = [RawSegment(5, 10, False), RawSegment(6, 11, False), RawSegment(7, 20, False), RawSegment(8, 21, False)]
    panoptic_map, info = translate(rows, segments)
    assert panoptic_map.tolist() == [[5, 5, 5, 5], [7, 8, 8, 0]]
    assert panoptic_map.dtype == np.int32
    assert [(s.id, s.category_id, s.name, s.isthing, s.area, s.bbox) for s in info] == [
        (5, 1, "ground", False, 4, (0, 0, 4, 1)),
        (7, 2, "animal", True, 1, (0, 1, 1, 1)),
        (8, 2, "animal", True, 2, (1, 1, 2, 1)),
    ]


def test_void_ids_become_void_and_iscrowd_is_kept():
    panoptic_map, info = translate(
        [[3, 3], [4, 9]], [RawSegment(3, 99, False), RawSegment(4, 20, True), RawSegment(9, 20, False)]
    )
    assert panoptic_map.tolist() == [[0, 0], [4, 9]]
    assert [(s.id, s.iscrowd) for s in info] == [(4, True), (9, False)]


def test_crowd_stuff_stays_apart_from_other_stuff():
    panoptic_map, info = translate(
        [[3, 4, 5]], [RawSegment(3, 10, False), RawSegment(4, 10, True), RawSegment(5, 11, False)]
    )
    assert panoptic_map.tolist() == [[3, 4, 3]]
    assert [(s.id, s.iscrowd, s.area) for s in info] == [(3, False, 2), (4, True, 1)]


def test_areas_and_boxes_equal_a_naive_count():
    rng = np.random.default_rng(0)
    raw_map = rng.integers(0, 6, (17, 23)).astype(np.int32) * 70_000
    segments = [RawSegment(i * 70_000, 20, False) for i in (3, 1, 5, 2, 4)]
    panoptic_map, info = translate_labels(raw_map, segments, categories=MERGED, where="noise")
    assert (panoptic_map == raw_map).all()
    assert [s.id for s in info] == [s.id for s in segments]
    for segment in info:
        y, x = np.nonzero(raw_map == segment.id)
        assert segment.area == len(y)
        assert segment.bbox == (x.min(), y.min(), x.max() - x.min() + 1, y.max() - y.min() + 1)


def test_an_image_without_segments_is_all_void():
    panoptic_map, info = translate([[0, 0], [0, 0]], [])
    assert not panoptic_map.any()
    assert info == []


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([RawSegment(5, 10, False)], r"street.png has id 6 at \(y=0, x=1\)"),
        ([RawSegment(5, 10, False), RawSegment(6, 10, False), RawSegment(7, 20, False)], "lists id 7, but no pixel"),
        ([RawSegment(5, 10, False), RawSegment(6, 10, False), RawSegment(6, 20, False)], "lists id 6 more than once"),
        (
            [RawSegment(0, 10, False), RawSegment(5, 10, False), RawSegment(6, 10, False)],
            "lists id 0, which means void",
        ),
        ([RawSegment(5, 10, False), RawSegment(6, 55, False)], "segment 6 has category id 55.*'merged'"),
    ],
)
def test_contradictions_name_place_and_id(segments, message):
    with pytest.raises(DatasetError, match=message):
        translate([[5, 6]], segments)


def test_ids_beyond_24_bits_are_refused():
    with pytest.raises(DatasetError, match="segment ids from 16777216"):
        translate([[2**24]], [RawSegment(2**24, 10, False)])
