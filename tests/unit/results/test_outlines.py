"""Outlines along pixel edges, against what fills them again pixel by pixel."""

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from panoptic_deeplab.results.outlines import outlines


def _area(ring):
    """Counterclockwise with y up is positive."""
    x, y = np.array(ring, float).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


def _filled(polygons, size):
    """The obvious way: a ray from a pixel inside of a part crosses its rings an odd number of times."""
    count = np.zeros(size, int)
    for polygon in polygons:
        crossings = np.zeros(size, int)
        for ring in polygon:
            for (x0, y0), (x1, y1) in pairwise(ring):
                assert (x0 == x1) != (y0 == y1), "an edge goes along the grid"
                if x0 == x1:
                    crossings[min(y0, y1) : max(y0, y1), x0:] += 1
        count += crossings % 2
    return count


@given(
    arrays(np.int32, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.sampled_from([0, 1, 1, 2, 70_000]))
)
def test_outlines_are_the_segments(panoptic_map):
    found = outlines(panoptic_map)
    assert set(found) == set(np.unique(panoptic_map).tolist()) - {0}
    for label, polygons in found.items():
        mask = panoptic_map == label
        assert (_filled(polygons, mask.shape) == mask).all(), "each pixel is in one part"
        parts, count = ndimage.label(mask)
        areas = sorted(sum(map(_area, polygon)) for polygon in polygons)
        assert areas == sorted(np.bincount(parts.ravel(), minlength=count + 1)[1:].tolist())
        for polygon in polygons:
            for number, ring in enumerate(polygon):
                assert ring[0] == ring[-1]
                assert len({tuple(point) for point in ring}) == len(ring) - 1, "no point twice"
                assert (_area(ring) < 0) == (number > 0), "holes turn the other way"
                directions = np.sign(np.diff([*ring, ring[1]], axis=0))
                assert (directions[1:] != directions[:-1]).any(axis=1).all(), "no point within a straight line"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["."], {}),
        (["#"], {1: [[[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]]}),
        (["#.", ".#"], {1: 2}),
        (["###", "#.#", "###"], {1: [2]}),
        (["#####", "#.#.#", "#####"], {1: [3]}),
        (["####", "#..#", "#.#.", "####"], {1: [2]}),  # the outside comes to the hole at a corner
        (["####.", "#..#.", "#.#..", "#####"], {1: [2]}),
        (["#####", "#...#", "#.#.#", "#...#", "#####"], {1: [2, 1]}),  # an island in the hole
    ],
)
def test_parts_holes_and_corners(rows, expected):
    found = outlines(np.array([[int(letter == "#") for letter in row.ljust(5, ".")] for row in rows]))
    for label, polygons in expected.items():
        if isinstance(polygons, int):
            assert len(found[label]) == polygons
        elif isinstance(polygons[0], int):
            assert [len(polygon) for polygon in found[label]] == polygons
        else:
            assert found[label] == polygons
    assert set(found) == set(expected)


@pytest.mark.parametrize("size", [(0, 0), (0, 4), (4, 0)])
def test_maps_without_pixels(size):
    assert outlines(np.zeros(size, np.int32)) == {}


def test_two_thousand_segments_take_seconds_at_most():
    y, x = np.mgrid[:2048, :2048] % 45 - 22
    number = (np.arange(2048) // 45)[:, None] * 46 + np.arange(2048) // 45 + 1
    panoptic_map = np.where(y * y + x * x < 19**2, number, 5000).astype(np.int32)
    start = time.process_time()
    found = outlines(panoptic_map)
    assert time.process_time() - start < 8  # measured: below one second
    assert len(found) > 2000
    assert len(found[5000][0]) > 2000
