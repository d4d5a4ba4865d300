"""Which center each thing pixel belongs to: the one nearest to where its offset points (section 3.2).

    k(i, j) = argmin_k || C_k - ((i, j) + O(i, j)) ||^2

in float32, ties to the lower center index. The K x P distances are computed in chunks, by operators whose shapes do not
depend on the data: nothing waits for the device.

Dimension letters: `K` centers, `P` pixels (of any shape).
"""

import torch
from jaxtyping import Bool, Float, Int32
from torch import Tensor

from panoptic_deeplab.postprocess.centers import Centers

_CHUNK_ELEMENTS = 2**24
"""Distances held at once."""


def group_pixels(target: Float[Tensor, "2 *P"], is_thing: Bool[Tensor, "*P"], centers: Centers) -> Int32[Tensor, "*P"]:
    """Assign pixels to centers.

    Args:
        target: float32 `(y, x)` in pixels of the network input: where each pixel points, pixel + offset.
        is_thing: the pixels to assign.
        centers: centers of the image; padding lies at infinity.

    Returns:
        Index of the nearest center; `K` where the pixel is no thing or the image has no center.
    """
    num_centers = len(centers.valid)
    none = torch.full_like(is_thing, num_centers, dtype=torch.int32)
    if num_centers == 0:
        return none
    chunk = max(1, _CHUNK_ELEMENTS // num_centers)
    nearest = [
        squared_distance(part[:, :, None], centers.points.T[:, None]).argmin(dim=1)  # argmin: the first of equal ones
        for part in torch.split(target.flatten(1), chunk, dim=1)
    ]
    index = torch.cat(nearest).to(torch.int32).view(is_thing.shape)
    return torch.where(is_thing & centers.valid.any(), index, none)


def squared_distance(a: Float[Tensor, "2 *a"], b: Float[Tensor, "2 *b"]) -> Float[Tensor, "*c"]:
    """The one formula of the distance. `a` and `b` broadcast against each other."""
    return squared_length(a - b)


def squared_length(difference: Float[Tensor, "2 *a"]) -> Float[Tensor, "*a"]:
    """Square and add `dy` and `dx`, in place."""
    difference *= difference
    return difference[0].add_(difference[1])
