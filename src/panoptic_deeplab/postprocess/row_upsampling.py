"""Bilinear upsampling of a few rows at a time, so that C x H x W class scores never exist.

The same sampling positions as `maps.upsample`, in a form in which a row of the result does not depend on which other
rows are computed with it. (`F.interpolate` on a slice would sample elsewhere.)
"""

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from panoptic_deeplab.maps import Size


def upsample_rows(
    map_: Float[Tensor, "C h w"], rows: range, *, size: Size, width: int, align_corners: bool
) -> Float[Tensor, "C R W"]:
    """Rows `rows` and columns `0 ... width - 1` of the map resized to `size`.

    Args:
        map_: values at the decoder's resolution.
        rows: which rows of the resized map; not empty, step 1.
        size: of the resized map, which includes padding of the network input.
        width: how many columns are wanted.
        align_corners: as in `maps.upsample`.

    Returns:
        Equal to the slice of `maps.upsample` up to float32 rounding; exact where neighbors are equal.
    """
    first_row, row_fraction = _sampling(map_.shape[1], size[0], rows, align_corners=align_corners)
    first_column, column_fraction = _sampling(map_.shape[2], size[1], range(width), align_corners=align_corners)

    # columns first, on the few source rows that are needed
    top = int(first_row[0])
    source = map_[:, top : int(first_row[-1]) + 2]
    source = _interpolate(source, first_column, column_fraction, dim=2)
    return _interpolate(source, first_row - top, row_fraction, dim=1)


def _sampling(
    from_length: int, to_length: int, indices: range, *, align_corners: bool
) -> tuple[Int64[np.ndarray, " N"], Float32[np.ndarray, " N"]]:
    """For each index of the longer axis: the source index before it, and how far it is on the way to the next."""
    index = np.arange(indices.start, indices.stop, dtype=np.float64)
    if align_corners:
        position = index * ((from_length - 1) / max(to_length - 1, 1))
    else:
        position = np.maximum((index + 0.5) * (from_length / to_length) - 0.5, 0.0)
    position = np.minimum(position, from_length - 1)
    first = position.astype(np.int64)
    return first, (position - first).astype(np.float32)


def _interpolate(map_: Tensor, first: Int64[np.ndarray, " N"], fraction: Float32[np.ndarray, " N"], dim: int) -> Tensor:
    """`value + fraction * (next - value)` along `dim`; after the last value comes itself."""
    step = torch.cat([map_.diff(dim=dim), torch.zeros_like(map_.narrow(dim, 0, 1))], dim=dim)
    where = torch.from_numpy(first).to(map_.device)
    weight = torch.from_numpy(fraction).to(map_.device, map_.dtype)
    weight = weight.view(-1, 1) if dim == 1 else weight
    # multiplication and addition as two operators: a fused one may round differently in the tail of a vector
    return map_.index_select(dim, where).add_(step.index_select(dim, where).mul_(weight))
