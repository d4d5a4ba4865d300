"""Pixel by pixel: class, instance and probability, for the cells whose corners do not decide (`corners.py`).

On a device other than the CPU these are all cells: choosing some would need a look at the data, for which the host
would have to wait. There is one definition of every value here, and `corners.py` is a short cut to the same answer.

Dimension letters: `C` classes, `h w` the map, `M` cells, `J` places for pixels in a cell, `K` centers.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float32, Int32, Int64, UInt8
from torch import Tensor

from panoptic_deeplab.postprocess.cells import (
    CellGrid,
    Cells,
    interpolate,
    interpolate_channel,
    look_up,
    pixel_rows_and_columns,
    split_cells,
)
from panoptic_deeplab.postprocess.centers import Centers
from panoptic_deeplab.postprocess.grouping import group_points
from panoptic_deeplab.stopwatch import Stopwatch, stage

_CELLS_A_GROUP = 4
"""So many cells of the list, which lie side by side, share a list of candidate centers."""


class PixelLabels(NamedTuple):
    """What is known of the pixels of some cells."""

    train_ids: UInt8[Tensor, "J M"]
    """Argmax of the class scores; of equal ones the first: the lower train id."""
    slots: Int32[Tensor, "J M"]
    """Instance, or K + class; see `merging.py`."""
    largest: Float32[Tensor, "J M"]
    """Largest class score."""
    total: Float32[Tensor, "J M"]
    """Sum of exp(score - largest): the denominator of the softmax."""


def label_pixels(
    logits: Float32[Tensor, "C h w"],
    offset: Float32[Tensor, "2 h w"],
    grid: CellGrid,
    cells: Cells,
    centers: Centers,
    *,
    thing_mask: Bool[Tensor, " C"],
    block_elements: int,
    stopwatch: Stopwatch | None = None,
) -> PixelLabels:
    """Classes and instances of all pixels of some cells.

    Args:
        logits: class scores.
        offset: `(dy, dx)` in pixels of the network input.
        grid: the cells of these maps.
        cells: which to work on; neighbors should lie side by side.
        centers: of the image (no batch dimension).
        thing_mask: which classes are things.
        block_elements: how many class scores to work on at once.
        stopwatch: measures the stages `upsample + argmax` and `grouping`.
    """
    with stage(stopwatch, "upsample + argmax"):
        blocks = split_cells(cells, max(1, block_elements // (len(logits) * grid.num_places)))
        parts = [_classify(interpolate(logits, grid, block)) for block in blocks]
        train_ids, largest, total = (torch.cat(maps, dim=1) for maps in zip(*parts, strict=True))
        slots = len(centers.valid) + train_ids.to(torch.int32)
    if len(centers.valid) > 0:
        with stage(stopwatch, "grouping"):
            target = interpolate(offset, grid, cells) + torch.stack(pixel_rows_and_columns(grid, cells))
            groups = _to_groups(target), _to_groups(look_up(thing_mask, train_ids)[None])[0]
            nearest = _from_groups(group_points(*groups, centers), slots.shape)
            slots = torch.where(nearest < len(centers.valid), nearest, slots)
    return PixelLabels(train_ids=train_ids, slots=slots, largest=largest, total=total)


def _classify(
    scores: Float32[Tensor, "C J m"],
) -> tuple[UInt8[Tensor, "J m"], Float32[Tensor, "J m"], Float32[Tensor, "J m"]]:
    """Train id, largest score, sum of exp(score - largest). Works in place."""
    num_classes = len(scores)
    assert num_classes <= 255
    largest = scores.amax(dim=0)
    # Of equal scores the first: the largest of the numbers C ... 1. Several times faster on a CPU than an argmax.
    falling = torch.arange(num_classes, 0, -1, dtype=torch.uint8, device=scores.device)[:, None, None]
    train_ids = num_classes - ((scores == largest) * falling).amax(dim=0)
    return train_ids, largest, scores.sub_(largest).exp_().sum(dim=0)


def probability_of(
    train_ids: Int64[Tensor, "J M"],
    labels: PixelLabels,
    logits: Float32[Tensor, "C h w"],
    grid: CellGrid,
    cells: Cells,
) -> Float32[Tensor, "J M"]:
    """Softmax probability of one class for each pixel.

    Args:
        train_ids: the classes.
        labels: of these cells.
        logits: class scores.
        grid: the cells of the map.
        cells: of the labels.
    """
    score = interpolate_channel(logits, train_ids, grid, cells)
    return (score - labels.largest).exp_() / labels.total


def _to_groups(planes: Tensor) -> Tensor:
    """(N, J, M) -> (N, G, P), padded with zeros to whole groups."""
    channels, places, cells = planes.shape
    planes = torch.nn.functional.pad(planes, (0, -cells % _CELLS_A_GROUP))
    groups = planes.view(channels, places, -1, _CELLS_A_GROUP).permute(0, 2, 3, 1)
    return groups.reshape(channels, -1, _CELLS_A_GROUP * places)


def _from_groups(groups: Int32[Tensor, "G P"], shape: tuple[int, ...]) -> Int32[Tensor, "J M"]:
    """The inverse of `_to_groups` for one plane."""
    places, cells = shape
    return groups.view(-1, places).T[:, :cells]
