"""Majority vote, stuff filter, scores and boxes in operators that every runtime has.

The rules of `postprocess/merging.py`, for a batch, with a table of fixed size. A pixel lies in a *slot*: instances
`0 ... K-1`, then `K + c` for the pixels of class `c` without an instance. What is summed over pixels are integers, so
the order of additions does not matter, and they fit into 32 bits, which is all that OpenVINO has.

Dimension letters: `B` images, `H W` the image, `C` classes, `h` rows of the maps, `K` centers, `S = K + C` slots.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from panoptic_deeplab.export.graph.grouping import ThingPixels
from panoptic_deeplab.export.graph.upsampling import RowPositions, interleave_rows, phases, values_at
from panoptic_deeplab.maps import Size

_FIXED_POINT = 2**17 - 1
"""A probability is summed as a whole number of these parts; the sum over a row of 2^14 pixels is below 2^31."""


class PixelLabels(NamedTuple):
    """What is known of each pixel; `(B, H, W)`."""

    train_ids: Tensor
    """int64: argmax of the class scores; of equal ones the first: the lower train id."""
    largest: Tensor
    """Largest class score."""
    total: Tensor
    """Sum of exp(score - largest): the denominator of the softmax."""


def classify_graph_pixels(logits: Tensor, size: Size, *, align_corners: bool) -> PixelLabels:
    """The class of each pixel of an image, from `(B, C, h, 4 w)` class scores with upsampled columns."""
    parts = []
    for scores in phases(logits, 2, align_corners=align_corners):
        largest = scores.amax(dim=1)
        parts.append((scores.argmax(dim=1), largest, (scores - largest[:, None]).exp().sum(dim=1)))
    height, width = size
    return PixelLabels(*(interleave_rows(list(maps))[:, :height, :width] for maps in zip(*parts, strict=True)))


def decide_graph_segments(
    labels: PixelLabels,
    logits: Tensor,
    rows: RowPositions,
    things: ThingPixels,
    *,
    slots: Tensor,
    center_scores: Tensor,
    thing_mask: Tensor,
    category_ids: Tensor,
    stuff_area_limit: int,
    instance_area_limit: int,
) -> tuple[Tensor, ...]:
    """Vote for the class of each instance, drop small stuff, number, score and list what is left.

    Args:
        labels: the classes of the pixels.
        logits: `(B, C, h, 4 w)` class scores, their columns upsampled.
        rows: where the image's rows lie in the map.
        things: the pixels that may lie in instances, which only things do.
        slots: `(B, H, W)` int64.
        center_scores: `(B, K)`.
        thing_mask: `(C,)` bool.
        category_ids: `(C,)` int64.
        stuff_area_limit: stuff classes with fewer pixels become void; 0 keeps all.
        instance_area_limit: instances with fewer pixels do.

    Returns:
        The fields of `PanopticOutputs`, in their order.
    """
    (batch_size, num_centers), num_classes = center_scores.shape, thing_mask.shape[0]
    num_slots, device = num_centers + num_classes, slots.device
    height, width = slots.shape[1:]
    image = torch.arange(batch_size, device=device)[:, None, None]
    rows_of_batch = slots + image * num_slots  # of tables for all images, one below the other
    in_row = (rows_of_batch * height + torch.arange(height, device=device)[:, None]).flatten()
    in_column = (rows_of_batch * width + torch.arange(width, device=device)).flatten()
    one = torch.ones_like(in_row)
    by_row, by_column = (
        _sum(index, one, batch_size * num_slots * length).view(batch_size, num_slots, length)
        for index, length in ((in_row, height), (in_column, width))
    )
    rows_of_batch = rows_of_batch.flatten()
    thing_slots = rows_of_batch.index_select(0, things.place)
    thing_classes = labels.train_ids.flatten().index_select(0, things.place)
    votes = _sum(
        thing_slots * num_classes + thing_classes, torch.ones_like(thing_slots), batch_size * num_slots * num_classes
    ).view(batch_size, num_slots, num_classes)
    areas = by_row.sum(dim=2)
    classes = torch.arange(num_classes, device=device).expand(batch_size, -1)
    voted = votes[:, :num_centers].argmax(dim=2)  # of equal counts the first: the lower train id
    slot_classes = torch.cat([voted, classes], dim=1)

    is_instance = torch.arange(num_slots, device=device) < num_centers
    is_large_instance = is_instance & (areas >= instance_area_limit)
    is_large_stuff = ~is_instance & ~thing_mask[slot_classes] & (areas >= stuff_area_limit)
    is_kept = (areas > 0) & (is_large_instance | is_large_stuff)
    ids = torch.where(is_kept, is_kept.to(torch.int64).cumsum(dim=1), 0)

    objectness = torch.cat([center_scores, torch.ones_like(classes, dtype=torch.float32)], dim=1)
    thing_classes = slot_classes.flatten().index_select(0, thing_slots)
    own = values_at(logits, rows, things.image, thing_classes, things.y, things.x)
    largest, total = (map_.flatten() for map_ in (labels.largest, labels.total))
    probability = (own - largest.index_select(0, things.place)).exp() / total.index_select(0, things.place)
    probability = (1 / total).scatter(0, things.place, probability)  # stuff has the class of its pixels
    fixed = (probability * _FIXED_POINT).round().to(torch.int64)
    sums = _sum(in_row, fixed, batch_size * num_slots * height).view(batch_size, num_slots, height)
    mean_probability = sums.to(torch.float32).sum(dim=2) / (areas.clamp(min=1).to(torch.float32) * _FIXED_POINT)
    scores = objectness * mean_probability
    left, right = _extent(by_column)
    top, bottom = _extent(by_row)

    # Row n - 1 of the table is segment n; slots that are no segment go to a row behind the last, which is cut off.
    row = torch.where(is_kept, ids - 1, num_slots)

    def listed(values: Tensor, dtype: torch.dtype) -> Tensor:
        table = torch.zeros(batch_size, num_slots + 1, dtype=dtype, device=device)
        return table.scatter(1, row, values.to(dtype))[:, :num_slots]

    box = (left, top, right - left + 1, bottom - top + 1)
    return (
        ids.to(torch.int32).flatten().index_select(0, rows_of_batch).view(slots.shape),
        labels.train_ids.to(torch.uint8),
        listed(ids, torch.int32),
        listed(category_ids[slot_classes], torch.int32),
        listed(scores, torch.float32),
        listed(areas, torch.int32),
        torch.stack([listed(side, torch.int32) for side in box], dim=2),
        is_kept.to(torch.int32).sum(dim=1, dtype=torch.int32),
    )


def _sum(index: Tensor, values: Tensor, length: int) -> Tensor:
    """`(length,)`: the sum of the values that belong to each index."""
    return torch.zeros(length, dtype=values.dtype, device=values.device).scatter_add(0, index, values)


def _extent(counts: Tensor) -> tuple[Tensor, Tensor]:
    """First and last position with a pixel, `(B, S)` each."""
    some = (counts > 0).to(torch.float32)
    return some.argmax(dim=2), counts.shape[2] - 1 - some.flip(2).argmax(dim=2)
