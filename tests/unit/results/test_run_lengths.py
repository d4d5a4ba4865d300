"""Runs of equal pixels, and what is counted by them."""

import numpy as np
import pytest

from panoptic_deeplab.results.run_lengths import areas_and_boxes, find_runs


def test_runs_end_with_rows():
    map_ = np.array([[1, 1, 2], [2, 2, 2]])
    runs = find_runs(map_)
    assert runs.starts.tolist() == [0, 2, 3]
    assert runs.lengths.tolist() == [2, 1, 3]
    assert runs.of(map_).tolist() == [1, 2, 2]
    assert runs.spread(np.array([5, 6, 7])).tolist() == [[5, 5, 6], [7, 7, 7]]


def test_runs_end_where_any_map_changes():
    runs = find_runs(np.array([[1, 1, 1, 1]]), np.array([[0, 0, 3, 3]]), np.array([[7, 8, 8, 8]]))
    assert runs.starts.tolist() == [0, 1, 2]


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (20, 30)])
def test_spreading_is_the_inverse(size):
    map_ = np.random.default_rng(0).integers(0, 3, size)
    for view in (map_, np.flip(map_, 1), np.asfortranarray(map_)):
        runs = find_runs(view)
        assert np.array_equal(runs.spread(runs.of(view)), view)
        assert runs.lengths.sum() == map_.size


def test_areas_and_boxes_equal_a_naive_count():
    map_ = np.random.default_rng(1).integers(0, 4, (15, 11)) * np.random.default_rng(2).integers(0, 2, (15, 11))
    runs = find_runs(map_)
    areas, boxes = areas_and_boxes(runs, runs.of(map_), 5)
    for segment in (1, 2, 3):
        y, x = np.nonzero(map_ == segment)
        assert areas[segment - 1] == len(y)
        assert boxes[segment - 1].tolist() == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
    assert areas[3:].tolist() == [0, 0]
    assert boxes[3:].tolist() == [[0] * 4] * 2
