"""Points go to the nearest center."""

import pytest
import torch

from panoptic_deeplab.postprocess import grouping
from panoptic_deeplab.postprocess.centers import Centers
from panoptic_deeplab.postprocess.grouping import group_pixels
from panoptic_deeplab.postprocess.shortcut.candidates import nearest_centers


def make_centers(*points, pad=2):
    rows = [*points, *[(torch.inf, torch.inf)] * pad]
    valid = torch.tensor([True] * len(points) + [False] * pad)
    return Centers(points=torch.tensor(rows).float().view(-1, 2), scores=valid.float(), valid=valid)


def group(points, centers, is_thing=None):
    """Index for each point `(y, x)` of some rows; few comparisons give the same."""
    target = torch.tensor(points).float().movedim(-1, 0)
    is_thing = torch.ones(target.shape[1:], dtype=torch.bool) if is_thing is None else torch.tensor(is_thing)
    index = group_pixels(target, is_thing, centers)
    assert torch.equal(nearest_centers(target, is_thing, centers).nearest[is_thing], index[is_thing])
    return index.tolist()


def test_nearest_center():
    assert group([[(0, 0), (1, 1)], [(3, 4), (2, 2)]], make_centers((0, 0), (3, 5))) == [[0, 0], [1, 0]]


def test_equal_distances_go_to_the_lower_index():
    assert group([[(0, 0), (0, 1), (0, 2)]], make_centers((0, 2), (0, 0))) == [[1, 0, 0]]


def test_points_that_are_no_things_belong_to_none():
    centers = make_centers((0, 0))
    assert group([[(0, 0), (1, 1)], [(5, 5), (6, 6)]], centers, [[True, False], [False, False]]) == [[0, 3], [3, 3]]


@pytest.mark.parametrize("pad", [0, 3])
def test_without_a_center_all_points_belong_to_none(pad):
    centers = make_centers(pad=pad)
    assert (group_pixels(torch.zeros(2, 4, 6), torch.ones(4, 6, dtype=torch.bool), centers) == pad).all()


def test_points_far_outside_of_the_image():
    assert group([[(-1e4, 1e6)]], make_centers((3, 0), (0, 5))) == [[1]]


def test_in_chunks(monkeypatch):
    target, is_thing = 30 * torch.rand(2, 11, 13), torch.rand(11, 13) < 0.8
    centers = make_centers(*(30 * torch.rand(9, 2)).tolist())
    whole = group_pixels(target, is_thing, centers)
    monkeypatch.setattr(grouping, "_CHUNK_ELEMENTS", 50)
    assert torch.equal(group_pixels(target, is_thing, centers), whole)
