"""Instance centers from a short list of pixels: `centers.py` without a look at most of the heatmap.

Few pixels are above the threshold, and most of them have a larger neighbor close by. No pixel of a cell exceeds its
corners, so cells are left out first, then pixels with a larger neighbor, and few are compared with a whole window.

Dimension letters: `K` = `top_k` centers, `h w` the map, `N` pixels in a list, `L` pixels of an axis.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from panoptic_deeplab.config import PostprocessConfig
from panoptic_deeplab.postprocess.centers import Centers, strongest
from panoptic_deeplab.postprocess.shortcut.cells import (
    CellAxis,
    CellGrid,
    Cells,
    count_pixels,
    interpolate,
    is_pixel,
    largest_corner,
    pad_samples,
)

_LONGEST_LIST = 2**22
"""Pixels x neighbors up to which going through a list is quicker than work on the whole map."""


def centers_of_list(heatmap: Float32[Tensor, "h w"], grid: CellGrid, config: PostprocessConfig) -> Centers | None:
    """Find the centers that `find_centers` finds, from a list of pixels that gets shorter with each look.

    None where the list would be long, as for a flat heatmap.
    """
    threshold, radius = config.center_threshold, config.nms_kernel // 2
    cells = _cells_above(heatmap, grid, threshold)
    resized = interpolate(heatmap[None], grid, cells)[0]
    is_possible = (resized > threshold) & is_pixel(grid, cells)
    num_rows, num_columns = (axis.fraction.shape[1] for axis in grid)
    if radius >= max(num_rows, num_columns) - 1:  # then the window around a pixel holds its cell
        is_possible &= resized == resized.amax(dim=0)
    place, cell = is_possible.numpy().nonzero()
    values = resized.numpy()[place, cell]
    axes = [_pixels_of(axis, radius) for axis in grid]
    starts = [axis.start[index].numpy()[cell] + radius for axis, index in zip(grid, cells, strict=True)]
    y, x = starts[0] + place // num_columns, starts[1] + place % num_columns

    reach = range(-radius, radius + 1)
    steps = [(dy, dx) for _, dy, dx in sorted((abs(dy) + abs(dx), dy, dx) for dy in reach for dx in reach if dy or dx)]
    samples = heatmap.numpy()
    for dy, dx in steps[:8]:
        keep = _values_at(samples, axes, y + dy, x + dx) <= values
        values, y, x = values[keep], y[keep], x[keep]
    if len(values) * len(steps) > _LONGEST_LIST:
        return None

    down, right = np.array(steps, np.int64).reshape(-1, 2).T
    is_largest = (_values_at(samples, axes, y[:, None] + down, x[:, None] + right) <= values[:, None]).all(axis=1)
    values, y, x = values[is_largest], y[is_largest], x[is_largest]
    order = np.lexsort((x, y))
    values, y, x = values[order], y[order], x[order]
    line = len(axes[1].inside)
    earlier = [dy * line + dx for dy, dx in steps if (dy, dx) < (0, 0)]
    is_first = ~np.isin((y * line + x)[:, None] + np.array(earlier, np.int64), y * line + x).any(axis=1)
    width = grid.pixel_size[1]
    index = (y - radius) * width + x - radius
    found = (torch.from_numpy(part[is_first]) for part in (values, index))
    return strongest(*found, width=width, top_k=config.top_k)


def _cells_above(heatmap: Float32[Tensor, "h w"], grid: CellGrid, threshold: float) -> Cells:
    """The cells that can have a pixel above the threshold: no pixel exceeds the corners by more than rounding."""
    padded = pad_samples(heatmap)
    largest = largest_corner(padded) + 1e-5 * largest_corner(padded.abs())
    row, column = ((largest > threshold) & (count_pixels(grid) > 0)).numpy().nonzero()  # faster than PyTorch's
    return Cells(row=torch.from_numpy(row), column=torch.from_numpy(column))


class _Pixels(NamedTuple):
    """The pixels of one axis, with as many outside of both ends as a window reaches."""

    before: Int64[np.ndarray, " L"]
    """Index of the sample before the pixel."""
    after: Int64[np.ndarray, " L"]
    fraction: Float32[np.ndarray, " L"]
    inside: Bool[np.ndarray, " L"]


def _pixels_of(axis: CellAxis, radius: int) -> _Pixels:
    length = len(axis.cell)
    pixel = np.arange(-radius, length + radius)
    within = pixel.clip(0, length - 1)
    cell = axis.cell.numpy()[within]
    return _Pixels(
        before=axis.before.numpy()[cell],
        after=axis.after.numpy()[cell],
        fraction=axis.fraction.numpy()[cell, within - axis.start.numpy()[cell]],
        inside=pixel == within,
    )


def _values_at(
    samples: Float32[np.ndarray, "h w"], axes: list[_Pixels], y: Int64[np.ndarray, "*N"], x: Int64[np.ndarray, "*N"]
) -> Float32[np.ndarray, "*N"]:
    """Values of the resized heatmap at indices into `axes`: those of `interpolate`, and -infinity outside."""
    rows, columns = axes
    vertical, horizontal = rows.fraction[y], columns.fraction[x]

    def along(row: Int64[np.ndarray, "*N"]) -> Float32[np.ndarray, "*N"]:
        left, right = samples[row, columns.before[x]], samples[row, columns.after[x]]
        between: Float32[np.ndarray, "*N"] = (right - left) * horizontal + left
        return between

    top, bottom = along(rows.before[y]), along(rows.after[y])
    values: Float32[np.ndarray, "*N"] = (bottom - top) * vertical + top
    return np.where(rows.inside[y] & columns.inside[x], values, np.float32(-np.inf))
