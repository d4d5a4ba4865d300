"""Cells: the squares between four neighboring samples of a decoder map, and the pixels of the input inside of them.

What holds at the four corners of a cell often holds in all of it (see `corners.py`); and pixels of one cell, which are
mixtures of the same four samples, are quickly interpolated together, with the values of `pixels.resize`.

At both ends of an axis the first and last sample are thought to go on forever, so an axis of `n` samples has `n + 1`
cells, and each pixel lies in exactly one. In the usual case of stride 4, a cell has 4 x 4 pixels.

Dimension letters: `h w` the map, `p q` padded, `H W` the pixels, `Y X` all cells, `M` chosen cells, `J` = places for
pixels in a cell, in raster order. Where a cell has fewer pixels than places, its last row or column fills the rest.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, Shaped
from torch import Tensor

from panoptic_deeplab.maps import Size
from panoptic_deeplab.postprocess.pixels import between, look_up, sample_positions


class CellAxis(NamedTuple):
    """How the pixels of one axis lie between the samples; `n` cells, `r` places a cell."""

    before: Int64[Tensor, " n"]
    """Index of the sample before the cell."""

    after: Int64[Tensor, " n"]
    """Index of the sample behind it."""

    start: Int64[Tensor, " n"]
    """First pixel."""

    num_pixels: Int64[Tensor, " n"]
    """Number of pixels, 0 to r."""

    fraction: Float32[Tensor, "n r"]
    """How far the pixel is on the way from the one sample to the other, in [0, 1]."""

    step: float
    """By how much the fraction grows from a pixel to the next."""

    position: Float32[Tensor, " n+1"] | None
    """Where samples lie, in pixels; the first one lies before the first cell. None if pixels do not follow samples
    (an axis of one sample with aligned corners)."""

    cell: Int64[Tensor, " L"]
    """Cell of each pixel."""


class CellGrid(NamedTuple):
    """The cells of a map."""

    rows: CellAxis
    columns: CellAxis

    @property
    def size(self) -> Size:
        """`(Y, X)`."""
        return len(self.rows.start), len(self.columns.start)

    @property
    def pixel_size(self) -> Size:
        """`(H, W)`."""
        return len(self.rows.cell), len(self.columns.cell)

    @property
    def num_places(self) -> int:
        """J."""
        return self.rows.fraction.shape[1] * self.columns.fraction.shape[1]


class Cells(NamedTuple):
    """Chosen cells."""

    row: Int64[Tensor, " M"]
    column: Int64[Tensor, " M"]


def make_cells(map_size: Size, input_size: Size, content_size: Size, *, align_corners: bool) -> CellGrid:
    """Sort the pixels of an image into cells; arguments as for `pixels.make_grid`."""
    rows, columns = (
        _axis(*lengths, align_corners=align_corners) for lengths in zip(map_size, input_size, content_size, strict=True)
    )
    return CellGrid(rows, columns)


def split_cells(cells: Cells, length: int) -> list[Cells]:
    """Parts of at most `length` cells, one at least."""
    return [Cells(*part) for part in zip(*(torch.split(index, length) for index in cells), strict=True)]


def count_pixels(grid: CellGrid) -> Int64[Tensor, "Y X"]:
    """How many pixels each cell has."""
    return grid.rows.num_pixels[:, None] * grid.columns.num_pixels


def interpolate(map_: Float[Tensor, "C h w"], grid: CellGrid, cells: Cells) -> Float[Tensor, "C J M"]:
    """The values of `pixels.resize`, in some cells."""
    top_left, top_right, bottom_left, bottom_right = _corners(map_, grid, cells)
    y, x = _fractions(grid, cells)
    top = between(top_left[:, None], (top_right - top_left)[:, None], x)
    bottom = between(bottom_left[:, None], (bottom_right - bottom_left)[:, None], x)
    return between(top[:, None], (bottom - top)[:, None], y[:, None]).flatten(1, 2)


def interpolate_channel(
    map_: Float[Tensor, "C h w"], channel: Int64[Tensor, "J M"], grid: CellGrid, cells: Cells
) -> Float[Tensor, "J M"]:
    """The same values, of one channel for each pixel."""
    plane = map_.shape[1] * map_.shape[2]
    y, x = _fractions(grid, cells)
    y, x = y.repeat_interleave(len(x), dim=0), x.repeat(len(y), 1)
    corners = [look_up(map_.flatten(), channel * plane + index) for index in _corner_indices(map_, grid, cells)]
    top, bottom = (between(left, right - left, x) for left, right in (corners[:2], corners[2:]))
    return between(top, bottom - top, y)


def pixel_rows_and_columns(grid: CellGrid, cells: Cells) -> tuple[Int64[Tensor, "J M"], Int64[Tensor, "J M"]]:
    """`y` and `x` of each pixel."""
    ys, xs = (
        axis.start[index] + torch.minimum(_places(axis)[:, None], axis.num_pixels[index] - 1)
        for axis, index in zip(grid, cells, strict=True)
    )
    shape = (len(ys), len(xs), ys.shape[1])
    return ys[:, None].expand(shape).flatten(0, 1), xs[None].expand(shape).flatten(0, 1)


def is_pixel(grid: CellGrid, cells: Cells) -> Bool[Tensor, "J M"]:
    """False for places that repeat the last pixel of the cell."""
    ys, xs = (_places(axis)[:, None] < axis.num_pixels[index] for axis, index in zip(grid, cells, strict=True))
    return (ys[:, None] & xs[None]).flatten(0, 1)


def expand(values: Shaped[Tensor, "Y X"], grid: CellGrid) -> Shaped[Tensor, "H W"]:
    """Give each pixel the value of its cell."""
    rows = values.gather(1, grid.columns.cell.expand(len(values), -1))
    return rows.index_select(0, grid.rows.cell)


def pad_samples(plane: Shaped[Tensor, "h w"]) -> Shaped[Tensor, "p q"]:
    """The map with the samples that are thought beyond the border."""
    plane = torch.cat([plane[:1], plane, plane[-1:]])
    return torch.cat([plane[:, :1], plane, plane[:, -1:]], dim=1)


def smallest_corner(plane: Shaped[Tensor, "p q"]) -> Shaped[Tensor, "p-1 q-1"]:
    """The smallest corner of each cell, from padded samples."""
    pairs = torch.minimum(plane[1:], plane[:-1])
    return torch.minimum(pairs[:, 1:], pairs[:, :-1])


def largest_corner(plane: Shaped[Tensor, "p q"]) -> Shaped[Tensor, "p-1 q-1"]:
    """The largest corner of each cell, from padded samples."""
    pairs = torch.maximum(plane[1:], plane[:-1])
    return torch.maximum(pairs[:, 1:], pairs[:, :-1])


def _corner_indices(map_: Float[Tensor, "C h w"], grid: CellGrid, cells: Cells) -> list[Int64[Tensor, " M"]]:
    """Places of the four samples in a flat plane: top left, top right, bottom left, bottom right."""
    row, column = grid.rows, grid.columns
    return [
        y[cells.row] * map_.shape[2] + x[cells.column]
        for y in (row.before, row.after)
        for x in (column.before, column.after)
    ]


def _corners(map_: Float[Tensor, "C h w"], grid: CellGrid, cells: Cells) -> list[Float[Tensor, "C M"]]:
    flat = map_.flatten(1)
    return [flat.index_select(1, index) for index in _corner_indices(map_, grid, cells)]


def _fractions(grid: CellGrid, cells: Cells) -> tuple[Float32[Tensor, "rows M"], Float32[Tensor, "columns M"]]:
    rows, columns = (axis.fraction.T.index_select(1, index) for axis, index in zip(grid, cells, strict=True))
    return rows, columns


def _places(axis: CellAxis) -> Int64[Tensor, " r"]:
    return torch.arange(axis.fraction.shape[1])


def _axis(from_length: int, to_length: int, length: int, *, align_corners: bool) -> CellAxis:
    sample = np.arange(-1, from_length + 1)
    coordinate = sample_positions(from_length, to_length, length, align_corners=align_corners)
    if align_corners:
        step = (from_length - 1) / max(to_length - 1, 1)
        position = sample * (to_length - 1) / max(from_length - 1, 1)
    else:
        step = from_length / to_length
        position = (2 * sample + 1) * to_length / (2 * from_length) - 0.5

    before = np.floor(coordinate).astype(np.int64)
    cell = before + 1
    count = np.bincount(cell, minlength=from_length + 1)
    start = np.cumsum(count) - count
    place = np.arange(count.max())
    last = np.maximum(count - 1, 0)[:, None]
    inside = np.minimum(start[:, None] + np.minimum(place, last), length - 1)

    return CellAxis(
        before=torch.from_numpy(sample[:-1].clip(0)),
        after=torch.from_numpy(sample[1:].clip(None, from_length - 1)),
        start=torch.from_numpy(start),
        num_pixels=torch.from_numpy(count),
        fraction=torch.from_numpy((coordinate - before)[inside].astype(np.float32)),
        step=step,
        position=None if step == 0 else torch.from_numpy(position.astype(np.float32)),
        cell=torch.from_numpy(cell),
    )
