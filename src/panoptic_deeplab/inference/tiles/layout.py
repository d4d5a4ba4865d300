"""Where the tiles of an image lie, and how much each counts where several overlap.

All tiles have one size that the network maps without a remainder, and start at whole output strides: the samples of
their maps then lie where those of the whole image's maps do, and nothing is resampled. The first tile starts and the
last one ends with the (padded) image, so that its borders look to the network as they do untiled; between, tiles are
spread evenly, so an overlap may be larger than asked for.

The rule of blending: across the overlap of two tiles, the outer quarter of each counts nothing, and over the half in
the middle the weight goes from one to the other linearly. At the borders of the image a tile counts in full. A map that
is right where it lies more than a quarter of the overlap inside of its tile is therefore right everywhere: where no
sample depends on pixels farther away than that (the receptive field, from its middle to its border), the blended maps
equal those of the whole image.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float32
from torch import Tensor

from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.images.prepare import padded_size
from panoptic_deeplab.maps import Size

MAP_STRIDE = 4
"""Pixels of the network's input for each sample of its maps."""


@dataclass(frozen=True, kw_only=True)
class TileAxis:
    """The tiles along one axis, in pixels of the network's input."""

    starts: tuple[int, ...]
    """Where each begins; multiples of the output stride."""
    length: int
    """Length of every tile."""
    extra: int
    """1 with aligned corners, where lengths are k strides and one pixel more; 0 else."""

    @property
    def total(self) -> int:
        """Length of the axis, padding included."""
        return self.starts[-1] + self.length

    def samples(self, length: int) -> int:
        """Samples of a map over so many pixels."""
        return (length - self.extra) // MAP_STRIDE + self.extra

    def span(self, index: int) -> slice:
        """Samples of the whole map that a tile covers."""
        first = self.starts[index] // MAP_STRIDE
        return slice(first, first + self.samples(self.length))

    def shares(self, index: int) -> Float32[Tensor, " n"]:
        """How far the blend goes from what earlier tiles said to what this one says, at each of its samples.

        1 where there was none before, 0 where it does not count: the mean by weight, tile by tile.
        """
        span = self.span(index)
        earlier = torch.zeros(span.stop - span.start)
        for other in range(index):
            covered = self.span(other)
            if covered.stop > span.start:
                earlier[: covered.stop - span.start] += self._weights(other)[span.start - covered.start :]
        own = self._weights(index)
        return torch.where(earlier > 0, own / (own + earlier).clamp(min=1e-12), 1.0)

    def _weights(self, index: int) -> Float32[Tensor, " n"]:
        span = self.span(index)
        place = torch.arange(span.stop - span.start) + 0.5
        weights = torch.ones(len(place))
        if index > 0:
            weights *= _ramp(place, self.span(index - 1).stop - span.start)
        if index + 1 < len(self.starts):
            weights *= _ramp(len(place) - place, span.stop - self.span(index + 1).start)
        return weights


def _ramp(place: Float32[Tensor, " n"], overlap: int) -> Float32[Tensor, " n"]:
    """0 in the outer quarter of an overlap, 1 behind three quarters of it."""
    if overlap <= 0:
        return torch.ones_like(place)
    return ((place / overlap - 0.25) * 2).clamp(0, 1)


def tile_axes(
    content_size: Size,
    *,
    tile: int,
    overlap: int,
    output_stride: int,
    align_corners: bool,
    pad_to: Size | None = None,
) -> tuple[TileAxis, TileAxis]:
    """Lay tiles over an image.

    Args:
        content_size: `(height, width)` of the image in the network's input.
        tile: side of a tile, rounded up to what the network takes.
        overlap: what two neighbors have in common at least, rounded up to whole strides.
        output_stride: that of the model.
        align_corners: convention of the model.
        pad_to: least size of the input, `InputConfig.pad_to`.

    Returns:
        Rows of tiles, columns of tiles. An image of one tile has one that fits it.

    Raises:
        ConfigError: the tile is not positive, or the overlap is negative or more than half of the tile.
    """
    if tile < 1:
        raise ConfigError(f"`tile` must be a positive number of pixels. Got {tile} instead.")
    if not 0 <= overlap <= tile // 2:
        raise ConfigError(f"`overlap` must be between 0 and half of the tile of {tile} pixels. Got {overlap} instead.")
    minimum = pad_to or content_size
    least = max(content_size[0], minimum[0]), max(content_size[1], minimum[1])
    extra = 1 if align_corners else 0
    side = padded_size((tile, tile), output_stride, align_corners=align_corners)[0]
    axes = []
    for total in padded_size(least, output_stride, align_corners=align_corners):
        strides, of_tile = (total - extra) // output_stride, max((side - extra) // output_stride, 1)
        shared = min(-(-overlap // output_stride), of_tile - 1)
        if strides <= of_tile:
            axes.append(TileAxis(starts=(0,), length=total, extra=extra))
            continue
        steps = -(-(strides - of_tile) // (of_tile - shared))
        starts = tuple(i * (strides - of_tile) // steps * output_stride for i in range(steps + 1))
        assert all(after - before <= (of_tile - shared) * output_stride for before, after in pairwise(starts))
        axes.append(TileAxis(starts=starts, length=of_tile * output_stride + extra, extra=extra))
    return axes[0], axes[1]
