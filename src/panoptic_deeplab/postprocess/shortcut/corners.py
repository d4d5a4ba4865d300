"""Cells in which every pixel has one answer, known from the four corners.

Inside of a cell, every resized map is a convex mixture of its four samples. Two things follow:

* A class whose score is the largest at all four corners has the largest score at every pixel of the cell.
* A center that is the nearest to where all four corners point is the nearest for every pixel of the cell. (The region
  of the plane that is nearer to one point than to the others is convex; pixel + offset is such a mixture as well.)

So most pixels need no look at their scores. Rounding to float32 could decide otherwise only where two classes or
centers are nearly equal; such cells are left undecided by a margin many times the largest possible error, as are ties.
Undecided cells are worked out pixel by pixel in `undecided.py`; the answer is the same, to the last pixel.

Dimension letters: `C` classes, `K` centers, `h w` samples of the map, `p q` with those thought beyond its border, `Y X`
cells, `R` runs of cells, `G P` groups of samples.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int32, Int64, Shaped, UInt8
from torch import Tensor
from torch.nn import functional as F

from panoptic_deeplab.postprocess.centers import Centers
from panoptic_deeplab.postprocess.merging import Rectangles
from panoptic_deeplab.postprocess.pixels import look_up
from panoptic_deeplab.postprocess.shortcut.bands import for_each_band
from panoptic_deeplab.postprocess.shortcut.candidates import nearest_centers
from panoptic_deeplab.postprocess.shortcut.cells import (
    CellGrid,
    Cells,
    count_pixels,
    largest_corner,
    pad_samples,
    smallest_corner,
)
from panoptic_deeplab.results.run_lengths import find_runs
from panoptic_deeplab.stopwatch import Stopwatch, stage

_EPSILON = torch.finfo(torch.float32).eps

_SCORE_MARGIN = 32 * _EPSILON
"""Relative to the largest score. An interpolated value is off by at most 5 epsilon, so a difference of two by 10."""

_DISTANCE_MARGIN = 64 * _EPSILON
"""Relative to the coordinates. The rounding of offset, target and distance adds up to less than 25 epsilon."""

_LARGEST_SPREAD = 80.0
"""Largest difference of scores for which an exponential neither overflows nor is lost (float32: about 87)."""

_TILE = 8
"""Side of the tiles of samples for which candidate centers are listed."""


class CellLabels(NamedTuple):
    """What holds for all pixels of a cell. Arbitrary where undecided."""

    train_ids: UInt8[Tensor, "Y X"]
    slots: Int32[Tensor, "Y X"]
    """Instance, or K + class; see `merging.py`."""
    is_decided: Bool[Tensor, "Y X"]
    """Also true for cells without a pixel."""
    largest: Float32[Tensor, "h w"]
    """Largest class score of each sample."""


def label_cells(
    logits: Float32[Tensor, "C h w"],
    offset: Float32[Tensor, "2 h w"] | None,
    grid: CellGrid,
    centers: Centers,
    *,
    thing_mask: Bool[Tensor, " C"],
    stopwatch: Stopwatch | None = None,
) -> CellLabels:
    """Decide what can be decided at corners.

    Args:
        logits: class scores.
        offset: `(dy, dx)` in pixels of the network input; None without centers.
        grid: the cells of these maps.
        centers: centers of the image.
        thing_mask: which classes are things.
        stopwatch: measures the stages `upsample + argmax` and `grouping`.
    """
    with stage(stopwatch, "upsample + argmax"):
        samples = _look_at_samples(logits)
        train_ids = pad_samples(samples.train_ids)
        first, last = smallest_corner(train_ids), largest_corner(train_ids)
        is_class_clear = (
            (first == last)
            & (smallest_corner(pad_samples(samples.lead)) > _SCORE_MARGIN * largest_corner(pad_samples(samples.size)))
            & (largest_corner(pad_samples(samples.spread)) < _LARGEST_SPREAD)
        )
        slots = len(centers.valid) + first.to(torch.int32)
        is_decided = is_class_clear
    if offset is not None and centers.valid.any():
        with stage(stopwatch, "grouping"):
            is_thing = look_up(thing_mask, first)
            nearest, is_center_clear = _nearest_of_cells(offset, look_up(thing_mask, train_ids), grid, centers)
            slots = torch.where(is_thing, nearest, slots)
            is_decided = is_class_clear & (is_center_clear | ~is_thing)
    is_empty = count_pixels(grid) == 0
    return CellLabels(train_ids=first, slots=slots, is_decided=is_decided | is_empty, largest=samples.largest)


class DecidedRuns(NamedTuple):
    """Neighboring decided cells of a row with the same answer, as rectangles of pixels."""

    slots: Int32[Tensor, " R"]
    train_ids: UInt8[Tensor, " R"]
    num_pixels: Int64[Tensor, " R"]
    rectangles: Rectangles


def decided_runs(labels: CellLabels, grid: CellGrid) -> DecidedRuns:
    """The decided cells that have pixels, in a short list."""
    counted = (labels.is_decided & (count_pixels(grid) > 0)).numpy()
    slots, train_ids = labels.slots.numpy(), labels.train_ids.numpy()
    runs = find_runs(slots, train_ids, counted)
    keep = runs.of(counted)
    first = runs.starts[keep]
    row, left = (torch.from_numpy(index) for index in np.divmod(first, slots.shape[1]))
    right = left + torch.from_numpy(runs.lengths[keep]) - 1
    rectangles = Rectangles(
        top=grid.rows.start[row],
        bottom=grid.rows.start[row] + grid.rows.num_pixels[row] - 1,
        left=grid.columns.start[left],
        right=grid.columns.start[right] + grid.columns.num_pixels[right] - 1,
    )
    return DecidedRuns(
        slots=torch.from_numpy(slots.reshape(-1)[first]),
        train_ids=torch.from_numpy(train_ids.reshape(-1)[first]),
        num_pixels=(rectangles.bottom - rectangles.top + 1) * (rectangles.right - rectangles.left + 1),
        rectangles=rectangles,
    )


def undecided_cells(labels: CellLabels) -> Cells:
    """The cells that are left, tile by tile, so that neighbors in the list are neighbors in the image."""
    is_undecided = F.pad(~labels.is_decided, _to_whole_tiles(labels.is_decided.shape))
    height, width = is_undecided.shape
    by_tiles = is_undecided.view(height // _TILE, _TILE, width // _TILE, _TILE).transpose(1, 2)
    tile_row, tile_column, row, column = by_tiles.nonzero(as_tuple=True)
    return Cells(row=tile_row * _TILE + row, column=tile_column * _TILE + column)


class _Samples(NamedTuple):
    train_ids: UInt8[Tensor, "h w"]
    largest: Float32[Tensor, "h w"]
    lead: Float32[Tensor, "h w"]
    """Distance from the second largest score to the largest."""
    spread: Float32[Tensor, "h w"]
    """Distance from the smallest score to the largest."""
    size: Float32[Tensor, "h w"]
    """Largest magnitude of a score."""


def _look_at_samples(logits: Float32[Tensor, "C h w"]) -> _Samples:
    num_classes, height, width = logits.shape
    assert num_classes <= 255
    scores = logits.numpy()
    falling = np.arange(num_classes, 0, -1, dtype=np.uint8)[:, None, None]
    train_ids = np.empty((height, width), np.uint8)
    largest, lead, spread, size = np.empty((4, height, width), np.float32)

    def look(rows: slice) -> None:
        some = scores[:, rows]
        some.max(axis=0, out=largest[rows])
        smallest = some.min(axis=0)
        # of equal scores the first: the largest of the numbers C ... 1; several times faster than an argmax
        train_ids[rows] = num_classes - ((some == largest[rows]).view(np.uint8) * falling).max(axis=0)
        others = some.copy()
        np.put_along_axis(others, train_ids[None, rows].astype(np.int64), -np.inf, axis=0)
        lead[rows] = largest[rows] - others.max(axis=0)
        spread[rows] = largest[rows] - smallest
        size[rows] = np.maximum(abs(largest[rows]), abs(smallest))

    for_each_band(look, num_rows=height, elements_a_row=num_classes * width)
    return _Samples(*(torch.from_numpy(map_) for map_ in (train_ids, largest, lead, spread, size)))


def _nearest_of_cells(
    offset: Float32[Tensor, "2 h w"], inside: Bool[Tensor, "p q"], grid: CellGrid, centers: Centers
) -> tuple[Int32[Tensor, "p-1 q-1"], Bool[Tensor, "p-1 q-1"]]:
    """The center of each cell, and where it is clear. Only samples that are `inside` are looked at."""
    row_position, column_position = grid.rows.position, grid.columns.position
    if row_position is None or column_position is None:
        nothing = torch.zeros(grid.size, dtype=torch.int32)
        return nothing, nothing.bool()
    size = inside.shape
    padded = torch.stack([pad_samples(plane) for plane in offset])
    target = torch.stack([padded[0] + row_position[:, None], padded[1] + column_position])
    length = float(len(grid.rows.cell) + len(grid.columns.cell))
    margin = _DISTANCE_MARGIN * (target.abs().amax(dim=0) + padded.abs().amax(dim=0) + length)

    nearest, first, second = (
        _from_tiles(part, size)
        for part in nearest_centers(
            _to_tiles(target), _to_tiles(inside[None])[0], centers, margin=_to_tiles(margin[None])[0]
        )
    )
    lead = second.sqrt() - first.sqrt()
    lowest, highest = smallest_corner(nearest), largest_corner(nearest)
    is_clear = (lowest == highest) & (smallest_corner(lead) > largest_corner(margin))
    return lowest, is_clear


def _to_tiles(planes: Tensor) -> Tensor:
    """(N, h, w) -> (N, G, P), padded with zeros to whole tiles."""
    channels, height, width = planes.shape
    planes = F.pad(planes, _to_whole_tiles((height, width)))
    tiles = planes.view(channels, planes.shape[1] // _TILE, _TILE, planes.shape[2] // _TILE, _TILE)
    return tiles.transpose(2, 3).reshape(channels, -1, _TILE * _TILE)


def _to_whole_tiles(size: tuple[int, ...]) -> tuple[int, int, int, int]:
    return 0, -size[1] % _TILE, 0, -size[0] % _TILE


def _from_tiles(tiles: Shaped[Tensor, "G P"], size: tuple[int, ...]) -> Tensor:
    """The inverse of `_to_tiles` for one plane."""
    height, width = size
    rows, columns = -(-height // _TILE), -(-width // _TILE)
    plane = tiles.view(rows, columns, _TILE, _TILE).transpose(1, 2)
    return plane.reshape(rows * _TILE, columns * _TILE)[:height, :width]
