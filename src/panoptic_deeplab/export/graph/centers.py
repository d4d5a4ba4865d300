"""Instance centers in operators that every runtime has: the rules of `postprocess/centers.py`, for a batch.

Runtimes sort differently: OpenVINO's `TopK` gives equal values in any order, ONNX has no other sort. Here the order of
equal values never matters: whatever could tie is compared by score and place, in exact integers.

Dimension letters: `B` images, `H W` the image, `K` = `top_k` centers.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

_NOTHING = -1e30
"""Strength of what is no center. Not infinity: for some runtimes, the maximum of that is the lowest finite number."""

_LAST = -(2**31) + 1
"""A place behind all others: no image has so many pixels."""


class GraphCenters(NamedTuple):
    """The strongest centers of each image, the best first, then padding."""

    y: Tensor
    """`(B, K)` float32, in pixels; infinity in padding, to which no pixel is near."""
    x: Tensor
    """`(B, K)`."""
    scores: Tensor
    """`(B, K)` heatmap value at the center; 0 in padding."""
    valid: Tensor
    """`(B, K)` bool."""


def find_graph_centers(heatmap: Tensor, *, threshold: float, nms_kernel: int, top_k: int) -> GraphCenters:
    """Find the local maxima of `(B, H, W)` heatmaps; see `postprocess.centers.find_centers` for the rules."""
    height, width = heatmap.shape[1:]
    radius = nms_kernel // 2
    is_center = _is_center(heatmap[:, None], threshold, radius)

    # Two centers are always more than `radius` apart along an axis, so each cell of radius + 1 pixels has at most one.
    cell = radius + 1
    rows = torch.arange(height, device=heatmap.device)[:, None]
    columns = torch.arange(width, device=heatmap.device)
    place = (rows % cell * cell + columns % cell).to(torch.float32)  # within the cell
    strength = _cell_max(torch.where(is_center, heatmap[:, None], _NOTHING), cell, _NOTHING)
    place = _cell_max(torch.where(is_center, place, -1.0), cell, -1.0).clamp(min=0).to(torch.int64)
    cell_rows = torch.arange(strength.shape[1], device=heatmap.device)[:, None]
    cell_columns = torch.arange(strength.shape[2], device=heatmap.device)
    raster = (cell_rows * cell + place // cell) * width + cell_columns * cell + place % cell

    # K entries of padding, so that there are K of them in the smallest image too
    strength = F.pad(strength.flatten(1), (0, top_k), value=_NOTHING)
    raster = F.pad(raster.flatten(1), (0, top_k))
    chosen = _strongest(strength, raster, top_k)
    scores, raster = strength.gather(1, chosen), raster.gather(1, chosen)
    scores, raster = _sorted(scores, raster)
    valid = scores > _NOTHING
    y = raster // width
    return GraphCenters(
        y=torch.where(valid, y.to(torch.float32), torch.inf),
        x=torch.where(valid, (raster - y * width).to(torch.float32), torch.inf),
        scores=torch.where(valid, scores, 0.0),
        valid=valid,
    )


def _is_center(plane: Tensor, threshold: float, radius: int) -> Tensor:
    """Above the threshold, the largest of its window, and the first of equal ones in it: `(B, 1, H, W)`."""
    side = 2 * radius + 1
    window_max = F.max_pool2d(F.max_pool2d(plane, (1, side), 1, (0, radius)), (side, 1), 1, (radius, 0))
    is_candidate = (plane > threshold) & (plane == window_max)
    if radius == 0:
        return is_candidate
    mask = is_candidate.to(torch.float32)
    left = F.max_pool2d(F.pad(mask, (radius, -1)), (1, radius), 1)  # columns x - radius ... x - 1
    wide = F.max_pool2d(mask, (1, side), 1, (0, radius))
    above = F.max_pool2d(F.pad(wide, (0, 0, radius, -1)), (radius, 1), 1)  # rows y - radius ... y - 1
    return is_candidate & ((left + above) == 0)


def _cell_max(plane: Tensor, cell: int, padding: float) -> Tensor:
    """Maximum of each cell of `(B, 1, H, W)`: `(B, cells down, cells across)`."""
    height, width = plane.shape[-2:]
    whole = F.pad(plane, (0, -width % cell, 0, -height % cell), value=padding)
    return F.max_pool2d(whole, cell, cell)[:, 0]


def _strongest(strength: Tensor, raster: Tensor, top_k: int) -> Tensor:
    """Which K entries stay, in any order; of those equal to the K-th, the first in raster order."""
    weakest = strength.topk(top_k, dim=1).values[:, -1:]
    key = torch.where(strength > weakest, 1, torch.where(strength == weakest, -raster, _LAST))
    return key.topk(top_k, dim=1).indices


def _sorted(scores: Tensor, raster: Tensor) -> tuple[Tensor, Tensor]:
    """Sort by falling score, equal ones in raster order: each entry counts the entries that come before it."""
    position = torch.arange(scores.shape[1], device=scores.device)
    one, other = slice(None), None
    score, other_score = scores[:, one, other], scores[:, other, one]
    place, other_place = raster[:, one, other], raster[:, other, one]
    same_place = (place == other_place) & (position < position[:, None])  # padding, whose order does not matter
    is_before = (other_score > score) | ((other_score == score) & ((other_place < place) | same_place))
    rank = is_before.to(torch.int64).sum(dim=2)
    return torch.empty_like(scores).scatter(1, rank, scores), torch.empty_like(raster).scatter(1, rank, raster)
