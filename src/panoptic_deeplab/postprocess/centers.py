"""Instance centers from the center heatmap: keypoint non-maximum suppression, threshold, top k (section 3.2).

Dimension letters: `B` images, `K` = `top_k` centers, `H W` the network input. A point is `(y, x)`.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


class Centers(NamedTuple):
    """The strongest centers of an image, the best first, padded to `K` so that shapes do not depend on the data.

    The leading dimension is present in batches and absent for a single image.
    """

    points: Float[Tensor, "*B K 2"]
    """`(y, x)` in pixels of the network input. Padding lies at infinity, so that no pixel is ever nearest to it."""

    scores: Float[Tensor, "*B K"]
    """Heatmap value at the center, the "objectness" of section 3.3; 0 in padding."""

    valid: Bool[Tensor, "*B K"]
    """False in padding, which comes after all centers."""


def find_centers(heatmap: Float[Tensor, "B H W"], *, threshold: float, nms_kernel: int, top_k: int) -> Centers:
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
        Exactly `top_k` rows an image, also where the image has fewer pixels than that.
    """
    radius = nms_kernel // 2
    plane = heatmap[:, None]
    is_candidate = (plane > threshold) & (plane == _window_max(plane, radius))
    is_center = is_candidate & ~_earlier_in_window(is_candidate, radius)
    strength = torch.where(is_center, plane, -torch.inf)

    # Two centers are always more than `radius` apart along an axis, so each cell of radius + 1 pixels holds at most
    # one: what must be sorted shrinks without loss.
    cell = radius + 1
    best, flat_index = F.max_pool2d(strength, cell, stride=cell, ceil_mode=True, return_indices=True)
    best, flat_index = best.flatten(1), flat_index.flatten(1)
    raster_order = flat_index.argsort(dim=1)
    best, flat_index = best.gather(1, raster_order), flat_index.gather(1, raster_order)
    best, order = best.sort(dim=1, descending=True, stable=True)  # stable: equal scores stay in raster order
    best, flat_index = best[:, :top_k], flat_index.gather(1, order)[:, :top_k]

    missing = top_k - best.shape[1]
    best = F.pad(best, (0, missing), value=-torch.inf)
    flat_index = F.pad(flat_index, (0, missing))
    valid = best > -torch.inf
    width = heatmap.shape[-1]
    points = torch.stack([flat_index // width, flat_index % width], dim=-1).to(heatmap.dtype)
    return Centers(
        points=torch.where(valid[..., None], points, torch.inf),
        scores=torch.where(valid, best, 0.0),
        valid=valid,
    )


def _window_max(plane: Float[Tensor, "B 1 H W"], radius: int) -> Float[Tensor, "B 1 H W"]:
    """Maximum over the square window around each pixel; outside of the image is -infinity."""
    padded = F.pad(plane, (radius, radius, radius, radius), value=-torch.inf)
    return _sliding_max(_sliding_max(padded, 2 * radius + 1, dim=3), 2 * radius + 1, dim=2)


def _earlier_in_window(is_candidate: Bool[Tensor, "B 1 H W"], radius: int) -> Bool[Tensor, "B 1 H W"]:
    """True where the window around the pixel holds a candidate that comes before it in raster order."""
    if radius == 0:
        return torch.zeros_like(is_candidate)
    mask = is_candidate.to(torch.uint8)
    left = _sliding_max(F.pad(mask, (radius, -1)), radius, dim=3)  # columns x - radius ... x - 1
    wide = _sliding_max(F.pad(mask, (radius, radius)), 2 * radius + 1, dim=3)
    above = _sliding_max(F.pad(wide, (0, 0, radius, -1)), radius, dim=2)  # rows y - radius ... y - 1
    return (left | above) > 0


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
