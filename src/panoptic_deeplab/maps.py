"""What network, losses and post-processing exchange: dense maps of a batch of images.

Dimension letters: `B` images, `C` classes, `H W` the network input, `h w` the decoder (stride 4).
Two-element vectors are `(y, x)`. Pixel centers lie at integers.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional as F

Size = tuple[int, int]
"""`(height, width)` in pixels."""


class RawMaps(NamedTuple):
    """What the network predicts, at stride 4, exactly as the heads give it. Made by `model/network.py`."""

    semantic_logits: Float[Tensor, "B C h w"]
    """Unnormalized class scores; softmax over C gives probabilities."""

    center_heatmap: Float[Tensor, "B 1 h w"] | None
    """About 1 at the center of mass of an instance, 0 far from any; a plain regression, so values may leave [0, 1],
    unless `ModelConfig.heatmap_activation` is sigmoid. None for a semantic-only model (Table 1, last row)."""

    offset: Float[Tensor, "B 2 h w"] | None
    """`(dy, dx)` from a pixel to the center of its instance, in pixels of *this* map (h, w), not of the input.
    None for a semantic-only model."""


class Targets(NamedTuple):
    """What the network should predict, at the resolution of its input. Made by `data/targets.py`.

    The leading dimension is present in batches and absent for a single image.
    """

    semantic: UInt8[Tensor, "*B H W"]
    """Train id of each pixel, `IGNORE_INDEX` (255) where void."""

    center_heatmap: Float[Tensor, "*B H W"]
    """Maximum of one Gaussian an instance, 1 at its center."""

    offset: Float[Tensor, "*B 2 H W"]
    """`(dy, dx)` in input pixels from the pixel to its instance's center of mass; 0 where there is no instance."""

    semantic_weight: Float[Tensor, "*B H W"]
    """Weight of the pixel's cross entropy: larger on small instances, 0 where void."""

    center_weight: Float[Tensor, "*B H W"]
    """1 where the heatmap is supervised (every labeled pixel that is no crowd), else 0."""

    offset_weight: Float[Tensor, "*B H W"]
    """1 where the offset is supervised (pixels of thing instances that are no crowd), else 0."""


def size_of(map_: Tensor) -> Size:
    """Height and width of a map or image, its last two dimensions."""
    return map_.shape[-2], map_.shape[-1]


def each_map(raw_maps: RawMaps, function: Callable[[Tensor], Tensor]) -> RawMaps:
    """Apply a function to the maps that there are."""
    logits, heatmap, offset = raw_maps
    return RawMaps(
        semantic_logits=function(logits),
        center_heatmap=None if heatmap is None else function(heatmap),
        offset=None if offset is None else function(offset),
    )


def are_finite(raw_maps: RawMaps) -> Bool[Tensor, ""]:
    """Say whether the maps hold neither NaN nor infinity; a device is not waited for."""
    return torch.stack([torch.isfinite(map_).all() for map_ in raw_maps if map_ is not None]).all()


def upsample(map_: Float[Tensor, "B C h w"], size: Size, *, align_corners: bool) -> Float[Tensor, "B C H W"]:
    """Resize a map of *values* bilinearly to `size`. For offsets, use `upsample_offset`."""
    return F.interpolate(map_, size=size, mode="bilinear", align_corners=align_corners)


def offset_scale(from_size: Size, to_size: Size, *, align_corners: bool) -> tuple[float, float]:
    """By how much `(dy, dx)` grow when a map is resized: the ratio of pixel distances, for each axis by itself."""
    if align_corners:  # the corner pixels' centers coincide, so the distance between them is kept
        return ((to_size[0] - 1) / max(from_size[0] - 1, 1), (to_size[1] - 1) / max(from_size[1] - 1, 1))
    return to_size[0] / from_size[0], to_size[1] / from_size[1]


def upsample_offset(offset: Float[Tensor, "B 2 h w"], size: Size, *, align_corners: bool) -> Float[Tensor, "B 2 H W"]:
    """Resize an offset map to `size`, and its values with it: the result is in pixels of the new map."""
    scale = offset_scale(size_of(offset), size, align_corners=align_corners)
    scaled = offset * torch.tensor(scale, dtype=offset.dtype, device=offset.device).view(1, 2, 1, 1)
    # With two channels, channels last is the slow memory format.
    return upsample(scaled.contiguous(), size, align_corners=align_corners)
