"""Instance centers from the center heatmap: keypoint non-maximum suppression, threshold, top k (section 3.2).

Dimension letters: `K` = `top_k` centers, `H W` the network input, `N` pixels in a list. A point is `(y, x)`.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

_LONGEST_LIST = 2**22
"""Pixels x neighbors up to which going through a list is quicker than work on the whole map."""


class Centers(NamedTuple):
    """The strongest centers of an image, the best first, padded to `K` so that shapes do not depend on the data."""

    points: Float[Tensor, "K 2"]
    """`(y, x)` in pixels of the network input. Padding lies at infinity, so that no pixel is ever nearest to it."""

    scores: Float[Tensor, " K"]
    """Heatmap value at the center, the "objectness" of section 3.3; 0 in padding."""

    valid: Bool[Tensor, " K"]
    """False in padding, which comes after all centers."""


def find_centers(heatmap: Float[Tensor, "H W"], *, threshold: float, nms_kernel: int, top_k: int) -> Centers:
    """Find the local maxima of the heatmap.

    A pixel is a center when its value is above `threshold` (strictly) and the largest of the `nms_kernel` x
    `nms_kernel` window around it. Of several such pixels in one window (they are necessarily equal) the first in raster
    order stays, so a flat maximum is one center. Of more than `top_k` centers the strongest stay; equal ones in raster
    order.

    Args:
        heatmap: at the resolution of the network input, without padding.
        threshold: `PostprocessConfig.center_threshold`.
        nms_kernel: odd, in pixels of the network input.
        top_k: how many centers to keep at most.

    Returns:
        Exactly `top_k` rows, also where the image has fewer pixels than that.
    """
    radius = nms_kernel // 2
    best, index = _centers(heatmap, threshold, radius)
    best, order = best.sort(descending=True, stable=True)  # stable: equal scores stay in raster order
    best, index = best[:top_k], index[order][:top_k]

    missing = top_k - len(best)
    best = F.pad(best, (0, missing), value=-torch.inf)
    index = F.pad(index, (0, missing))
    valid = best > -torch.inf
    width = heatmap.shape[1]
    points = torch.stack([index // width, index % width], dim=1).to(heatmap.dtype)
    return Centers(
        points=torch.where(valid[:, None], points, torch.inf),
        scores=torch.where(valid, best, 0.0),
        valid=valid,
    )


def _centers(
    heatmap: Float[Tensor, "H W"], threshold: float, radius: int
) -> tuple[Float[Tensor, " N"], Int64[Tensor, " N"]]:
    """Value and flat index of all centers, in raster order; a value of -infinity is none."""
    if heatmap.device.type == "cpu":
        index = _centers_by_list(heatmap, threshold, radius)
        if index is not None:
            return heatmap.flatten()[index], index
    is_candidate = (heatmap > threshold) & (heatmap == _window_max(heatmap, radius))
    is_center = is_candidate & ~_earlier_in_window(is_candidate, radius)
    return _cell_maxima(torch.where(is_center, heatmap, -torch.inf), cell=radius + 1)


def _centers_by_list(heatmap: Float[Tensor, "H W"], threshold: float, radius: int) -> Int64[Tensor, " N"] | None:
    """Flat index of all centers in raster order, from a list of pixels that each look at a neighbor makes shorter.

    Few pixels are above a threshold, and most of them have a larger neighbor close by. None where this is not so.
    """
    width = heatmap.shape[1]
    row = width + 2 * radius
    padded = F.pad(heatmap, (radius,) * 4, value=-torch.inf).numpy().reshape(-1)
    index = np.flatnonzero((heatmap > threshold).numpy())  # many times faster than PyTorch's
    place = index + (index // width) * (2 * radius) + radius * (row + 1)  # in the padded map
    reach = range(-radius, radius + 1)
    steps = [y * row + x for _, y, x in sorted((abs(y) + abs(x), y, x) for y in reach for x in reach if y or x)]
    for step in steps[:8]:
        place = place[padded[place + step] <= padded[place]]
    if len(place) * len(steps) > _LONGEST_LIST:
        return None

    neighbors = place[:, None] + np.array(steps, np.int64)
    is_largest = (padded[neighbors] <= padded[place, None]).all(axis=1)
    place, neighbors = place[is_largest], neighbors[is_largest]
    is_candidate = np.zeros(len(padded), np.bool_)
    is_candidate[place] = True
    is_first = ~(is_candidate[neighbors] & (neighbors < place[:, None])).any(axis=1)
    place = place[is_first]
    return torch.from_numpy((place // row - radius) * width + place % row - radius)


def _window_max(heatmap: Float[Tensor, "H W"], radius: int) -> Float[Tensor, "H W"]:
    """Maximum over the square window around each pixel; outside of the image is -infinity."""
    padded = F.pad(heatmap, (radius,) * 4, value=-torch.inf)
    return _sliding_max(_sliding_max(padded, 2 * radius + 1, dim=1), 2 * radius + 1, dim=0)


def _earlier_in_window(is_candidate: Bool[Tensor, "H W"], radius: int) -> Bool[Tensor, "H W"]:
    """True where the window around the pixel holds a candidate that comes before it in raster order."""
    if radius == 0:
        return torch.zeros_like(is_candidate)
    mask = is_candidate.to(torch.uint8)
    left = _sliding_max(F.pad(mask, (radius, -1)), radius, dim=1)  # columns x - radius ... x - 1
    wide = _sliding_max(F.pad(mask, (radius, radius)), 2 * radius + 1, dim=1)
    above = _sliding_max(F.pad(wide, (0, 0, radius, -1)), radius, dim=0)  # rows y - radius ... y - 1
    return (left | above) > 0


def _cell_maxima(strength: Float[Tensor, "H W"], cell: int) -> tuple[Float[Tensor, " N"], Int64[Tensor, " N"]]:
    """Value and flat index of the largest pixel of each `cell` x `cell` square, in raster order of the pixels.

    Two centers are always more than `radius` apart along an axis, so each square of radius + 1 pixels holds at most
    one: what must be sorted shrinks without loss, and to a number that does not depend on the data.
    """
    best, index = F.max_pool2d(strength[None], cell, stride=cell, ceil_mode=True, return_indices=True)
    best, index = best.flatten(), index.flatten()
    order = index.argsort()
    return best[order], index[order]


def _sliding_max(plane: Tensor, side: int, *, dim: int) -> Tensor:
    """Maximum of each `side` neighbors along `dim`, which gets shorter by `side - 1`.

    Doubling the window takes log2(side) element-wise maxima, many times faster on a CPU than max pooling.
    """
    covered = 1
    while covered < side:
        step = min(covered, side - covered)
        length = plane.shape[dim] - step
        plane = torch.maximum(plane.narrow(dim, 0, length), plane.narrow(dim, step, length))
        covered += step
    return plane
