"""COCO's run-length encoding of masks: runs of 0 and 1 in turn, from the top down, column by column.

Files have the counts as a list (uncompressed) or as text, six bits a letter, where from the fourth on each count is the
difference to the one before the last. pycocotools reads them without looking whether they fill the mask.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from panoptic_deeplab.data.problems import shown

_LONGEST = 7
"""Letters of one number; a number of pixels has fewer."""


def rle_counts(counts: Any) -> Int64[np.ndarray, " runs"]:
    """Give the lengths of runs, the first of them zeros.

    Args:
        counts: a list of numbers, or text.

    Raises:
        ValueError: they are neither, or end within a number; the message is the rest of a sentence that begins with the
            place.
    """
    if isinstance(counts, list) and all(type(count) is int and 0 <= count < 2**31 for count in counts):
        return np.array(counts, np.int64)
    raw = counts.encode("utf-8", "replace") if isinstance(counts, str) else counts
    if not isinstance(raw, bytes):
        raise ValueError(f"has the run lengths {shown(counts)}. Expected a list of numbers of pixels, or COCO's text.")
    letters = np.frombuffer(raw, np.uint8).astype(np.int64) - ord("0")
    last = np.flatnonzero(letters & 32 == 0)
    lengths = np.diff(last, prepend=-1)
    if len(letters) and (letters.min() < 0 or letters.max() > 63 or letters[-1] & 32 or lengths.max() > _LONGEST):
        raise ValueError(f"has run lengths that are no text of COCO, {shown(counts)}. Export the set again.")
    if not len(letters):
        return np.zeros(0, np.int64)
    starts = last - lengths + 1
    places = np.arange(len(letters)) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((letters & 31) << (5 * places), starts)
    numbers -= np.where(letters[last] & 16, 1 << (5 * lengths), 0)  # two's complement
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def counts_fault(counts: Int64[np.ndarray, " runs"], size: tuple[int, int]) -> str | None:
    """Tell what is wrong with run lengths of a mask of `(height, width)`.

    Returns:
        The rest of a sentence that begins with the place; None if nothing is wrong.
    """
    pixels = size[0] * size[1]
    if (counts < 0).any() or counts.sum() != pixels:
        return (
            f"has run lengths of {int(counts.sum())} pixels in all, none below 0 expected. Its size is {size[0]} x"
            f" {size[1]} (height x width), which is {pixels} pixels."
        )
    return None


def mask_of_counts(counts: Int64[np.ndarray, " runs"], size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """Spread run lengths out, in which `counts_fault` found nothing.

    Args:
        counts: lengths of runs, the first of them zeros.
        size: `(height, width)` of the mask.
    """
    values = np.arange(len(counts)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, counts).reshape(size[1], size[0]).T)
