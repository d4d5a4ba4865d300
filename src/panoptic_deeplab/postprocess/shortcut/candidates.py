"""The nearest center of points that lie close together, with few comparisons: `grouping.py` without most distances.

Points of a group lie close together. Their bounding box gives a lower and an upper bound of the distance to each
center. A center whose lower bound exceeds the smallest upper bound of all is not the nearest of any point. Rounding is
monotonic and the bounds are computed by the very formula of the distance, so this holds exactly in float32, without a
tolerance. Cost: about (candidate centers of a group) x points, a handful instead of K on trained networks and K at
worst.

Dimension letters: `K` centers, `G` groups of points, `P` points a group; `N` pairs of a group and a center, `g` groups
that still have a candidate.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from panoptic_deeplab.postprocess.centers import Centers
from panoptic_deeplab.postprocess.grouping import squared_distance, squared_length

_STEP_ELEMENTS = 2**15
"""Distances that are worth one operation and stay in the cache: short steps take several candidates at once."""


class NearestCenters(NamedTuple):
    """The answer for each point. Arbitrary for points outside."""

    nearest: Int32[Tensor, "G P"]
    """Index of the center."""
    first: Float[Tensor, "G P"]
    """Squared distance of the nearest center."""
    second: Float[Tensor, "G P"]
    """Squared distance of the next one; infinity if it is more than twice the margin farther away."""


def nearest_centers(
    target: Float[Tensor, "2 G P"],
    inside: Bool[Tensor, "G P"],
    centers: Centers,
    *,
    margin: Float[Tensor, "G P"] | None = None,
) -> NearestCenters:
    """Compare each point only with centers that can be nearest to some point of its group.

    Args:
        target: `(y, x)` in pixels of the network input.
        inside: the points that matter.
        centers: centers of the image, one at least.
        margin: how far behind the nearest center the next one has to be found, in pixels. None = it is not needed.
    """
    shape = inside.shape
    low = torch.where(inside, target, torch.inf).amin(dim=2)
    high = torch.where(inside, target, -torch.inf).amax(dim=2)
    slack = torch.zeros(len(inside)) if margin is None else 2 * torch.where(inside, margin, 0.0).amax(dim=1)
    groups = (low[0] <= high[0]).nonzero()[:, 0]  # those with a point inside
    boxes = (low.index_select(1, groups), high.index_select(1, groups), slack.index_select(0, groups))
    order, ranks = _candidates(*boxes, centers)
    points = torch.cat([centers.points.T, torch.full((2, 1), torch.inf)], dim=1)  # number K stands for none

    groups = groups.index_select(0, order)
    target = target.index_select(1, groups)
    nearest = torch.zeros(target.shape[1:], dtype=torch.int32)
    first = torch.full_like(target[0], torch.inf)
    second = first.clone()
    while ranks:
        active = len(ranks[0])  # the groups that still have a candidate are the first ones
        count = max(1, _STEP_ELEMENTS // (active * shape[1]))
        some = pad_sequence(list(ranks[:count]), batch_first=True, padding_value=len(centers.valid))
        ranks = ranks[count:]
        coordinates = points.index_select(1, some.flatten()).view(2, *some.shape, 1)
        distance = squared_distance(target[:, None, :active], coordinates)
        found, which = (distance[0], None) if len(distance) == 1 else distance.min(dim=0)  # of equal ones the first
        best, next_best = first[:active], second[:active]
        if margin is not None:
            torch.minimum(next_best, torch.maximum(best, found), out=next_best)
            if which is not None:
                torch.minimum(next_best, distance.scatter_(0, which[None], torch.inf).amin(dim=0), out=next_best)
        center = some[0, :, None] if which is None else some.T.gather(1, which)
        is_nearer = np.less(found.numpy(), best.numpy())  # <: of equal ones the first stays
        np.copyto(nearest.numpy()[:active], center.numpy(), casting="same_kind", where=is_nearer)
        torch.minimum(best, found, out=best)

    answers = NearestCenters(nearest=nearest, first=first, second=second)
    return NearestCenters(*(answer.new_zeros(shape).index_copy_(0, groups, answer) for answer in answers))


def _candidates(
    low: Float[Tensor, "2 G"], high: Float[Tensor, "2 G"], slack: Float[Tensor, " G"], centers: Centers
) -> tuple[Int64[Tensor, " G"], tuple[Int64[Tensor, " g"], ...]]:
    """The boxes, those with most candidates first, and their candidates: centers that can be nearest to a point in it.

    First the first candidate of each box, then the second of those that have one, and so on; those of a box ascend.
    """
    group, center = _centers_around(low, high, slack, centers)
    low, high = low.index_select(1, group), high.index_select(1, group)
    points = centers.points.index_select(0, center).T
    lower_bound = squared_distance(points.clamp(low, high), points)
    upper_bound = torch.full_like(slack, torch.inf)
    upper_bound.scatter_reduce_(0, group, squared_length(torch.maximum(points - low, high - points)), "amin")
    upper_bound = torch.where(slack > 0, (upper_bound.sqrt() + slack).square(), upper_bound)
    possible = lower_bound <= upper_bound.index_select(0, group)
    group, center = group[possible], center[possible]

    counts = torch.bincount(group, minlength=len(slack))
    rank = torch.arange(len(group)) - (counts.cumsum(0) - counts).index_select(0, group)
    order = counts.argsort(descending=True)
    position = torch.empty_like(order).index_copy_(0, order, torch.arange(len(order)))
    length = torch.bincount(rank)  # how many boxes have a candidate of this rank
    start = length.cumsum(0) - length
    by_rank = torch.empty_like(center)
    by_rank[start.index_select(0, rank) + position.index_select(0, group)] = center
    return order, torch.split(by_rank, length.tolist())


def _centers_around(
    low: Float[Tensor, "2 G"], high: Float[Tensor, "2 G"], slack: Float[Tensor, " G"], centers: Centers
) -> tuple[Int64[Tensor, " N"], Int64[Tensor, " N"]]:
    """A quick look: box and center of all pairs in which the center is not much farther from the box than the nearest.

    Sorted by boxes, then by centers. Comparisons are NumPy's, which are several times faster.
    """
    middle, radius = (low + high) / 2, squared_length(high - low).sqrt() / 2
    slack = slack + 2 * radius + 1e-5 * (middle.abs().amax(dim=0) + radius)  # far more than rounding
    points = centers.points[: int(centers.valid.sum())].T  # padding comes last
    pairs = []
    step = max(1, _STEP_ELEMENTS // points.shape[1])
    for first in range(0, len(slack), step):
        block = slice(first, first + step)
        distance = squared_distance(middle[:, block, None], points[:, None])
        reach = 1.001 * distance.amin(dim=1).sqrt() + 1.001 * slack[block]
        near = np.flatnonzero(distance.numpy() <= reach.square().numpy()[:, None])
        pairs.append(torch.from_numpy(near) + first * points.shape[1])
    pair = torch.cat([torch.empty(0, dtype=torch.int64), *pairs])
    return pair // points.shape[1], pair % points.shape[1]
