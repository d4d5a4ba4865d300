"""Convexity by hand, and the rule on drawn streets."""

import numpy as np
import pytest

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.data.recognize.thing_rule import convexity, shapes_by_class


def drawn(*rows: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in rows])


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (drawn("#"), 1.0),
        (drawn("####", "####"), 1.0),
        (drawn("####", "#..#", "####"), 1.0),  # a hole is filled
        (drawn("#...", "#...", "####"), 6 / 9),  # of 3 x 4, the hull leaves out a triangle of 2 x 3
        (drawn("#..#"), 0.5),  # a gap in a row is none in its columns, and the direction that fills less counts
    ],
)
def test_convexity(mask: np.ndarray, expected: float) -> None:
    assert convexity(mask) == pytest.approx(expected)
    assert convexity(mask.T) == pytest.approx(expected)


def test_a_cross_is_not_convex() -> None:
    cross = drawn(".#.", "###", ".#.")
    assert convexity(cross) == pytest.approx(5 / 7)  # 9 less four triangles of 1/2


def test_shapes_are_those_of_the_scenes() -> None:
    scenes = SyntheticSource(6, seed=1, size=(96, 160))
    shapes = shapes_by_class(scenes)
    assert list(shapes) == [category.name for category in CategoryTable.load("synthetic").categories]
    assert shapes["road"].images == 6
    assert shapes["road"].objects_an_image == 1
    assert not shapes["road"].isthing
    counts = [sum(s.name == "car" for s in scenes[i].segments_info) for i in range(6)]
    assert len(shapes["car"].convexities) == sum(counts)
    assert all(0 < value <= 1 for shape in shapes.values() for value in shape.convexities)
