"""Instances + semantic classes -> segments: majority vote, stuff filter, scores (sections 3.2 and 3.3).

Every pixel falls into one *slot*: slots `0 ... K-1` are the instances, slot `K + c` holds the pixels of class `c` that
no instance has (stuff, and things of an image without centers). `SlotSums` counts what is needed about the slots;
`decide_segments` then turns the sums into one table, and `score_segments` gives its rows their scores. In between, the
slots of instances may be joined (`joining.py`).

Dimension letters: `C` classes, `K` centers, `S = K + C` slots, `H W` the image.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float32, Int32, Int64, Integer, UInt8
from torch import Tensor

from panoptic_deeplab.postprocess.centers import Centers
from panoptic_deeplab.results.ids import VOID_ID

_FIXED_POINT = 2**24
"""Probabilities are summed as integer multiples of 2^-24, the precision of float32 near 1: integer sums do not depend
on the order, neither on the block size nor on devices whose atomic additions come in any order."""

_FAR = torch.iinfo(torch.int64).max


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


class PanopticTensors(NamedTuple):
    """The answer for one image as tensors whose shapes do not depend on the data."""

    panoptic_map: Int32[Tensor, "H W"]
    """Segment ids, 0 = void."""

    semantic_map: UInt8[Tensor, "H W"]
    """Train ids, argmax before merging."""

    table: SegmentTable
    """One row for each of `top_k` possible instances and each class."""

    scores: Float32[Tensor, " S"]
    """Score of each row, see `score_segments`."""


class Rectangles(NamedTuple):
    """Rectangles of pixels, or single pixels; the last row and column belong to them."""

    top: Int64[Tensor, "*N"]
    bottom: Int64[Tensor, "*N"]
    left: Int64[Tensor, "*N"]
    right: Int64[Tensor, "*N"]


class SlotSums:
    """What is counted about the pixels of each slot, of `num_centers` instances and all classes; `S x C` numbers."""

    def __init__(self, num_centers: int, thing_mask: Bool[Tensor, " C"]) -> None:
        num_classes, device = len(thing_mask), thing_mask.device
        num_slots = num_centers + num_classes
        self.num_centers = num_centers
        self.thing_mask = thing_mask
        self.votes = torch.zeros(num_slots, num_classes, dtype=torch.int64, device=device)
        """Pixels of the slot whose argmax is the class."""
        self.low = torch.full((2, num_slots), _FAR, dtype=torch.int64, device=device)
        """Smallest x and y of the slot."""
        self.high = torch.full((2, num_slots), -1, dtype=torch.int64, device=device)
        """Largest x and y."""
        self.probability = torch.zeros(num_slots, dtype=torch.int64, device=device)
        """Fixed-point sum of the probability of the slot's class."""

    def add_pixels(
        self,
        slots: Integer[Tensor, "*N"],
        train_ids: Integer[Tensor, "*N"],
        y: Int64[Tensor, "*N"],
        x: Int64[Tensor, "*N"],
    ) -> None:
        """Count pixels, by the slot, argmax, row and column of each."""
        self.add_rectangles(slots, train_ids, torch.ones_like(y), Rectangles(top=y, bottom=y, left=x, right=x))

    def add_rectangles(
        self,
        slots: Integer[Tensor, "*N"],
        train_ids: Integer[Tensor, "*N"],
        count: Int64[Tensor, "*N"],
        rectangles: Rectangles,
    ) -> None:
        """Count equal pixels together: slot, argmax, number (0 = a repetition) and place of each rectangle."""
        flat_slots = slots.flatten().to(torch.int64)
        vote = flat_slots * len(self.thing_mask) + train_ids.flatten()
        self.votes.view(-1).scatter_add_(0, vote, count.flatten())
        for axis, first, last in ((0, rectangles.left, rectangles.right), (1, rectangles.top, rectangles.bottom)):
            self.low[axis].scatter_reduce_(0, flat_slots, first.flatten(), "amin")
            self.high[axis].scatter_reduce_(0, flat_slots, last.flatten(), "amax")

    def add_probability(self, slots: Integer[Tensor, "*N"], probability: Float32[Tensor, "*N"]) -> None:
        """Add up the probability of the class that the slot has got: of each pixel, or the sum for equal pixels."""
        fixed = probability.flatten().mul(_FIXED_POINT).round_().to(torch.int64)
        self.probability.scatter_add_(0, slots.flatten().to(torch.int64), fixed)

    def vote(self) -> Int64[Tensor, " K"]:
        """The class that most pixels of each instance have; of equal counts the first: the lower train id."""
        return self.votes[: self.num_centers].argmax(dim=1)

    def join(self, into: Int64[Tensor, " S"]) -> None:
        """Count the pixels of each slot for another one, or for itself, before probabilities are added."""
        self.votes = torch.zeros_like(self.votes).index_add_(0, into, self.votes)
        both = into.expand(2, -1)
        self.low = torch.full_like(self.low, _FAR).scatter_reduce_(1, both, self.low, "amin")
        self.high = torch.full_like(self.high, -1).scatter_reduce_(1, both, self.high, "amax")


def decide_segments(sums: SlotSums, *, stuff_area_limit: int, instance_area_limit: int) -> SegmentTable:
    """Vote for the class of each instance, drop what is below its limit (0 keeps all), number what is left."""
    num_centers, thing_mask = sums.num_centers, sums.thing_mask
    device = thing_mask.device
    train_ids = torch.cat([sums.vote(), torch.arange(len(thing_mask), device=device)])
    areas = sums.votes.sum(dim=1)

    is_instance = torch.arange(len(train_ids), device=device) < num_centers
    is_large_instance = is_instance & (areas >= instance_area_limit)
    is_large_stuff = ~is_instance & ~thing_mask[train_ids] & (areas >= stuff_area_limit)
    is_kept = (areas > 0) & (is_large_instance | is_large_stuff)
    segment_ids = torch.where(is_kept, is_kept.cumsum(0), VOID_ID).to(torch.int32)

    boxes = torch.cat([sums.low, sums.high - sums.low + 1]).T
    return SegmentTable(segment_ids=segment_ids, train_ids=train_ids, areas=areas, boxes=boxes)


def score_segments(sums: SlotSums, table: SegmentTable, centers: Centers) -> Float32[Tensor, " S"]:
    """Instances: objectness x mean probability of the class over the mask; stuff: mean probability. 0 if empty."""
    mean_probability = sums.probability.double() / (table.areas.clamp(min=1) * _FIXED_POINT)
    ones = torch.ones(len(sums.thing_mask), dtype=torch.float64, device=mean_probability.device)
    return (torch.cat([centers.scores.double(), ones]) * mean_probability).to(torch.float32)
