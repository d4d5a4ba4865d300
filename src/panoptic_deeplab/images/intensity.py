"""Numbers of any type to RGB, and the range of them that the network sees: `rgb_of`, `stretched`, `leveled`.

`input.range` percentile is for images whose brightness says nothing, as a microscope's: between two percentiles of its
own numbers, each image is spread over 0 to 255, at the depth that it has, and doing it twice is doing it once. Two
numbers in its place are black and white in all images alike, which keeps what is bright in one and dark in another. The
range comes before all else that is done to an image, in training, prediction and before an exported file.
"""

import numpy as np
from jaxtyping import Int64, Shaped, UInt8, UInt16

from panoptic_deeplab.errors import ImageError

NARROW_16_BITS = 1 << 14
"""A 16-bit image whose numbers all lie below is suspected to hold fewer bits: a quarter of the range."""

Pixels = Shaped[np.ndarray, "H W _"]
"""RGB of 8 bits, or of 16 where all of an image's depth was asked for; where every channel was, numbers as stored."""

_FOR_PEOPLE = (0.1, 99.9)
"""Percentiles of what is shown of an image that would be dark."""


def chosen_channels(image: Pixels, channels: tuple[int, int, int]) -> Shaped[np.ndarray, "H W 3"]:
    """Three channels of an image, by their numbers from 0 (`input.channels`).

    Raises:
        ImageError: it has fewer.
    """
    if max(channels) >= image.shape[2]:
        raise ImageError(
            f"The image has {image.shape[2]} channels, and `input.channels` asks for number {max(channels)}, counted"
            " from 0. Choose from those that there are."
        )
    return np.ascontiguousarray(image[..., list(channels)])


def viewable(numbers: Shaped[np.ndarray, "H W _"], *, where: str) -> UInt8[np.ndarray, "H W 3"]:
    """An image of any channels and range as RGB of 8 bits, for people.

    That is `rgb_of`, where it takes the image. Else the first three channels are shown (two with the second one twice).
    Numbers of another range, and those of 16 bits that use less than a quarter of theirs, are spread between two
    percentiles, so that there is something to see.

    Args:
        numbers: as `every_channel` gives them.
        where: its name, for the message.

    Raises:
        ImageError: there are numbers that are not finite.
    """
    if numbers.shape[2] not in (1, 3, 4):
        numbers = numbers[..., [0, 1, min(2, numbers.shape[2] - 1)]]
    layout = "(H, W, channels)"
    if numbers.dtype != np.uint16 or not 0 < numbers.max(initial=0) < NARROW_16_BITS:
        try:
            return rgb_of(numbers, where=where, layout=layout)
        except ImageError:  # of another range
            pass
    return stretched(rgb_of(numbers, where=where, layout=layout, deep=True), _FOR_PEOPLE)


def stretched(image: Pixels, percentiles: tuple[float, float]) -> UInt8[np.ndarray, "H W 3"]:
    """Spread the numbers between two percentiles over 0 to 255; what lies beyond is cut.

    The percentiles are of all pixels and channels together, which keeps hues, and are numbers that the image has
    (percentile p of n numbers is the one that is floor(p / 100 * (n - 1)) places behind the lowest).

    >>> stretched(np.array([[[10, 20, 30]]], np.uint8), (0, 100)).tolist()
    [[[0, 128, 255]]]
    """
    spread: UInt8[np.ndarray, "H W 3"] = spreading(np.bincount(image.ravel()), percentiles)[image]
    return spread


def spreading(counts: Int64[np.ndarray, " V"], percentiles: tuple[float, float]) -> UInt8[np.ndarray, " V"]:
    """What `stretched` makes of each value, of an image that has each so many times."""
    places = [int(p / 100 * (int(counts.sum()) - 1)) for p in percentiles]
    low, high = np.searchsorted(np.cumsum(counts), places, side="right").tolist()
    table: UInt8[np.ndarray, " V"] = _between(np.arange(len(counts)), (low, max(high, low + 1)))
    return table


