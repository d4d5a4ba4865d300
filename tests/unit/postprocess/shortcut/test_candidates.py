"""Few comparisons find the nearest center; `test_grouping.py` and the property tests compare with all distances."""

import pytest
import torch

from panoptic_deeplab.postprocess.centers import Centers
from panoptic_deeplab.postprocess.shortcut import candidates
from panoptic_deeplab.postprocess.shortcut.candidates import nearest_centers


def make_centers(points):
    valid = torch.arange(len(points) + 2) < len(points)
    points = torch.cat([points, torch.full((2, 2), torch.inf)])
    return Centers(points=points, scores=valid.float(), valid=valid)


def test_few_distances_are_computed_where_points_agree(monkeypatch):
    """The point of the groups: work grows with the centers near a point, not with all of them."""
    points = torch.tensor([(y, x) for y in range(8, 256, 16) for x in range(8, 256, 16)]).float()
    target = points.T[:, :, None] + torch.rand(2, 256, 100)
    elements = []
    distance = candidates.squared_distance
    monkeypatch.setattr(
        candidates, "squared_distance", lambda a, b: elements.append(distance(a, b).numel()) or distance(a, b)
    )
    found = nearest_centers(target, torch.ones(256, 100, dtype=torch.bool), make_centers(points))
    assert torch.equal(found.nearest, torch.arange(256, dtype=torch.int32)[:, None].expand(-1, 100))
    assert sum(elements) < 10 * 256 * 100  # of 256 * 256 * 100


@pytest.mark.parametrize("step_elements", [1, 50, 10**6])
def test_distances_of_the_two_nearest(monkeypatch, step_elements):
    monkeypatch.setattr(candidates, "_STEP_ELEMENTS", step_elements)
    target, centers = 30 * torch.rand(2, 5, 7), make_centers(30 * torch.rand(9, 2))
    inside = torch.ones(5, 7, dtype=torch.bool)
    inside[2] = False
    found = nearest_centers(target, inside, centers, margin=torch.full((5, 7), 100.0))
    distances = (target[..., None] - centers.points.T[:, None, None]).square().sum(0)
    assert torch.equal(found.nearest[inside], distances.argmin(-1).int()[inside])
    assert torch.equal(found.first[inside], distances.sort(-1).values[..., 0][inside])
    assert torch.equal(found.second[inside], distances.sort(-1).values[..., 1][inside])
