"""Instance centers from the center heatmap: keypoint non-maximum suppression, threshold, top k (section 3.2).

Dimension letters: `K` = `top_k` centers, `h w` the map, `H W` the network input, `N` pixels in a list,
`L` pixels of an axis. A point is `(y, x)`.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor
from torch.nn import functional as F

from panoptic_deeplab.postprocess.cells import (
    Axis,
    CellGrid,
    Cells,
    all_cells,
    count_pixels,
    interpolate,
    is_pixel,
    largest_corner,
    pad_samples,
    pixel_rows_and_columns,
)

_LONGEST_LIST = 2**22
"""Pixels x neighbors up to which going through a list is quicker than work on the whole map."""


class Centers(NamedTuple):
    """The strongest centers of an image, the best first, padded to `K` so that shapes do not depend on the data."""

    points: Float32[Tensor, "K 2"]
    """`(y, x)` in pixels of the network input. Padding lies at infinity, so that no pixel is ever nearest to it."""

    scores: Float32[Tensor, " K"]
    """Heatmap value at the center, the "objectness" of section 3.3; 0 in padding."""

    valid: Bool[Tensor, " K"]
    """False in padding, which comes after all centers."""


def find_centers(
    heatmap: Float32[Tensor, "h w"], grid: CellGrid, *, threshold: float, nms_kernel: int, top_k: int
) -> Centers:
    """Find the local maxima of the resized heatmap.

    A pixel is a center when its value is above `threshold` (strictly) and the largest of the `nms_kernel` x
    `nms_kernel` window around it. Of several such pixels in one window (they are necessarily equal) the first in raster
    order stays, so a flat maximum is one center. Of more than `top_k` centers the strongest stay; equal ones in raster
    order.

    Args:
        heatmap: at the decoder's stride.
        grid: the cells of the map; gives the size of the network input without padding.
        threshold: `PostprocessConfig.center_threshold`.
        nms_kernel: odd, in pixels of the network input.
        top_k: how many centers to keep at most.

    Returns:
        Exactly `top_k` rows, also where the image has fewer pixels than that.
    """
    radius = nms_kernel // 2
    found = _centers_of_list(heatmap, grid, threshold, radius) if heatmap.device.type == "cpu" else None
    if found is None:
        found = _centers_of_map(heatmap, grid, threshold, radius)
    best, place = found
    best, order = best.sort(descending=True, stable=True)  # stable: equal scores stay in raster order
    best, place = best[:top_k], place[order][:top_k]

    missing = top_k - len(best)
    best = F.pad(best, (0, missing), value=-torch.inf)
    place = F.pad(place, (0, missing))
    valid = best > -torch.inf
    width = grid.pixel_size[1]
    points = torch.stack([place // width, place % width], dim=1).to(torch.float32)
    return Centers(
        points=torch.where(valid[:, None], points, torch.inf),
        scores=torch.where(valid, best, 0.0),
        valid=valid,
    )


def _cells_above(heatmap: Float32[Tensor, "h w"], grid: CellGrid, threshold: float) -> Cells:
    """The cells that can have a pixel above the threshold: no pixel exceeds the corners by more than rounding."""
    padded = pad_samples(heatmap)
    largest = largest_corner(padded) + 1e-5 * largest_corner(padded.abs())
    row, column = ((largest > threshold) & (count_pixels(grid) > 0)).numpy().nonzero()  # faster than PyTorch's
    return Cells(row=torch.from_numpy(row), column=torch.from_numpy(column))


def _centers_of_list(
    heatmap: Float32[Tensor, "h w"], grid: CellGrid, threshold: float, radius: int
) -> tuple[Float32[Tensor, " n"], Int64[Tensor, " n"]] | None:
    """Value and flat index of all centers in raster order, from a list of pixels that gets shorter with each look.

    Few pixels are above a threshold, and most of them have a larger neighbor close by. None where this is not so.
    """
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
    width = len(axes[1].inside)
    earlier = [dy * width + dx for dy, dx in steps if (dy, dx) < (0, 0)]
    is_first = ~np.isin((y * width + x)[:, None] + np.array(earlier, np.int64), y * width + x).any(axis=1)
    index = (y - radius) * grid.pixel_size[1] + x - radius
    return torch.from_numpy(values[is_first]), torch.from_numpy(index[is_first])


class _Pixels(NamedTuple):
    """The pixels of one axis, with as many outside of both ends as a window reaches."""

    before: Int64[np.ndarray, " L"]
    """Index of the sample before the pixel."""
    after: Int64[np.ndarray, " L"]
    fraction: Float32[np.ndarray, " L"]
    inside: Bool[np.ndarray, " L"]


def _pixels_of(axis: Axis, radius: int) -> _Pixels:
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
    samples: Float32[np.ndarray, "h w"],
    axes: list[_Pixels],
    y: Int64[np.ndarray, "*N"],
    x: Int64[np.ndarray, "*N"],
) -> Float32[np.ndarray, "*N"]:
    """Of the resized heatmap at indices into `axes`: the values of `interpolate`, and -infinity outside."""
    rows, columns = axes
    vertical, horizontal = rows.fraction[y], columns.fraction[x]

    def along(row: Int64[np.ndarray, "*N"]) -> Float32[np.ndarray, "*N"]:
        left, right = samples[row, columns.before[x]], samples[row, columns.after[x]]
        between: Float32[np.ndarray, "*N"] = (right - left) * horizontal + left
        return between

    top, bottom = along(rows.before[y]), along(rows.after[y])
    values: Float32[np.ndarray, "*N"] = (bottom - top) * vertical + top
    return np.where(rows.inside[y] & columns.inside[x], values, np.float32(-np.inf))


def _centers_of_map(
    heatmap: Float32[Tensor, "h w"], grid: CellGrid, threshold: float, radius: int
) -> tuple[Float32[Tensor, " n"], Int64[Tensor, " n"]]:
    """The same from whole maps, by operators whose shapes do not depend on the data; a value of -infinity is none."""
    cells = all_cells(grid)
    y, x = pixel_rows_and_columns(grid, cells)
    resized = heatmap.new_empty(grid.pixel_size)
    place = (y * grid.pixel_size[1] + x).flatten()  # a place of a cell that is no pixel repeats one
    resized.view(-1).scatter_(0, place, interpolate(heatmap[None], grid, cells).flatten())
    is_candidate = (resized > threshold) & (resized == _window_max(resized, radius))
    is_center = is_candidate & ~_earlier_in_window(is_candidate, radius)
    return _cell_maxima(torch.where(is_center, resized, -torch.inf), cell=radius + 1)


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


def _cell_maxima(strength: Float32[Tensor, "H W"], cell: int) -> tuple[Float32[Tensor, " N"], Int64[Tensor, " N"]]:
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
