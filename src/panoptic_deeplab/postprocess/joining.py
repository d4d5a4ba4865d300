"""Neighboring instances of one class with a long common border are one: `join_border_fraction`, which the paper lacks.

A large object often has several peaks in the heatmap and falls into pieces, whose borders with each other are straight
cuts through it. Objects that only touch have a short common border.

    border of two instances   pairs of pixels side by side or one above the other, one of each instance
    outline of an instance    pairs of one of its pixels and one of anything else; the image's edge is none of it
    joined                    two instances that were voted the same class, if border / shorter outline >= fraction

All borders are those before joining: there is one pass. What is joined to the same is joined, so the order does not
matter, and a whole may reach far. It is in the slot of its strongest center, which gives it its place in the order and
its objectness; area, box and mean probability are those of all its pixels. No vote changes: the class that most pixels
of each part have is that of most pixels of the whole. `instance_area_limit` is for wholes; `top_k` counted centers
before. Instances with void or stuff between them have no border, and stay apart.

Here every pair of slots has a place, so shapes do not depend on the data, and nothing waits for the device;
`borders.py` lists the few that touch. Ratios are float32 in both.

Dimension letters: `B` images, `C` classes, `K` centers, `S = K + C` slots, `H W` the image.
"""

import torch
from jaxtyping import Int64, Integer
from torch import Tensor


def border_lengths(slots: Integer[Tensor, "H W"], num_slots: int) -> Int64[Tensor, "S S"]:
    """The length of the border of each two slots, in pixel edges; 0 of a slot with itself.

    Args:
        slots: slot of each pixel.
        num_slots: S.
    """
    lengths = torch.zeros(num_slots * num_slots, dtype=torch.int64, device=slots.device)
    for one, other in ((slots[:-1], slots[1:]), (slots[:, :-1], slots[:, 1:])):
        pair = one.to(torch.int64) * num_slots + other
        lengths.scatter_add_(0, pair.flatten(), (one != other).flatten().to(torch.int64))
    lengths = lengths.view(num_slots, num_slots)
    return lengths + lengths.T


def slots_of_wholes(
    lengths: Int64[Tensor, "*B S S"], voted: Int64[Tensor, "*B K"], *, fraction: float
) -> Int64[Tensor, "*B S"]:
    """The slot that each slot's pixels belong to after joining: that of the whole's strongest center, or its own.

    Args:
        lengths: border of each two slots, in both orders.
        voted: class of each instance; there is one at least.
        fraction: `join_border_fraction`.
    """
    num_slots, num_centers = lengths.shape[-1], voted.shape[-1]
    outline = lengths.sum(dim=-1)[..., :num_centers].to(torch.float32)
    border = lengths[..., :num_centers, :num_centers].to(torch.float32)
    shorter = torch.minimum(outline[..., :, None], outline[..., None, :]).clamp(min=1)
    is_one_class = voted[..., :, None] == voted[..., None, :]
    is_joined = is_one_class & (border > 0) & (border / shorter >= fraction)
    index = torch.arange(num_slots, device=lengths.device)
    itself = index[:num_centers, None] == index[:num_centers]
    # Which instances can be reached over 1, 2, 4, ... borders: the square of a matrix of zeros and ones.
    reached = (is_joined | itself).to(torch.float32)
    for _ in range((num_centers - 1).bit_length()):
        reached = ((reached @ reached) > 0).to(torch.float32)
    first = reached.argmax(dim=-1)  # of equal ones the first: the strongest center
    others = index[num_centers:].expand(*first.shape[:-1], -1)
    return torch.cat([first, others], dim=-1)
