"""Polygons and masks in one map: hand-written maps for each rule and quirk."""

import numpy as np
import pytest

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.data.formats.common.shapes import Patch, Shape, mask_patch, paint, polygon_fault, polygon_patch
from panoptic_deeplab.data.labels import RawSegment

CATEGORIES = CategoryTable(
    name="shapes",
    categories=(
        Category(id=0, name="thing", isthing=True, color=(255, 0, 0)),
        Category(id=7, name="stuff", isthing=False, color=(0, 255, 0)),
        Category(id=9, name="rest", isthing=False, color=(0, 0, 255)),
    ),
    void_ids=(255,),
)


def patch(text: str) -> Patch:
    return mask_patch(np.array([[letter == "x" for letter in row] for row in text.split()]))


# The strip is the larger one, comes last, and has the smaller z.
SMALL = Shape(patch(".xx. .xx. ...."), 0, z=2, place="annotations[0]")
STRIP = Shape(patch(".... xxxx xxxx"), 7, z=1, place="annotations[1]")


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        ("smallest", [[0, 1, 1, 0], [2, 1, 1, 2], [2, 2, 2, 2]]),
        ("file", [[0, 1, 1, 0], [2, 2, 2, 2], [2, 2, 2, 2]]),
        ("z_order", [[0, 1, 1, 0], [2, 1, 1, 2], [2, 2, 2, 2]]),
    ],
)
def test_the_overlap_rule_says_who_is_on_top(overlap: str, expected: list[list[int]]) -> None:
    painted = paint([SMALL, STRIP], (3, 4), overlap=overlap, categories=CATEGORIES)  # type: ignore[arg-type]
    np.testing.assert_array_equal(painted.raw_map, expected)
    assert painted.segments == [RawSegment(1, 0, False), RawSegment(2, 7, False)]
    assert (painted.overlapping, painted.empty, painted.hidden) == (2, [], [])


def test_where_sizes_and_z_are_equal_the_later_one_is_on_top() -> None:
    first, second = Shape(patch("xx. ..."), 0, place="a"), Shape(patch(".xx ..."), 0, place="b")
    for overlap in ("smallest", "file", "z_order"):
        painted = paint([first, second], (2, 3), overlap=overlap, categories=CATEGORIES)
        np.testing.assert_array_equal(painted.raw_map, [[1, 2, 2], [0, 0, 0]])


def test_what_is_not_seen_is_told_and_no_segment() -> None:
    outside = Shape(patch("... ..."), 0, place="a")
    covered = Shape(patch(".x. ..."), 0, place="b")
    above = Shape(patch("xxx ..."), 7, iscrowd=True, place="c")
    painted = paint([outside, covered, above], (2, 3), overlap="file", categories=CATEGORIES)
    np.testing.assert_array_equal(painted.raw_map, [[3, 3, 3], [0, 0, 0]])
    assert painted.segments == [RawSegment(3, 7, True)]
    assert (painted.overlapping, painted.empty, painted.hidden) == (1, ["a"], ["b"])


def test_three_annotations_of_a_pixel_count_once() -> None:
    same = [Shape(patch("x."), 0)] * 3
    assert paint(same, (1, 2), overlap="file", categories=CATEGORIES).overlapping == 1


def test_what_nobody_annotated_has_the_class_that_the_table_names() -> None:
    table = CategoryTable(name="shapes", categories=CATEGORIES.categories, unlabeled="rest")
    painted = paint([SMALL], (3, 4), overlap="smallest", categories=table)
    np.testing.assert_array_equal(painted.raw_map, [[2, 1, 1, 2], [2, 1, 1, 2], [2, 2, 2, 2]])
    assert painted.segments == [RawSegment(1, 0, False), RawSegment(2, 9, False)]
    full = paint([Shape(patch("xx"), 0)], (1, 2), overlap="smallest", categories=table)
    assert full.segments == [RawSegment(1, 0, False)]


def test_a_semantic_map_lies_beneath_all_annotations() -> None:
    semantic = np.array([[7, 7, 7, 7], [255, 0, 0, 0]], np.int32)  # things that nobody separated are crowd
    table = CategoryTable(name="shapes", categories=CATEGORIES.categories, void_ids=(255,), unlabeled="rest")
    painted = paint([Shape(patch(".x.. .x.."), 0)], (2, 4), overlap="smallest", categories=table, semantic=semantic)
    np.testing.assert_array_equal(painted.raw_map, [[3, 1, 3, 3], [4, 1, 2, 2]])
    assert painted.segments == [
        RawSegment(1, 0, False), RawSegment(2, 0, True), RawSegment(3, 7, False), RawSegment(4, 255, False)
    ]  # fmt: skip


def test_parts_are_united_and_cut_at_the_edge() -> None:
    pytest.importorskip("pycocotools")
    parts = [
        np.array(corners, float) for corners in ([(0, 0), (2, 0), (2, 1), (0, 1)], [(3, 1), (9, 1), (9, 9), (3, 9)])
    ]
    assert polygon_patch(parts, (3, 5)).mask.astype(int).tolist() == [
        [1, 1, 0, 0, 0],
        [0, 0, 0, 1, 1],
        [0, 0, 0, 1, 1],
    ]
    y, x, mask = polygon_patch(parts[1:], (3, 5))
    assert (y, x, mask.all(), mask.shape) == (1, 3, True, (2, 2))


@pytest.mark.parametrize(
    "corners", [[(9, 0), (12, 0), (12, 2)], [(-9, -9), (-2, -9), (-2, -2)], [(1, 1), (1, 2), (1, 1)]]
)
def test_a_polygon_outside_of_the_image_has_no_pixel(corners: list[tuple[float, float]]) -> None:
    pytest.importorskip("pycocotools")
    assert not polygon_patch([np.array(corners, float)], (3, 5)).mask.any()
    assert not polygon_patch([], (3, 5)).mask.any()


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("1,2,3", "has a polygon that is no list of numbers, but '1,2,3'"),
        ([1, 2, "3", 4, 5, 6], "no list of numbers"),
        ([1, 2, True, 4, 5, 6], "no list of numbers"),
        ([1, 2, 3, 4], "has a polygon of 4 numbers"),
        ([1, 2, 3, 4, 5, 6, 7], "has a polygon of 7 numbers"),
        ([0, 0, 1e12, 0, 0, 9], "whose outline is 2e"),
        ([0, 0, float("nan"), 0, 0, 9], "whose outline is nan pixels"),
        ([0, 0, 10**400, 0, 0, 9], "whose outline is nan pixels"),
    ],
)
def test_faults_of_polygons(part: object, message: str) -> None:
    assert message in str(polygon_fault(part))
    assert polygon_fault([0, 0, 1.5, 0, 0, 2]) is None
