"""Averages of predictions of one image: what several scales, mirrored images and several models have in common.

    RawMaps ─▶ Estimate ─▶ mirrored / resized to one grid ─▶ Average.add ... Average.mean ─▶ RawMaps

Probabilities are averaged, not logits: one model's logits may be any constant away from another's. The mean goes on as
its logarithm, which is a logit again (softmax undoes it exactly), so everything after the network stays as it is.
Heatmaps and offsets are averaged as they are, once offsets have the unit and the direction of the common grid.

Dimension letters: `B` images, `C` classes, `h w` the maps.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float32
from torch import Tensor

from panoptic_deeplab.maps import RawMaps, Size, size_of, upsample, upsample_offset


class Estimate(NamedTuple):
    """`RawMaps` in a form that can be averaged; float32 tensors of their own."""

    probability: Float32[Tensor, "B C h w"]
    """Probability of each class; sums to 1 over C."""

    center_heatmap: Float32[Tensor, "B 1 h w"] | None
    """The heatmap, as in `RawMaps`."""

    offset: Float32[Tensor, "B 2 h w"] | None
    """The offsets, as in `RawMaps`: `(dy, dx)` in pixels of this map."""


def to_estimate(raw_maps: RawMaps) -> Estimate:
    """Probabilities in place of logits; nothing is shared with `raw_maps`."""
    heatmap, offset = raw_maps.center_heatmap, raw_maps.offset
    return Estimate(
        probability=raw_maps.semantic_logits.softmax(dim=1, dtype=torch.float32),
        center_heatmap=None if heatmap is None else heatmap.to(torch.float32, copy=True),
        offset=None if offset is None else offset.to(torch.float32, copy=True),
    )


def to_raw_maps(estimate: Estimate) -> RawMaps:
    """The inverse of `to_estimate`, up to what softmax takes away; works in place, so `estimate` is spent.

    A probability of 0 becomes the smallest one that float32 has, since minus infinity could not be interpolated.
    """
    logits = estimate.probability.clamp_(min=torch.finfo(torch.float32).tiny).log_()
    return RawMaps(semantic_logits=logits, center_heatmap=estimate.center_heatmap, offset=estimate.offset)


def mirrored(raw_maps: RawMaps) -> RawMaps:
    """The maps of the left-right mirrored image: columns in reverse order, and the way to a center with them."""
    heatmap, offset = raw_maps.center_heatmap, raw_maps.offset
    if offset is not None:
        offset = offset.flip(-1)
        offset[:, 1].neg_()
    return RawMaps(
        semantic_logits=raw_maps.semantic_logits.flip(-1),
        center_heatmap=None if heatmap is None else heatmap.flip(-1),
        offset=offset,
    )


def resized(estimate: Estimate, size: Size, *, align_corners: bool) -> Estimate:
    """The estimate on a grid of `size`, with offsets in pixels of that grid."""
    if size_of(estimate.probability) == size:
        return estimate
    heatmap, offset = estimate.center_heatmap, estimate.offset
    return Estimate(
        probability=upsample(estimate.probability, size, align_corners=align_corners),
        center_heatmap=None if heatmap is None else upsample(heatmap, size, align_corners=align_corners),
        offset=None if offset is None else upsample_offset(offset, size, align_corners=align_corners),
    )


class Average:
    """The mean of estimates on one grid, summed in place: memory does not grow with their number."""

    def __init__(self) -> None:
        self._sum: Estimate | None = None
        self._count = 0

    def add(self, estimate: Estimate) -> None:
        """Add one of equal weight; the tensors of the first one become the sum."""
        self._count += 1
        if self._sum is None:
            self._sum = estimate
            return
        for total, summand in zip(self._sum, estimate, strict=True):
            assert (total is None) == (summand is None), "all estimates have instance maps, or none has"
            if total is not None and summand is not None:
                total.add_(summand)

    @property
    def size(self) -> Size:
        """Size of the grid."""
        assert self._sum is not None, "an average without estimates has no size"
        return size_of(self._sum.probability)

    def mean(self) -> Estimate:
        """Divide in place; the end of this average."""
        assert self._sum is not None, "an average needs an estimate"
        for total in self._sum:
            if total is not None and self._count > 1:
                total.div_(self._count)
        return self._sum
