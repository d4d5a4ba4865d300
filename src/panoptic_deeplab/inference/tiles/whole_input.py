"""The image at the size of the network's input, in parts: what `prepare_image` makes of it, without holding all of it.

An image is resized along its rows in bands of them, and along its columns in strips of them, by the very function that
resizes small images. Where that works on 8-bit numbers in two steps itself (processors with AVX2), the result is equal
to the last bit; elsewhere a color may differ by one of 255. Percentiles (`input.range`) are those of the whole image.
"""

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor
from torch.nn import functional as F

from panoptic_deeplab.config import InputConfig
from panoptic_deeplab.images.intensity import Pixels, chosen_channels, spreading
from panoptic_deeplab.images.prepare import image_tensor, in_range, interpolated, normalized, resized_size
from panoptic_deeplab.images.regions import Regions
from panoptic_deeplab.maps import Size
from panoptic_deeplab.results.stored import Scratch, Stored

_STEP_BYTES = 2**26
"""Bytes of the image that are resized at once."""


class WholeInput:
    """An image in the network's input, read in parts.

    Args:
        image: regions of it.
        config: the model's `input` section.
        scratch: where a resized image is kept.
    """

    def __init__(self, image: Regions, config: InputConfig, scratch: Scratch) -> None:
        self._image = image
        self._config = config
        self.content_size = resized_size(image.size, config)
        """`(height, width)` without padding."""
        self._table = _spreading(image, config) if config.range == "percentile" else None
        self._resized = None if self.content_size == image.size else self._resize(scratch)

    def tile(self, top: int, left: int, size: Size) -> Float32[Tensor, "3 h w"]:
        """A part of the input, normalized; 0 (the mean color) beyond the image.

        Args:
            top: its first row, inside of the image.
            left: its first column.
            size: `(height, width)`.
        """
        bottom, right = min(top + size[0], self.content_size[0]), min(left + size[1], self.content_size[1])
        if top >= bottom or left >= right:
            return torch.zeros(3, *size)
        if self._resized is None:
            pixels = self._read(slice(top, bottom), slice(left, right))
        else:
            pixels = self._resized[top:bottom, left:right]
        tensor = normalized(image_tensor(np.ascontiguousarray(pixels)), self._config).as_subclass(Tensor)
        return F.pad(tensor, (0, size[1] - tensor.shape[2], 0, size[0] - tensor.shape[1])).contiguous()

    def _read(self, rows: slice, columns: slice) -> UInt8[np.ndarray, "h w 3"]:
        pixels = self._image.read(rows, columns)
        return in_range(pixels, self._config) if self._table is None else self._table[_chosen(pixels, self._config)]

    def _resize(self, scratch: Scratch) -> Stored:
        """Resize in two steps: rows, then columns."""
        (height, width), (new_height, new_width) = self._image.size, self.content_size
        wide = scratch.array("wide", (height, new_width, 3), np.uint8)
        step = max(1, _STEP_BYTES // (3 * max(width, new_width)))
        for top in range(0, height, step):
            rows = slice(top, min(top + step, height))
            pixels = image_tensor(self._read(rows, slice(0, width)))
            wide[rows] = _array(interpolated(pixels, (pixels.shape[1], new_width)))
        resized = scratch.array("input", (new_height, new_width, 3), np.uint8)
        step = max(1, _STEP_BYTES // (3 * max(height, new_height)))
        for left in range(0, new_width, step):
            columns = slice(left, min(left + step, new_width))
            pixels = image_tensor(np.ascontiguousarray(wide[:, columns]))
            resized[:, columns] = _array(interpolated(pixels, (new_height, pixels.shape[2])))
        return resized


def _spreading(image: Regions, config: InputConfig) -> UInt8[np.ndarray, " V"]:
    """What the range makes of each value, from a look at all of the image."""
    counts = np.zeros(2**16, np.int64)
    (height, width) = image.size
    step = max(1, _STEP_BYTES // (6 * width))
    for top in range(0, height, step):
        pixels = _chosen(image.read(slice(top, min(top + step, height)), slice(0, width)), config)
        counts += np.bincount(pixels.ravel(), minlength=len(counts))
    return spreading(counts, config.percentiles)


def _chosen(pixels: Pixels, config: InputConfig) -> Pixels:
    return pixels if config.channels is None else chosen_channels(pixels, config.channels)


def _array(image: Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy()
