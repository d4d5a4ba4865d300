"""Points go to the nearest center."""

import pytest
import torch

from panoptic_deeplab.postprocess import grouping
from panoptic_deeplab.postprocess.centers import Centers
from panoptic_deeplab.postprocess.grouping import _nearest_of_all, group_points, nearest_centers


def make_centers(*points, pad=2):
    rows = [*points, *[(torch.inf, torch.inf)] * pad]
    valid = torch.tensor([True] * len(points) + [False] * pad)
    return Centers(points=torch.tensor(rows).float().view(-1, 2), scores=valid.float(), valid=valid)


def group(points, centers, is_thing=None):
    """Index for each point `(y, x)` of a list of groups."""
    target = torch.tensor(points).float().movedim(-1, 0)
    is_thing = torch.ones(target.shape[1:], dtype=torch.bool) if is_thing is None else torch.tensor(is_thing)
    index = group_points(target, is_thing, centers)
    full = _nearest_of_all(target, centers)
    assert torch.equal(index[is_thing & (index < len(centers.valid))], full[is_thing & (index < len(centers.valid))])
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
    assert (group_points(torch.zeros(2, 4, 6), torch.ones(4, 6, dtype=torch.bool), centers) == pad).all()


def test_points_far_outside_of_the_image():
    assert group([[(-1e4, 1e6)]], make_centers((3, 0), (0, 5))) == [[1]]


def test_few_distances_are_computed_where_points_agree(monkeypatch):
    """The point of the groups: work grows with the centers near a point, not with all of them."""
    centers = make_centers(*[(y, x) for y in range(8, 256, 16) for x in range(8, 256, 16)])
    target = centers.points[:256].T[:, :, None] + torch.rand(2, 256, 100)
    elements = []
    distance = grouping._squared_distance
    monkeypatch.setattr(
        grouping, "_squared_distance", lambda a, b: elements.append(distance(a, b).numel()) or distance(a, b)
    )
    index = group_points(target, torch.ones(256, 100, dtype=torch.bool), centers)
    assert torch.equal(index, torch.arange(256, dtype=torch.int32)[:, None].expand(-1, 100))
    assert sum(elements) < 10 * 256 * 100  # of 256 * 256 * 100


@pytest.mark.parametrize("step_elements", [1, 50, 10**6])
def test_distances_of_the_two_nearest(monkeypatch, step_elements):
    monkeypatch.setattr(grouping, "_STEP_ELEMENTS", step_elements)
    target, centers = 30 * torch.rand(2, 5, 7), make_centers(*(30 * torch.rand(9, 2)).tolist())
    inside = torch.ones(5, 7, dtype=torch.bool)
    inside[2] = False
    found = nearest_centers(target, inside, centers, margin=torch.full((5, 7), 100.0))
    distances = (target[..., None] - centers.points.T[:, None, None]).square().sum(0)
    assert torch.equal(found.nearest[inside], distances.argmin(-1).int()[inside])
    assert torch.equal(found.first[inside], distances.sort(-1).values[..., 0][inside])
    assert torch.equal(found.second[inside], distances.sort(-1).values[..., 1][inside])


def test_full_comparison_in_chunks(monkeypatch):
    target = 30 * torch.rand(2, 11, 13)
    centers = make_centers(*(30 * torch.rand(9, 2)).tolist())
    whole = _nearest_of_all(target, centers)
    monkeypatch.setattr(grouping, "_CHUNK_ELEMENTS", 50)
    assert torch.equal(_nearest_of_all(target, centers), whole)
