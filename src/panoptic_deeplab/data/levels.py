"""Where the numbers of a set's images lie, counted image by image: `Levels`, which `input.range` can be set to.

Numbers of any type are counted in one table, by the first 20 bits of their float32: whole numbers up to 4096 exactly,
others to 1 part in 2048.
"""

import numpy as np
from jaxtyping import Float32, Int64, UInt32

from panoptic_deeplab.images.intensity import NARROW_16_BITS, Pixels

_DROPPED_BITS = 12
_BINS = 1 << 32 - _DROPPED_BITS
_SIGN = np.uint32(1 << 31)
_DIGITS = 4


class Levels:
    """Counts of the numbers of all images that `add` has seen.

    Args:
        percentiles: those that are black and white in an image and in the set, from 0 to 100.
    """

    def __init__(self, percentiles: tuple[float, float]) -> None:
        self.percentiles = percentiles
        self.fit_type = True
        """Whether each image makes use of the range of its type: 0 to 255, 65535, or 1.0."""
        self._counts: Int64[np.ndarray, " V"] = np.zeros(_BINS, np.int64)
        self._contrasts: list[float] = []

    def add(self, pixels: Pixels) -> None:
        """Count the numbers of an image; those that are not finite are left out."""
        counts = np.zeros(_BINS, np.int64)
        if pixels.dtype in (np.uint8, np.uint16):
            found = np.bincount(pixels.ravel())
            np.add.at(counts, _bins(np.arange(len(found), dtype=np.float32)), found)
        else:
            numbers = pixels.astype(np.float32)
            counts += np.bincount(_bins(numbers[np.isfinite(numbers)]), minlength=_BINS)
        self.fit_type &= _fits_type(pixels)
        self._counts += counts
        low, high = _at(counts, self.percentiles)
        self._contrasts.append(high - low)

    def of_set(self) -> tuple[float, float] | None:
        """Black and white of all images together, to four digits; None where they would be one number."""
        if not self._counts.any():
            return None
        low, high = (float(f"{number:.{_DIGITS}g}") for number in _at(self._counts, self.percentiles))
        return (low, high) if low < high else None

    def differ_by(self) -> float:
        """By which factor a bright image has more contrast than a dark one: the upper tenth over the lower."""
        contrasts = [contrast for contrast in self._contrasts if contrast > 0]
        if not contrasts:
            return 1.0
        dark, bright = np.quantile(contrasts, (0.1, 0.9)).tolist()
        return float(bright / dark)


def _fits_type(pixels: Pixels) -> bool:
    lowest, highest = float(pixels.min(initial=0)), float(pixels.max(initial=0))
    if pixels.dtype == np.uint16:
        return highest == 0 or highest >= NARROW_16_BITS
    return pixels.dtype in (np.uint8, np.bool_) or (pixels.dtype.kind == "f" and lowest >= 0 and highest <= 1)


def _bins(numbers: Float32[np.ndarray, "*S"]) -> UInt32[np.ndarray, "*S"]:
    """The place of each number in the table; their order is that of the numbers."""
    bits = numbers.view(np.uint32)
    ordered: UInt32[np.ndarray, "*S"] = np.where(bits & _SIGN, ~bits, bits | _SIGN) >> np.uint32(_DROPPED_BITS)
    return ordered


def _at(counts: Int64[np.ndarray, " V"], percentiles: tuple[float, float]) -> tuple[float, float]:
    """The numbers at two percentiles, by the rule of `images.intensity.stretched`."""
    places = [int(p / 100 * (int(counts.sum()) - 1)) for p in percentiles]
    found = np.searchsorted(np.cumsum(counts), places, side="right").astype(np.uint32)
    bits = found << np.uint32(_DROPPED_BITS)
    low, high = np.where(bits & _SIGN, bits ^ _SIGN, ~bits).view(np.float32).tolist()
    return low, high
