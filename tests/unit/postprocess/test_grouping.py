"""Pixels go to the nearest center of where they point."""

import pytest
import torch

from panoptic_deeplab.postprocess import grouping
from panoptic_deeplab.postprocess.centers import Centers
from panoptic_deeplab.postprocess.grouping import _nearest_by_tiles, _nearest_of_all, group_pixels


def make_centers(*points, pad=2):
    rows = [*points, *[(torch.inf, torch.inf)] * pad]
    valid = torch.tensor([True] * len(points) + [False] * pad)
    return Centers(points=torch.tensor(rows).float().view(-1, 2), scores=valid.float(), valid=valid)


def everywhere(height=4, width=6):
    return torch.ones(height, width, dtype=torch.bool)


def test_nearest_center_without_offset():
    index = group_pixels(torch.zeros(2, 4, 6), everywhere(), make_centers((0, 0), (3, 5)))
    assert index[0, :2].tolist() == [0, 0]
    assert index[3, 4:].tolist() == [1, 1]


def test_offset_is_dy_dx_towards_the_center():
    offset = torch.zeros(2, 4, 6)
    offset[:, 0, 0] = torch.tensor([3.0, 5.0])
    index = group_pixels(offset, everywhere(), make_centers((0, 0), (3, 5)))
    assert index[0, 0] == 1
    assert index[0, 1] == 0


def test_equal_distances_go_to_the_lower_index():
    index = group_pixels(torch.zeros(2, 1, 3), everywhere(1, 3), make_centers((0, 2), (0, 0)))
    assert index.tolist() == [[1, 0, 0]]


def test_pixels_that_are_no_things_belong_to_none():
    is_thing = everywhere()
    is_thing[1] = False
    index = group_pixels(torch.zeros(2, 4, 6), is_thing, make_centers((0, 0)))
    assert (index[1] == 3).all()
    assert (index[[0, 2, 3]] == 0).all()


@pytest.mark.parametrize("pad", [0, 3])
def test_without_a_center_all_pixels_belong_to_none(pad):
    assert (group_pixels(torch.zeros(2, 4, 6), everywhere(), make_centers(pad=pad)) == pad).all()


def test_points_far_outside_of_the_image():
    offset = torch.tensor([-1e4, 1e6]).view(2, 1, 1).expand(2, 4, 6)
    index = group_pixels(offset, everywhere(), make_centers((3, 0), (0, 5)))
    assert (index == 1).all()


def test_block_of_rows_keeps_the_coordinates_of_the_image():
    offset, centers = torch.zeros(2, 40, 6), make_centers((0, 0), (39, 5))
    whole = group_pixels(offset, everywhere(40), centers)
    part = group_pixels(offset[:, 18:25], everywhere(7), centers, first_row=18)
    assert torch.equal(part, whole[18:25])
    assert part.unique().tolist() == [0, 1]


def test_few_distances_are_computed_where_pixels_agree(monkeypatch):
    """The point of the tiles: work grows with the centers near a pixel, not with all of them."""
    points = [(y, x) for y in range(8, 256, 16) for x in range(8, 256, 16)]
    y, x = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    offset = torch.stack([y // 16 * 16 + 8 - y, x // 16 * 16 + 8 - x]).float()
    elements = []
    distance = grouping._squared_distance
    monkeypatch.setattr(
        grouping, "_squared_distance", lambda a, b: elements.append(distance(a, b).numel()) or distance(a, b)
    )
    index = group_pixels(offset, everywhere(256, 256), make_centers(*points))
    assert torch.equal(index, (y // 16 * 16 + x // 16).int())
    assert sum(elements) < 16 * 256 * 256  # of 256 * 256 * 256


def test_full_comparison_in_chunks(monkeypatch):
    target = 30 * torch.rand(2, 11, 13)
    centers = make_centers(*(30 * torch.rand(9, 2)).tolist())
    whole = _nearest_of_all(target, centers)
    monkeypatch.setattr(grouping, "_CHUNK_ELEMENTS", 50)
    assert torch.equal(_nearest_of_all(target, centers), whole)
    assert torch.equal(_nearest_by_tiles(target, everywhere(11, 13), centers), whole)
