"""Instances + semantic classes -> segments: majority vote, stuff filter, scores (sections 3.2 and 3.3).

Every pixel falls into one *slot*: slots `0 ... K-1` are the instances, slot `K + c` holds the pixels of class `c` that
no instance has (stuff, and things of an image without centers). `SlotSums` counts what is needed about the slots, a
block of rows at a time; `decide_segments` then turns the sums into one table.

Dimension letters: `C` classes, `K` centers, `S = K + C` slots, `H W` a block of rows.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float32, Int32, Int64
from torch import Tensor

from panoptic_deeplab.encoding import VOID_ID
from panoptic_deeplab.postprocess.centers import Centers

_FIXED_POINT = 2**24
"""Probabilities are summed as integer multiples of 2^-24, the precision of float32 near 1: integer sums do not depend
on the order, so scores are the same for any block size, and on devices whose atomic additions come in any order."""


class SegmentTable(NamedTuple):
    """What has become of each slot."""

    segment_ids: Int32[Tensor, " S"]
    """1 ... N: instances, the strongest center first, then stuff in the order of train ids. 0 = void or empty."""

    train_ids: Int64[Tensor, " S"]
    """The voted class of an instance; `c` for slot `K + c`."""

    areas: Int64[Tensor, " S"]
    """Pixels."""

    boxes: Int64[Tensor, "S 4"]
    """COCO order: `(x, y, width, height)` in pixels. Meaningless in an empty slot."""

    scores: Float32[Tensor, " S"]
    """Instance: objectness x mean probability of its class over its mask; stuff: mean probability. 0 if empty."""


class SlotSums:
    """What is counted about the pixels of each slot; `S x C` numbers.

    Args:
        num_centers: K.
        thing_mask: which classes are things.
    """

    def __init__(self, num_centers: int, thing_mask: Bool[Tensor, " C"]) -> None:
        num_classes, device = len(thing_mask), thing_mask.device
        num_slots = num_centers + num_classes
        largest = torch.iinfo(torch.int64).max
        self.num_centers = num_centers
        self.thing_mask = thing_mask
        self.votes = torch.zeros(num_slots, num_classes, dtype=torch.int64, device=device)
        """Pixels of the slot whose argmax is the class."""
        self.probability = torch.zeros(num_classes, num_slots, dtype=torch.int64, device=device)
        """Fixed-point sum of the probability of the class over the slot."""
        self.extent = torch.full((4, num_slots), largest, dtype=torch.int64, device=device)
        """Minimum of x, y, -x, -y over the slot."""

    def add(
        self,
        slots: Int64[Tensor, "H W"],
        train_ids: Int64[Tensor, "H W"],
        probability: Float[Tensor, "C H W"],
        *,
        first_row: int,
    ) -> None:
        """Count a block of rows.

        Args:
            slots: of each pixel.
            train_ids: argmax of each pixel.
            probability: softmax over the classes.
            first_row: row of the image with which the block begins.
        """
        (height, width), num_classes = slots.shape, len(self.thing_mask)
        flat_slots = slots.flatten()
        vote = flat_slots * num_classes + train_ids.flatten()
        self.votes.view(-1).scatter_add_(0, vote, torch.ones_like(vote))

        fixed = probability.flatten(1).mul(_FIXED_POINT).round_().to(torch.int64)
        self.probability.scatter_add_(1, flat_slots.expand(num_classes, -1), fixed)

        y = torch.arange(first_row, first_row + height, device=slots.device)[:, None].expand(height, width)
        x = torch.arange(width, device=slots.device).expand(height, width)
        corners = torch.stack([x, y, -x, -y]).flatten(1)
        self.extent.scatter_reduce_(1, flat_slots.expand(4, -1), corners, "amin")


def decide_segments(sums: SlotSums, centers: Centers, *, stuff_area_limit: int) -> SegmentTable:
    """Vote for the class of each instance, drop small stuff, number and score what is left.

    Args:
        sums: over the whole image.
        centers: of this image (no batch dimension).
        stuff_area_limit: stuff classes with fewer pixels become void; 0 keeps all.
    """
    num_centers, thing_mask = sums.num_centers, sums.thing_mask
    device = thing_mask.device
    classes = torch.arange(len(thing_mask), device=device)
    voted = sums.votes[:num_centers].argmax(dim=1)  # of equal counts the first: the lower train id
    train_ids = torch.cat([voted, classes])
    areas = sums.votes.sum(dim=1)

    is_instance = torch.arange(len(train_ids), device=device) < num_centers
    is_large_stuff = ~thing_mask[train_ids] & (areas >= stuff_area_limit)
    is_kept = (areas > 0) & (is_instance | is_large_stuff)
    segment_ids = torch.where(is_kept, is_kept.cumsum(0), VOID_ID).to(torch.int32)

    total = sums.probability.gather(0, train_ids[None])[0]
    mean_probability = total.double() / (areas.clamp(min=1) * _FIXED_POINT)
    objectness = torch.cat([centers.scores.double(), torch.ones(len(classes), dtype=torch.float64, device=device)])
    scores = (objectness * mean_probability).to(torch.float32)

    low_x, low_y, minus_high_x, minus_high_y = sums.extent
    boxes = torch.stack([low_x, low_y, 1 - minus_high_x - low_x, 1 - minus_high_y - low_y], dim=1)
    return SegmentTable(segment_ids=segment_ids, train_ids=train_ids, areas=areas, boxes=boxes, scores=scores)
