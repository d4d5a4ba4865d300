"""Which center each thing pixel belongs to: the one nearest to where its offset points (section 3.2).

    k(i, j) = argmin_k || C_k - ((i, j) + O(i, j)) ||^2

The answer is exactly that of this formula in float32, ties to the lower center index, but a K x H x W array of
distances is never built. Cost: CPU, about (candidate centers of a group) x points, a handful instead of K on trained
networks and K at worst; other devices, K x points in chunks, without any synchronization with the host.

Dimension letters: `K` centers, `G` groups of points that lie close together, `P` points a group, `L` candidates.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

from panoptic_deeplab.postprocess.centers import Centers

_CHUNK_ELEMENTS = 2**24
"""Distances held at once where all centers are compared."""

_STEP_ELEMENTS = 2**15
"""Distances worth a step of the loop over candidates: short steps take several candidates at once."""


class NearestCenters(NamedTuple):
    """The answer for each point. Arbitrary for points outside."""

    nearest: Int32[Tensor, "G P"]
    """Index of the center."""
    first: Float[Tensor, "G P"]
    """Squared distance of the nearest center."""
    second: Float[Tensor, "G P"]
    """Squared distance of the next one; infinity if it is more than twice the margin farther away."""


def group_points(
    target: Float[Tensor, "2 G P"], is_thing: Bool[Tensor, "G P"], centers: Centers
) -> Int32[Tensor, "G P"]:
    """Assign points to centers.

    Args:
        target: float32 `(y, x)` in pixels of the network input: where each pixel points, pixel + offset.
        is_thing: the points to assign.
        centers: of one image (no batch dimension); padding at infinity.

    Returns:
        Index of the nearest center; `K` where the pixel is no thing or the image has no center.
    """
    num_centers = len(centers.valid)
    none = torch.full_like(is_thing, num_centers, dtype=torch.int32)
    if num_centers == 0:
        return none
    if target.device.type != "cpu":
        return torch.where(is_thing & centers.valid.any(), _nearest_of_all(target, centers), none)
    if not centers.valid.any():
        return none
    return torch.where(is_thing, nearest_centers(target, is_thing, centers).nearest, none)


def nearest_centers(
    target: Float[Tensor, "2 G P"],
    inside: Bool[Tensor, "G P"],
    centers: Centers,
    *,
    margin: Float[Tensor, "G P"] | None = None,
) -> NearestCenters:
    """Compare each point only with centers that can be nearest to some point of its group.

    Points of a group lie close together. Their bounding box gives a lower and an upper bound of the distance to each
    center. A center whose lower bound exceeds the smallest upper bound of all is not the nearest of any point.
    Rounding is monotonic and the bounds are computed by the very formula of the distance, so this holds exactly in
    float32, without a tolerance.

    Args:
        target: `(y, x)`.
        inside: the points that matter.
        centers: of one image, one at least.
        margin: how far behind the nearest center the next one has to be found, in pixels. None = it is not needed.
    """
    shape = inside.shape
    low = torch.where(inside, target, torch.inf).amin(dim=2)
    high = torch.where(inside, target, -torch.inf).amax(dim=2)
    slack = torch.zeros(len(inside)) if margin is None else 2 * torch.where(inside, margin, 0.0).amax(dim=1)
    groups = (low[0] <= high[0]).nonzero()[:, 0]  # those with a point inside
    candidates, counts = _candidates(low[:, groups], high[:, groups], slack[groups], centers)
    points = torch.cat([centers.points.T, torch.full((2, 1), torch.inf)], dim=1)  # number K stands for none

    # Longest lists first: the groups that still have a candidate number `rank` are then the first ones.
    counts, order = counts.sort(descending=True)
    candidates, groups = candidates[order], groups[order]
    target = target[:, groups]
    nearest = torch.zeros(target.shape[1:], dtype=torch.int32)
    first = torch.full_like(target[0], torch.inf)
    second = first.clone()
    num_active = (counts[:, None] > torch.arange(candidates.shape[1])).sum(dim=0).tolist()
    rank = 0
    while rank < len(num_active):
        active = num_active[rank]
        some = candidates[:active, rank : rank + max(1, _STEP_ELEMENTS // (active * shape[1]))]
        distance = _squared_distance(target[:, None, :active], points[:, some.T][..., None])
        found, which = (distance[0], None) if len(distance) == 1 else distance.min(dim=0)  # of equal ones the first
        best, next_best = first[:active], second[:active]
        if margin is not None:
            torch.minimum(next_best, torch.maximum(best, found), out=next_best)
            if which is not None:
                torch.minimum(next_best, distance.scatter_(0, which[None], torch.inf).amin(dim=0), out=next_best)
        center = some if which is None else some.gather(1, which)
        torch.where(found < best, center.to(torch.int32), nearest[:active], out=nearest[:active])  # <: the first stays
        torch.minimum(best, found, out=best)
        rank += len(distance)

    answers = NearestCenters(nearest=nearest, first=first, second=second)
    return NearestCenters(*(answer.new_zeros(shape).index_copy_(0, groups, answer) for answer in answers))


def _nearest_of_all(target: Float[Tensor, "2 G P"], centers: Centers) -> Int32[Tensor, "G P"]:
    """Compare with every center: plain operators and shapes that do not depend on the data."""
    points = centers.points
    chunk = max(1, _CHUNK_ELEMENTS // points.shape[0])
    nearest = [
        _squared_distance(part[:, :, None], points.T[:, None]).argmin(dim=1)  # argmin: the first of equal ones
        for part in torch.split(target.flatten(1), chunk, dim=1)
    ]
    return torch.cat(nearest).to(torch.int32).view(target.shape[1:])


def _candidates(
    low: Float[Tensor, "2 G"], high: Float[Tensor, "2 G"], slack: Float[Tensor, " G"], centers: Centers
) -> tuple[Int64[Tensor, "G L"], Int64[Tensor, " G"]]:
    """For each box, the centers that can be nearest to a point in it, ascending and filled up with K; their number."""
    # A quick look at all: which are not much farther from the middle of the box than the nearest?
    middle, radius = (low + high) / 2, _squared_length(high - low).sqrt() / 2
    points = centers.points[: int(centers.valid.sum())].T  # padding comes last
    from_middle = _squared_distance(middle[:, :, None], points[:, None])
    reach = from_middle.amin(dim=1).sqrt() + 2 * radius + slack
    reach = 1.001 * reach + 1e-5 * (middle.abs().amax(dim=0) + radius)  # far more than rounding
    is_near = from_middle <= reach.square()[:, None]
    group, center = (torch.from_numpy(index) for index in is_near.numpy().nonzero())  # faster than PyTorch's

    low, high, points = low[:, group], high[:, group], points[:, center]
    lower_bound = _squared_distance(points.clamp(low, high), points)
    upper_bound = torch.full_like(slack, torch.inf)
    upper_bound.scatter_reduce_(0, group, _squared_length(torch.maximum(points - low, high - points)), "amin")
    upper_bound = torch.where(slack > 0, (upper_bound.sqrt() + slack).square(), upper_bound)
    possible = lower_bound <= upper_bound[group]
    group, center = group[possible], center[possible]

    counts = torch.bincount(group, minlength=len(slack))
    rank = torch.arange(len(group)) - (counts.cumsum(0) - counts)[group]
    candidates = torch.full((len(counts), max([0, *counts.tolist()])), len(centers.valid))
    candidates[group, rank] = center
    return candidates, counts


def _squared_distance(a: Float[Tensor, "2 *a"], b: Float[Tensor, "2 *b"]) -> Float[Tensor, "*c"]:
    """The one formula of the distance. `a` and `b` broadcast against each other."""
    difference = a - b
    return _squared_length(difference)


def _squared_length(difference: Float[Tensor, "2 *a"]) -> Float[Tensor, "*a"]:
    """Works in place."""
    difference *= difference
    return difference[0].add_(difference[1])
