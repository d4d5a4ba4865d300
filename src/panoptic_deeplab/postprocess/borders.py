"""The rule of `joining.py` on a short list: only borders that exist, of any number of instances, on a CPU.

Few pixel edges of an image lie between two slots, and few of the pairs of slots touch. The list of a whole
image is the sum of those of its bands.

Dimension letters: `K` centers, `S` slots, `R` rows, `W` columns, `N` pairs of slots.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int32, Int64, Integer
from torch import Tensor


class Borders(NamedTuple):
    """Pairs of slots that touch, at least one of them an instance; each pair once."""

    first: Int64[np.ndarray, " N"]
    """The smaller slot, an instance."""
    second: Int64[np.ndarray, " N"]
    """The larger one."""
    length: Int64[np.ndarray, " N"]
    """Pixel edges between the two."""


def list_borders(slots: Int32[np.ndarray, "R W"], num_centers: int, *, skipped: int = 0) -> Borders:
    """Find the pairs that touch in an image, or in a band of its rows.

    Args:
        slots: slot of each pixel.
        num_centers: K; slots from there on are no instances.
        skipped: rows at the top whose own edges were counted with the band above: only those to the next row are.
    """
    width = slots.shape[1]
    flat, own = slots.reshape(-1), slots[skipped:].reshape(-1)
    below = np.flatnonzero(flat[width:] != flat[:-width])
    right = np.flatnonzero(own[1:] != own[:-1])
    right = right[(right + 1) % width != 0]  # the next pixel of the last column is in the next row
    one = np.concatenate([flat[below], own[right]])
    other = np.concatenate([flat[below + width], own[right + 1]])
    first, second = np.minimum(one, other), np.maximum(one, other)
    kept = first < num_centers
    pairs, length = np.unique(_pair(first[kept], second[kept]), return_counts=True)
    return Borders(*_slots(pairs), length)


def add_borders(parts: Iterable[Borders]) -> Borders:
    """The list of an image from those of its bands."""
    first, second, length = (np.concatenate(column) for column in zip(*parts, strict=True))
    pairs, which = np.unique(_pair(first, second), return_inverse=True)
    return Borders(
        *_slots(pairs), np.bincount(which, length, minlength=len(pairs)).astype(np.int64)
    )  # exact in float64


def slots_of_listed_wholes(
    borders: Borders, voted: Int64[Tensor, " K"], num_slots: int, *, fraction: float
) -> Int64[Tensor, " S"]:
    """What `joining.slots_of_wholes` gives, from the list; arguments as there."""
    first, second, length = borders
    outline = np.bincount(np.concatenate([first, second]), np.tile(length, 2), minlength=num_slots)  # exact in float64
    shorter = np.minimum(outline[first], outline[second])
    ratio = length.astype(np.float32) / shorter.astype(np.float32)
    classes = np.append(voted.numpy(), np.full(num_slots - len(voted), -1))
    is_joined = (classes[first] == classes[second]) & (ratio >= np.float32(fraction))
    first, second = first[is_joined], second[is_joined]
    slots = np.arange(num_slots)
    while True:
        before = slots.copy()
        strongest = np.minimum(slots[first], slots[second])
        np.minimum.at(slots, first, strongest)
        np.minimum.at(slots, second, strongest)
        slots = slots[slots]  # what was joined to a part goes where that part went
        if np.array_equal(slots, before):
            return torch.from_numpy(slots)


def _pair(first: Integer[np.ndarray, " M"], second: Integer[np.ndarray, " M"]) -> Int64[np.ndarray, " M"]:
    """Two slots, which are below 2^31, as one number."""
    pairs: Int64[np.ndarray, " M"] = first.astype(np.int64) << 32 | second
    return pairs


def _slots(pairs: Int64[np.ndarray, " N"]) -> tuple[Int64[np.ndarray, " N"], Int64[np.ndarray, " N"]]:
    """The inverse of `_pair`."""
    return pairs >> 32, pairs & (2**32 - 1)