def leveled(image: Pixels, levels: tuple[float, float]) -> UInt8[np.ndarray, "H W 3"]:
    """Spread the numbers between black and white over 0 to 255; what lies beyond is cut.

    Args:
        image: 1, 3 or 4 channels of any numbers; a fourth one is transparency, and dropped.
        levels: black and white, in these numbers.

    Raises:
        ImageError: it has other channels, or something else than finite numbers.

    >>> leveled(np.array([[[100, 2050, 9000]]], np.uint16), (0, 4100)).tolist()
    [[[6, 128, 255]]]
    """
    if image.shape[2] not in (1, 3, 4):
        raise ImageError(
            f"The image has {image.shape[2]} channels. Name the three that become red, green and blue with"
            " `input.channels`."
        )
    numbers = image[..., :3] if image.shape[2] > 1 else np.repeat(image, 3, axis=2)
    if numbers.dtype in (np.uint8, np.uint16):
        table: UInt8[np.ndarray, " V"] = _between(np.arange(np.iinfo(numbers.dtype).max + 1), levels)
        looked_up: UInt8[np.ndarray, "H W 3"] = table[numbers]
        return looked_up
    if not np.issubdtype(numbers.dtype, np.floating) and not np.issubdtype(numbers.dtype, np.integer):
        raise ImageError(f"The image has dtype {numbers.dtype}. Expected numbers, which `input.range` can compare.")
    if not np.isfinite(numbers).all():
        raise ImageError("The image has floating-point values that are not finite. Expected finite numbers.")
    spread: UInt8[np.ndarray, "H W 3"] = _between(numbers, levels)
    return spread


def rgb_of(array: np.ndarray, *, where: str, layout: str, deep: bool = False) -> Pixels:
    """Gray or RGB(A) of any type as RGB; transparency is dropped.

    Args:
        array: `(H, W)` or `(H, W, 1|3|4)`.
        where: its name, for the message.
        layout: the shapes that are taken, for the message.
        deep: keep 16 bits, and spread numbers of other types over them; else all becomes uint8.

    Raises:
        ImageError: another shape or dtype, no pixels, or floating-point numbers out of range.
    """
    shape = array.shape
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ImageError(f"An image array must have shape {layout}. Got {shape} instead.")
    if array.size == 0:
        raise ImageError(f"{where} has no pixels: its shape is {shape}.")
    values = array[..., :3]
    values = _to_uint16(values, where=where) if deep else _to_uint8(values, where=where)
    return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)))


def _between(numbers: Shaped[np.ndarray, "*S"], levels: tuple[float, float]) -> UInt8[np.ndarray, "*S"]:
    low, high = levels
    spread: UInt8[np.ndarray, "*S"] = np.rint(
        255 * np.clip((numbers.astype(np.float64) - low) / (high - low), 0, 1)
    ).astype(np.uint8)
    return spread


def _to_uint8(values: np.ndarray, *, where: str) -> UInt8[np.ndarray, "H W c"]:
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return np.where(values, np.uint8(255), np.uint8(0))
    if values.dtype == np.uint16:
        reduced: UInt8[np.ndarray, "H W c"] = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
        return reduced
    if np.issubdtype(values.dtype, np.floating):
        lowest, highest = float(values.min()), float(values.max())
        if not (lowest >= 0 and highest <= 1):  # written so that NaN fails too
            raise ImageError(
                f"{where} has floating-point values from {lowest:g} to {highest:g}. Expected 0 to 1;"
                " divide by 255, or pass uint8."
            )
        rounded: UInt8[np.ndarray, "H W c"] = np.rint(values * 255).astype(np.uint8)
        return rounded
    raise ImageError(f"{where} has dtype {values.dtype}. Expected uint8, uint16, bool, or floating point in [0, 1].")


def _to_uint16(values: np.ndarray, *, where: str) -> UInt8[np.ndarray, "H W c"] | UInt16[np.ndarray, "H W c"]:
    """Keep what has at most 16 bits; spread the rest between its lowest and highest number."""
    if values.dtype in (np.uint8, np.bool_):
        return _to_uint8(values, where=where)
    if values.dtype == np.uint16:
        return values
    if not np.issubdtype(values.dtype, np.floating) and not np.issubdtype(values.dtype, np.integer):
        raise ImageError(f"{where} has dtype {values.dtype}. Expected numbers: integers, floating point or bool.")
    lowest, highest = float(values.min()), float(values.max())
    if not np.isfinite([lowest, highest]).all():
        raise ImageError(f"{where} has floating-point values from {lowest:g} to {highest:g}. Expected finite numbers.")
    span = highest - lowest or 1.0
    spread: UInt16[np.ndarray, "H W c"] = np.rint((values.astype(np.float64) - lowest) * (65535 / span)).astype(
        np.uint16
    )
    return spread
