"""From the samples of the stride-4 maps to the pixels of the network input: resizing, class, probability (section 3.2).

Maps are resized bilinearly, at the sampling positions of `maps.upsample`, columns first, then rows. Every operator
rounds by itself, so a value depends on its four samples only: not on the device, nor on what is computed beside it.
Class scores are resized some rows at a time, and the C x H x W array of them never exists.

Dimension letters: `C` classes, `h w` the map, `H W` the pixels of the image, `R` of these rows, `L` pixels of an axis.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64, Integer, Shaped, UInt8
from torch import Tensor

from panoptic_deeplab.maps import RawMaps, Size, offset_scale

_BLOCK_ELEMENTS = 2**24
"""Class scores resized at once: enough to be worth starting an operator, and small beside a GPU's memory."""


class ImageMaps(NamedTuple):
    """The network's maps of one image, in float32."""

    logits: Float32[Tensor, "C h w"]
    """Class scores."""
    heatmap: Float32[Tensor, "h w"] | None
    """About 1 at centers; None for a semantic-only model."""
    offset: Float32[Tensor, "2 h w"] | None
    """`(dy, dx)` from each sample to its center, in pixels of the network input; None for a semantic-only model."""


class Axis(NamedTuple):
    """Where the pixels of one axis lie among the samples of the map."""

    before: Int64[Tensor, " L"]
    """Index of the sample before the pixel, or of the first one."""
    fraction: Float32[Tensor, " L"]
    """How far the pixel is on the way to the next sample, in [0, 1); 0 before the first and behind the last one."""


class Grid(NamedTuple):
    """Where the pixels of an image lie among the samples of a map."""

    rows: Axis
    columns: Axis
    first_samples: Int64[np.ndarray, " H"]
    """`rows.before` for the host, which must not wait for the device."""

    @property
    def size(self) -> Size:
        """`(H, W)`."""
        return len(self.rows.before), len(self.columns.before)


class PixelClasses(NamedTuple):
    """What the class scores say of each pixel."""

    train_ids: UInt8[Tensor, "*P"]
    """Argmax; of equal scores the first: the lower train id."""
    largest: Float32[Tensor, "*P"]
    """Largest score."""
    total: Float32[Tensor, "*P"]
    """Sum of exp(score - largest): the denominator of the softmax."""


def maps_of_image(raw_maps: RawMaps, index: int, input_size: Size, *, align_corners: bool) -> ImageMaps:
    """Take one image out of a batch, and give its offsets the unit of the network input."""
    logits, heatmap, offset = raw_maps
    if heatmap is None or offset is None:
        return ImageMaps(logits[index].float().contiguous(), None, None)
    scale = offset_scale((logits.shape[2], logits.shape[3]), input_size, align_corners=align_corners)
    return ImageMaps(
        logits=logits[index].float().contiguous(),
        heatmap=heatmap[index, 0].float(),
        offset=torch.stack([plane.float() * s for plane, s in zip(offset[index], scale, strict=True)]),
    )


def make_grid(
    map_size: Size, input_size: Size, content_size: Size, *, align_corners: bool, device: torch.device
) -> Grid:
    """Find the samples around each pixel of an image.

    Args:
        map_size: `(h, w)`, size of the map.
        input_size: size of the network input, in pixels, padding included.
        content_size: `(H, W)`, size of its top-left part that is image.
        align_corners: convention of the model's resizing, as in `maps.upsample`.
        device: where the maps are.
    """
    samples, axes = [], []
    for from_length, to_length, length in zip(map_size, input_size, content_size, strict=True):
        position = sample_positions(from_length, to_length, length, align_corners=align_corners)
        position = position.clip(0, from_length - 1)
        before = np.floor(position).astype(np.int64)
        arrays = before, (position - before).astype(np.float32)
        samples.append(before)
        axes.append(Axis(*(torch.from_numpy(array).to(device) for array in arrays)))
    return Grid(rows=axes[0], columns=axes[1], first_samples=samples[0])


def sample_positions(
    from_length: int, to_length: int, length: int, *, align_corners: bool
) -> Float64[np.ndarray, " L"]:
    """Where the first `length` pixels of a resized axis lie, in samples of the map; may be up to 1 outside of them."""
    pixel = np.arange(length)
    # whole numbers are multiplied before the division, so a pixel that lies on a sample has no fraction
    if align_corners:
        aligned: Float64[np.ndarray, " L"] = pixel * (from_length - 1) / max(to_length - 1, 1)
        return aligned
    half_pixel: Float64[np.ndarray, " L"] = (2 * pixel + 1) * from_length / (2 * to_length) - 0.5
    return half_pixel


