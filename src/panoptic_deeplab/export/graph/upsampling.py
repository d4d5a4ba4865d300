"""Bilinear upsampling by four, a quarter of the rows at a time.

Pixels `4 i`, `4 i + 1`, `4 i + 2` and `4 i + 3` of an axis (its four *phases*) lie at the same four places between two
samples, for all `i`. So each phase of the rows is one operation on the whole map, `value + fraction * (next - value)`,
with a fraction that is exact in binary. Class scores are reduced (argmax, softmax) phase by phase: C x H x W numbers
never exist, and every intermediate array has the size of C maps with a quarter of the rows, which the cache of a
processor may hold. The arithmetic is that of `postprocess/pixels.py`: columns first, then rows.

Dimension letters: `B` images, `C` channels, `h w` the map, `P` pixels in a list.
"""

from typing import NamedTuple

import torch
from torch import Tensor

FACTOR = 4
"""Pixels of the padded input from one sample to the next, exactly, for the sizes of `padded_size`."""


def phases(map_: Tensor, dim: int, *, align_corners: bool) -> list[Tensor]:
    """The map at the four phases of an axis; pixel `4 i + p` of the resized axis is entry `i` of phase `p`.

    Args:
        map_: `(B, C, h, w)`.
        dim: 2 or 3.
        align_corners: sample `i` lies on pixel `4 i`; or between the pixels `4 i + 1` and `4 i + 2`.
    """
    length = map_.shape[dim]
    first, last = map_.narrow(dim, 0, 1), map_.narrow(dim, length - 1, 1)  # both go on for ever
    after = torch.cat([map_.narrow(dim, 1, length - 1), last], dim=dim) - map_
    if align_corners:
        return [map_, *(map_ + fraction * after for fraction in (0.25, 0.5, 0.75))]
    previous = torch.cat([first, map_.narrow(dim, 0, length - 1)], dim=dim)
    before = map_ - previous
    return [
        *(previous + fraction * before for fraction in (0.625, 0.875)),
        *(map_ + fraction * after for fraction in (0.125, 0.375)),
    ]


def upsample_columns(map_: Tensor, *, align_corners: bool) -> Tensor:
    """`(B, C, h, w)` -> `(B, C, h, 4 w)`; with aligned corners, the last three columns are no pixels."""
    parts = torch.stack(phases(map_, 3, align_corners=align_corners))
    return parts.movedim(0, -1).flatten(3)  # transposed at once: quicker than a stack of single numbers


def interleave_rows(parts: list[Tensor]) -> Tensor:
    """Four phases `(B, h, W)` -> `(B, 4 h, W)`."""
    return torch.stack(parts, dim=2).flatten(1, 2)


class RowPositions(NamedTuple):
    """Where the rows of the image lie between the rows of a map."""

    before: Tensor
    """`(H,)` int64: the row of the map before."""
    after: Tensor
    """`(H,)` int64: the one behind."""
    fraction: Tensor
    """`(H,)` float32: how far on the way."""


def row_positions(map_rows: int, height: int, *, align_corners: bool, device: torch.device) -> RowPositions:
    """Positions of the first `height` rows of the resized map."""
    row = torch.arange(height, device=device)
    if align_corners:
        before, eighths = row // FACTOR, row % FACTOR * 2
    else:
        before, eighths = (row + 2) // FACTOR - 1, (row % FACTOR * 2 + 5) % 8
    return RowPositions(
        before=before.clamp(min=0), after=(before + 1).clamp(max=map_rows - 1), fraction=eighths.to(torch.float32) / 8
    )


def values_at(
    columns: Tensor, rows: RowPositions, image: Tensor, channel: int | Tensor, y: Tensor, x: Tensor
) -> Tensor:
    """Values of the upsampled map at some pixels.

    Args:
        columns: `(B, C, h, 4 w)`, of `upsample_columns`.
        rows: where the image's rows lie in the map.
        image: the image in which each pixel lies, `(P,)` int64.
        channel: the channel to read for each pixel, or for all.
        y: row of each pixel in the image.
        x: column of each pixel in the image.
    """
    _, channels, map_rows, width = columns.shape
    plane = (image * channels + channel) * map_rows
    # One list of numbers: OpenVINO 2026.4 takes `gather` along an axis of a cropped map from the whole map.
    flat = columns.flatten()
    before, after = (
        flat.index_select(0, (plane + source.index_select(0, y)) * width + x) for source in (rows.before, rows.after)
    )
    return before + rows.fraction.index_select(0, y) * (after - before)
