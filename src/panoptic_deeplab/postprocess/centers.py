"""Instance centers from the center heatmap: keypoint non-maximum suppression, threshold, top k (section 3.2).

Max pooling whose windows end at the border finds the largest value around each pixel; a pixel that equals it is a peak.
All shapes are independent of the data, so nothing waits for the device.

Dimension letters: `K` = `top_k` centers, `H W` the image, `N` squares of pixels. A point is `(y, x)`.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor
from torch.nn import functional as F

from panoptic_deeplab.config import PostprocessConfig


class Centers(NamedTuple):
    """The strongest centers of an image, the best first, padded to `K` so that shapes do not depend on the data."""

    points: Float32[Tensor, "K 2"]
    """`(y, x)` in pixels of the network input. Padding lies at infinity, so that no pixel is ever nearest to it."""

    scores: Float32[Tensor, " K"]
    """Heatmap value at the center, the "objectness" of section 3.3; 0 in padding."""

    valid: Bool[Tensor, " K"]
    """False in padding, which comes after all centers."""


def find_centers(heatmap: Float32[Tensor, "H W"], config: PostprocessConfig) -> Centers:
    """Find the strongest peaks of the heatmap; `find_peaks` says what is one.

    Args:
        heatmap: resized to the pixels of the network input, without padding.
        config: `center_threshold`, `nms_kernel` and `top_k` are used; of equal scores, the first in raster order stay.

    Returns:
        Exactly `top_k` rows, also where the image has fewer pixels than that.
    """
    strength, place = find_peaks(heatmap, threshold=config.center_threshold, nms_kernel=config.nms_kernel)
    return strongest(strength, place, width=heatmap.shape[1], top_k=config.top_k)


def find_peaks(
    heatmap: Float32[Tensor, "H W"], *, threshold: float, nms_kernel: int
) -> tuple[Float32[Tensor, " N"], Int64[Tensor, " N"]]:
    """Find the local maxima above a threshold (strictly).

    A pixel is a peak when its value is the largest of the `nms_kernel` x `nms_kernel` window around it. Of several such
    pixels in one window (they are necessarily equal) the first in raster order is, so a flat maximum is one peak.

    Args:
        heatmap: in pixels of the network input.
        threshold: values at or below it are no peak.
        nms_kernel: odd, in pixels.

    Returns:
        Value and flat index `y * W + x` in raster order, among entries of -infinity that are no peak.
    """
    strength = peak_strength(heatmap, threshold=threshold, nms_kernel=nms_kernel)
    return _square_maxima(strength, side=nms_kernel // 2 + 1)


def peak_strength(heatmap: Float32[Tensor, "H W"], *, threshold: float, nms_kernel: int) -> Float32[Tensor, "H W"]:
    """The heatmap at its peaks, -infinity elsewhere; `find_peaks` says what is one.

    Whether a pixel is one depends on the `nms_kernel - 1` rows and columns around it and on nothing else.
    """
    radius = nms_kernel // 2
    is_candidate = (heatmap > threshold) & (heatmap == _window_max(heatmap, radius))
    is_peak = is_candidate & ~_earlier_in_window(is_candidate, radius)
    return torch.where(is_peak, heatmap, -torch.inf)


def strongest(strength: Float32[Tensor, " N"], place: Int64[Tensor, " N"], *, width: int, top_k: int) -> Centers:
    """Keep the best `top_k` of some peaks (-infinity is none) at flat indices of an image of `width`, ties in order."""
    best, order = strength.sort(descending=True, stable=True)
    best, place = best[:top_k], place[order][:top_k]
    missing = top_k - len(best)
    best = F.pad(best, (0, missing), value=-torch.inf)
    place = F.pad(place, (0, missing))
    valid = best > -torch.inf
    points = torch.stack([place // width, place % width], dim=1).to(torch.float32)
    return Centers(
        points=torch.where(valid[:, None], points, torch.inf), scores=torch.where(valid, best, 0.0), valid=valid
    )


def no_centers(device: torch.device) -> Centers:
    """The centers of a semantic-only model: K = 0."""
    empty = torch.zeros(0, device=device)
    return Centers(empty.view(0, 2), empty, empty.bool())


def _window_max(heatmap: Float32[Tensor, "H W"], radius: int) -> Float32[Tensor, "H W"]:
    """Maximum over the square window around each pixel."""
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


def _square_maxima(strength: Float32[Tensor, "H W"], side: int) -> tuple[Float32[Tensor, " N"], Int64[Tensor, " N"]]:
    """Value and flat index of the largest pixel of each `side` x `side` square, in raster order of the pixels.

    Two peaks are always more than `radius` apart along an axis, so each square of radius + 1 pixels holds at most
    one: what must be sorted shrinks without loss, and to a number that does not depend on the data.
    """
    best, index = F.max_pool2d(strength[None], side, stride=side, ceil_mode=True, return_indices=True)
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