def between(
    start: Float[Tensor, "*a"], growth: Float[Tensor, "*b"], fraction: Float32[Tensor, "*f"]
) -> Float[Tensor, "*c"]:
    """The one formula of interpolation: a part of the way from a sample to the next, which is `growth` larger."""
    # multiplication and addition as two operators: a fused one may round differently in the tail of a vector
    return growth.mul(fraction).add_(start)


def resize(map_: Float32[Tensor, "C h w"], grid: Grid, rows: slice = slice(None)) -> Float32[Tensor, "C R W"]:
    """Resize a map to (some rows of) the pixels of an image: equal to `maps.upsample` up to float32 rounding.

    Offsets keep their values.
    """
    x, y = grid.columns, grid.rows
    first, last = grid.first_samples[rows][[0, -1]].tolist()
    samples = map_[:, first : last + 2]
    wide = between(samples.index_select(2, x.before), _growth(samples, 2).index_select(2, x.before), x.fraction)
    before = y.before[rows] - first
    return between(wide.index_select(1, before), _growth(wide, 1).index_select(1, before), y.fraction[rows, None])


def _growth(samples: Float32[Tensor, "C h w"], dim: int) -> Float32[Tensor, "C h w"]:
    """The step from each sample to the next one; 0 behind the last."""
    return samples.diff(dim=dim, append=samples.narrow(dim, samples.shape[dim] - 1, 1))


def pixel_positions(grid: Grid) -> tuple[Int64[Tensor, "H W"], Int64[Tensor, "H W"]]:
    """`y` and `x` of each pixel."""
    height, width = grid.size
    device = grid.rows.before.device
    y, x = torch.arange(height, device=device), torch.arange(width, device=device)
    return y[:, None].expand(height, width), x.expand(height, width)


def classify_pixels(logits: Float32[Tensor, "C h w"], grid: Grid) -> PixelClasses:
    """Find the class of each pixel from the samples of its class scores, and what its probability needs."""
    height, width = grid.size
    step = max(1, _BLOCK_ELEMENTS // (len(logits) * width))
    parts = [classify(resize(logits, grid, slice(row, row + step))) for row in range(0, height, step)]
    return PixelClasses(*(torch.cat(maps) for maps in zip(*parts, strict=True)))


def classify(scores: Float32[Tensor, "C *P"]) -> PixelClasses:
    """Compare the scores of each pixel. They are used up."""
    num_classes = len(scores)
    assert num_classes <= 255
    largest = scores.amax(dim=0)
    # Of equal scores the first: the largest of the numbers C ... 1. Several times faster on a CPU than an argmax.
    falling = torch.arange(num_classes, 0, -1, dtype=torch.uint8, device=scores.device)
    falling = falling.view(-1, *[1] * largest.dim())
    train_ids = num_classes - ((scores == largest) * falling).amax(dim=0)
    return PixelClasses(train_ids, largest, scores.sub_(largest).exp_().sum(dim=0))


def class_probability(
    train_ids: Int64[Tensor, "H W"], classes: PixelClasses, logits: Float32[Tensor, "C h w"], grid: Grid
) -> Float32[Tensor, "H W"]:
    """Softmax probability of one class for each pixel, with what `classify_pixels` found."""
    flat, (height, width) = logits.flatten(), logits.shape[1:]
    plane = train_ids * (height * width)
    left, top = grid.columns.before, grid.rows.before[:, None] * width
    right, bottom = (left + 1).clamp(max=width - 1), (top + width).clamp(max=(height - 1) * width)

    def along(row: Int64[Tensor, "H 1"]) -> Float32[Tensor, "H W"]:
        start, end = look_up(flat, plane + row + left), look_up(flat, plane + row + right)
        return between(start, end - start, grid.columns.fraction)

    above, below = along(top), along(bottom)
    score = between(above, below - above, grid.rows.fraction[:, None])
    return (score - classes.largest).exp_() / classes.total


def look_up(table: Shaped[Tensor, " N"], index: Integer[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """`table[index]`, several times faster on a CPU."""
    return table.index_select(0, index.flatten().to(torch.int64)).view(index.shape)
