"""Neighboring instances with a long common border become one, in operators that every runtime has.

The rule is that of `postprocess/joining.py`, whose matrices of all pairs of slots these are, for a batch.

Dimension letters: `B` images, `H W` the image, `K` centers, `S` slots.
"""

import torch
from torch import Tensor

from panoptic_deeplab.export.graph.grouping import ThingPixels
from panoptic_deeplab.postprocess.joining import slots_of_wholes


def join_graph_instances(
    slots: Tensor, train_ids: Tensor, things: ThingPixels, *, num_centers: int, num_classes: int, fraction: float
) -> Tensor:
    """Give the pixels of joined instances one slot.

    Args:
        slots: `(B, H, W)` int64.
        train_ids: `(B, H, W)` int64, argmax.
        things: the pixels that may lie in instances.
        num_centers: K, one at least.
        num_classes: S - K.
        fraction: `join_border_fraction`.

    Returns:
        `(B, H, W)` int64.
    """
    batch_size, num_slots = slots.shape[0], num_centers + num_classes
    image = torch.arange(batch_size, device=slots.device)[:, None, None]
    rows_of_batch = slots + image * num_slots  # of tables for all images, one below the other

    thing_rows = rows_of_batch.flatten().index_select(0, things.place)
    thing_classes = train_ids.flatten().index_select(0, things.place)
    votes = _count(thing_rows * num_classes + thing_classes, batch_size * num_slots * num_classes)
    voted = votes.view(batch_size, num_slots, num_classes)[:, :num_centers].argmax(dim=2)

    edges = [
        _edges(one, other, slots_of_other, num_slots)
        for one, other, slots_of_other in (
            (rows_of_batch[:, :-1], rows_of_batch[:, 1:], slots[:, 1:]),
            (rows_of_batch[:, :, :-1], rows_of_batch[:, :, 1:], slots[:, :, 1:]),
        )
    ]
    lengths = _count(torch.cat(edges), batch_size * num_slots * num_slots).view(batch_size, num_slots, num_slots)
    into = slots_of_wholes(lengths + lengths.transpose(1, 2), voted, fraction=fraction)
    return into.flatten().index_select(0, rows_of_batch.flatten()).view(slots.shape)


def _edges(one: Tensor, other: Tensor, slots_of_other: Tensor, num_slots: int) -> Tensor:
    """Place in `(B, S, S)` of each two neighbors that differ."""
    place = (one != other).flatten().nonzero()[:, 0]
    return one.flatten().index_select(0, place) * num_slots + slots_of_other.flatten().index_select(0, place)


def _count(index: Tensor, length: int) -> Tensor:
    """`(length,)`: how often each index comes."""
    return torch.zeros(length, dtype=torch.int64, device=index.device).scatter_add(0, index, torch.ones_like(index))
