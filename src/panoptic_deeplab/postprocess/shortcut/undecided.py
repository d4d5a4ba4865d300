"""The pixels of cells that their corners do not decide, one by one: the rules of `pixels.py` and `grouping.py`.

Dimension letters: `C` classes, `h w` the map, `M` cells, `J` places for pixels in a cell, `K` centers, `G P` groups of
pixels.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float32, Int32, Int64
from torch import Tensor

from panoptic_deeplab.postprocess.centers import Centers
from panoptic_deeplab.postprocess.pixels import PixelClasses, classify, look_up
from panoptic_deeplab.postprocess.shortcut.candidates import nearest_centers
from panoptic_deeplab.postprocess.shortcut.cells import (
    CellGrid,
    Cells,
    interpolate,
    interpolate_channel,
    pixel_rows_and_columns,
    split_cells,
)
from panoptic_deeplab.stopwatch import Stopwatch, stage

_BLOCK_ELEMENTS = 2**18
"""Class scores interpolated at once: what stays in the cache."""

_CELLS_A_GROUP = 4
"""So many cells of the list, which lie side by side, share a list of candidate centers."""


class LabeledPixels(NamedTuple):
    """What is known of the pixels of some cells."""

    classes: PixelClasses
    """J x M."""
    slots: Int32[Tensor, "J M"]
    """Instance, or K + class; see `merging.py`."""


def label_pixels(
    logits: Float32[Tensor, "C h w"],
    offset: Float32[Tensor, "2 h w"] | None,
    grid: CellGrid,
    cells: Cells,
    centers: Centers,
    *,
    thing_mask: Bool[Tensor, " C"],
    stopwatch: Stopwatch | None = None,
) -> LabeledPixels:
    """Find classes and instances of all pixels of some cells.

    Args:
        cells: which to work on; neighbors should lie side by side. All other arguments are those of `label_cells`.
    """
    with stage(stopwatch, "upsample + argmax"):
        blocks = split_cells(cells, max(1, _BLOCK_ELEMENTS // (len(logits) * grid.num_places)))
        parts = [classify(interpolate(logits, grid, block)) for block in blocks]
        classes = PixelClasses(*(torch.cat(maps, dim=1) for maps in zip(*parts, strict=True)))
        slots = len(centers.valid) + classes.train_ids.to(torch.int32)
    if offset is not None and centers.valid.any():
        with stage(stopwatch, "grouping"):
            target = interpolate(offset, grid, cells) + torch.stack(pixel_rows_and_columns(grid, cells))
            is_thing = look_up(thing_mask, classes.train_ids)
            nearest = nearest_centers(_to_groups(target), _to_groups(is_thing[None])[0], centers).nearest
            slots = torch.where(is_thing, _from_groups(nearest, slots.shape), slots)
    return LabeledPixels(classes, slots)


def probability_of(
    train_ids: Int64[Tensor, "J M"],
    classes: PixelClasses,
    logits: Float32[Tensor, "C h w"],
    grid: CellGrid,
    cells: Cells,
) -> Float32[Tensor, "J M"]:
    """Softmax probability of one class for each pixel, with what was found of these pixels."""
    score = interpolate_channel(logits, train_ids, grid, cells)
    return (score - classes.largest).exp_() / classes.total


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
