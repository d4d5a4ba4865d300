"""Which center each thing pixel belongs to: the one nearest to where its offset points (section 3.2).

    k(i, j) = argmin_k || C_k - ((i, j) + O(i, j)) ||^2

The answer is exactly that of this formula in float32, ties to the lower center index, but a K x H x W array of
distances is never built. Cost: CPU, about (candidate centers of a tile) x pixels, a handful instead of K on trained
networks and K at worst; other devices, K x pixels in chunks, without any synchronization with the host.

Dimension letters: `K` centers, `H W` any block of rows of the network input, `T P` its tiles and their pixels.
"""

import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor
from torch.nn import functional as F

from panoptic_deeplab.postprocess.centers import Centers

_TILE = (16, 32)
"""Height and width of the tiles for which candidate centers are listed, in pixels."""

_CHUNK_ELEMENTS = 2**24
"""Distances held at once where all centers are compared."""


def group_pixels(
    offset: Float[Tensor, "2 H W"], is_thing: Bool[Tensor, "H W"], centers: Centers, *, first_row: int = 0
) -> Int32[Tensor, "H W"]:
    """Assign pixels to centers.

    Args:
        offset: float32 `(dy, dx)` from each pixel to its center, in pixels of the network input.
        is_thing: the pixels to assign.
        centers: of one image (no batch dimension); padding at infinity.
        first_row: row of the image with which the block begins.

    Returns:
        Index of the nearest center; `K` where the pixel is no thing or the image has no center.
    """
    num_centers = centers.points.shape[0]
    none = torch.full_like(is_thing, num_centers, dtype=torch.int32)
    if num_centers == 0:
        return none
    height, width = is_thing.shape
    rows = torch.arange(first_row, first_row + height, dtype=offset.dtype, device=offset.device)
    columns = torch.arange(width, dtype=offset.dtype, device=offset.device)
    target = torch.stack([offset[0] + rows[:, None], offset[1] + columns])
    if offset.device.type == "cpu":
        nearest = _nearest_by_tiles(target, is_thing, centers)
    else:
        nearest = _nearest_of_all(target, centers)
    return torch.where(is_thing & centers.valid.any(), nearest, none)


def _nearest_of_all(target: Float[Tensor, "2 H W"], centers: Centers) -> Int32[Tensor, "H W"]:
    """Compare with every center: plain operators and shapes that do not depend on the data."""
    points = centers.points
    chunk = max(1, _CHUNK_ELEMENTS // points.shape[0])
    nearest = [
        _squared_distance(part[:, :, None], points.T[:, None]).argmin(dim=1)  # argmin: the first of equal ones
        for part in torch.split(target.flatten(1), chunk, dim=1)
    ]
    return torch.cat(nearest).to(torch.int32).view(target.shape[1:])


def _nearest_by_tiles(
    target: Float[Tensor, "2 H W"], is_thing: Bool[Tensor, "H W"], centers: Centers
) -> Int32[Tensor, "H W"]:
    """Compare only with centers that can be nearest to some pixel of the tile; pixels that are no things are arbitrary.

    Pixels of a tile point to a few places. The bounding box of these gives a lower and an upper bound of the distance
    to each center. A center whose lower bound exceeds the smallest upper bound of all is not the nearest of any pixel.
    Rounding is monotonic and the bounds are computed by the very formula of the distance, so this holds exactly in
    float32, without a tolerance.
    """
    points = _to_tiles(target)
    inside = _to_tiles(is_thing[None])[0]
    low = torch.where(inside, points, torch.inf).amin(dim=2)
    high = torch.where(inside, points, -torch.inf).amax(dim=2)
    candidates, counts = _candidates(low, high, inside.any(dim=1), centers)

    # Longest lists first: the tiles that still have a candidate number `rank` are then the first ones.
    counts, order = counts.sort(descending=True)
    candidates, points = candidates[order], points[:, order]
    best = torch.full_like(points[0], torch.inf)
    nearest = candidates[:, :1].to(torch.int32).repeat(1, best.shape[1])
    for rank in range(candidates.shape[1]):
        active = int((counts > rank).sum())
        candidate = candidates[:active, rank]
        distance = _squared_distance(points[:, :active], centers.points[candidate].T[:, :, None])
        closer = distance < best[:active]  # strictly: of equal distances the first, lower index stays
        best[:active] = torch.where(closer, distance, best[:active])
        nearest[:active] = torch.where(closer, candidate[:, None].to(torch.int32), nearest[:active])

    in_place = torch.empty_like(nearest)
    in_place[order] = nearest
    return _from_tiles(in_place, (target.shape[1], target.shape[2]))


def _candidates(
    low: Float[Tensor, "2 T"], high: Float[Tensor, "2 T"], has_things: Bool[Tensor, " T"], centers: Centers
) -> tuple[Int64[Tensor, "T L"], Int64[Tensor, " T"]]:
    """For each box, the centers that can be nearest to a point in it, ascending, and how many they are."""
    low, high, points = low[:, :, None], high[:, :, None], centers.points.T[:, None]
    lower_bound = _squared_distance(points.clamp(low, high), points)
    farthest = torch.maximum((low - points).abs(), (high - points).abs())
    upper_bound = _squared_distance(farthest, torch.zeros_like(farthest))
    possible = (lower_bound <= upper_bound.amin(dim=1, keepdim=True)) & has_things[:, None] & centers.valid

    counts = possible.sum(dim=1)
    tile, center = possible.nonzero(as_tuple=True)
    rank = torch.arange(len(tile)) - (counts.cumsum(0) - counts)[tile]
    candidates = torch.zeros(len(counts), max(int(counts.max()), 1), dtype=torch.int64)
    candidates[tile, rank] = center
    return candidates, counts


def _squared_distance(a: Float[Tensor, "2 *a"], b: Float[Tensor, "2 *b"]) -> Float[Tensor, "*c"]:
    """The one formula of the distance. `a` and `b` broadcast against each other."""
    dy, dx = a[0] - b[0], a[1] - b[1]
    return dy * dy + dx * dx


def _to_tiles(plane: Tensor) -> Tensor:
    """(N, H, W) -> (N, T, P), padded with zeros to whole tiles."""
    channels, height, width = plane.shape
    tile_height, tile_width = _TILE
    plane = F.pad(plane, (0, -width % tile_width, 0, -height % tile_height))
    tiles = plane.view(channels, plane.shape[1] // tile_height, tile_height, plane.shape[2] // tile_width, tile_width)
    return tiles.transpose(2, 3).reshape(channels, -1, tile_height * tile_width)


def _from_tiles(tiles: Int32[Tensor, "T P"], size: tuple[int, int]) -> Int32[Tensor, "H W"]:
    """The inverse of `_to_tiles` for one plane."""
    height, width = size
    tile_height, tile_width = _TILE
    tile_rows, tile_columns = -(-height // tile_height), -(-width // tile_width)
    plane = tiles.view(tile_rows, tile_columns, tile_height, tile_width).transpose(1, 2)
    return plane.reshape(tile_rows * tile_height, tile_columns * tile_width)[:height, :width]
