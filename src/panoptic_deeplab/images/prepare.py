"""Images to what the network takes: `prepare_image` = channels, range, size (`InputConfig`) -> normalize -> pad.

Here an image is resized for prediction; training (`data/augment.py`) uses the same rule, times its random scale. Images
are padded after they are normalized, with 0: the mean color, exactly. Sizes are `(height, width)` in pixels.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from panoptic_deeplab.config import InputConfig
from panoptic_deeplab.errors import ConfigError, ImageError
from panoptic_deeplab.images.intensity import Pixels, chosen_channels, leveled, rgb_of, stretched
from panoptic_deeplab.images.read import ImageLike, range_warning, read_image
from panoptic_deeplab.maps import Size


class Kept(TypedDict):
    """Arguments of `read_image` and its kin."""

    deep: bool
    every_channel: bool


class PreparedImage(NamedTuple):
    """An image as the network takes it."""

    tensor: Float32[Tensor, "3 Hp Wp"]
    """Normalized; padded at the bottom and on the right with 0, the mean color."""
    content_size: Size
    """Size before padding: the part of the network's output that belongs to the image."""


def resized_size(size: Size, input_config: InputConfig) -> Size:
    """The size that the rule of `InputConfig` gives an image, before padding.

    >>> resized_size((480, 640), InputConfig(longest_side=641))
    (481, 641)
    """
    return scaled_size(size, input_factor(size, input_config))


def padded_size(size: Size, output_stride: int, *, align_corners: bool) -> Size:
    """The next size that a network of this stride maps without a remainder, on each axis.

    With aligned corners that is k * output_stride + 1 (the crops of section 4), so that corner pixels coincide at every
    stride; with aligned borders it is k * output_stride.

    >>> padded_size((482, 640), 16, align_corners=True)
    (497, 641)
    >>> padded_size((482, 640), 16, align_corners=False)
    (496, 640)
    """
    extra = 1 if align_corners else 0
    height, width = (math.ceil((side - extra) / output_stride) * output_stride + extra for side in size)
    return height, width


def prepare_image(
    image: Pixels, *, input_config: InputConfig, output_stride: int, align_corners: bool
) -> PreparedImage:
    """Resize, normalize and pad an image for validation or prediction.

    Args:
        image: RGB.
        input_config: range, resize rule, mean and standard deviation.
        output_stride: output stride of the model.
        align_corners: convention of the model.
    """
    resized = resize_image(image, input_config=input_config)
    content_size = (resized.shape[1], resized.shape[2])
    tensor = normalized(resized, input_config).as_subclass(Tensor)
    minimum = input_config.pad_to or content_size
    to_pad = max(content_size[0], minimum[0]), max(content_size[1], minimum[1])
    padded_height, padded_width = padded_size(to_pad, output_stride, align_corners=align_corners)
    tensor = F.pad(tensor, (0, padded_width - content_size[1], 0, padded_height - content_size[0]))
    return PreparedImage(tensor=tensor.contiguous(), content_size=content_size)


def resize_image(image: Pixels, *, input_config: InputConfig) -> UInt8[Tensor, "3 h w"]:
    """The first steps of `prepare_image`: the image in the range and at the size that the rules give.

    Args:
        image: RGB.
        input_config: range and resize rule.
    """
    size = (image.shape[0], image.shape[1])
    content_size = resized_size(size, input_config)
    tensor = image_tensor(in_range(image, input_config))
    return tensor if content_size == size else interpolated(tensor, content_size)


def in_range(image: Pixels, input_config: InputConfig) -> UInt8[np.ndarray, "H W 3"]:
    """The image as RGB of 8 bits: the channels that `input.channels` says, and the black and white of `input.range`.

    Raises:
        ImageError: it has no such channel, or numbers that the range does not take.
    """
    if input_config.channels is not None:
        image = chosen_channels(image, input_config.channels)
    if isinstance(input_config.range, tuple):
        return leveled(image, input_config.range)
    deep = input_config.range == "percentile"
    rgb = rgb_of(image, where="the image", layout="(H, W, channels) with 1, 3 or 4 channels", deep=deep)
    return stretched(rgb, input_config.percentiles) if deep else rgb


def read_for(source: ImageLike, input_config: InputConfig, *, page: int | None = None) -> Pixels:
    """Read an image with all that `in_range` needs of it: its depth, and every channel.

    Args:
        source: as for `read_image`.
        input_config: range and channels.
        page: as for `read_image`.

    Raises:
        ImageError: as for `read_image`, or a number that counts is not finite.
    """
    image = read_image(source, page=page, **reading(input_config))
    if isinstance(input_config.range, tuple) and np.issubdtype(image.dtype, np.floating):  # else reading has looked
        where = source if isinstance(source, (str, Path)) else "The image"
        if not np.isfinite(_that_count(image, input_config)).all():
            raise ImageError(f"{where} has floating-point values that are not finite. Expected finite numbers.")
    return image


def drawable(image: Pixels, input_config: InputConfig) -> UInt8[np.ndarray, "H W 3"]:
    """What pictures show of an image of `read_for`: itself if it is RGB of 8 bits, else what `in_range` makes."""
    is_rgb = image.dtype == np.uint8 and image.shape[2] == 3 and input_config.channels is None
    return image if is_rgb else in_range(image, input_config)


def reading(input_config: InputConfig) -> Kept:
    """What readers of images have to keep for these settings, as their arguments."""
    as_stored = isinstance(input_config.range, tuple) or input_config.channels is not None
    return {"deep": input_config.range == "percentile", "every_channel": as_stored}


def brightness_warning(path: Path, image: Pixels, input_config: InputConfig, *, page: int | None = None) -> str | None:
    """Tell whether an image uses less than a quarter of its range, so that it is read as nearly one color.

    Args:
        path: its file.
        image: what `read_for` gave.
        input_config: range and channels.
        page: as for `read_image`.

    Returns:
        One sentence for the user; None where nothing is wrong, and where all is one color.

    Raises:
        ImageError: the file cannot be read any more, or its channels are not there.
    """
    if not isinstance(input_config.range, tuple):
        by_itself = input_config.range == "percentile" or input_config.channels is not None
        return None if by_itself else range_warning(path, page=page)
    image = _that_count(image, input_config)
    (low, high), lowest, highest = input_config.range, float(image.min()), float(image.max())
    if lowest == highest or min(highest, high) - max(lowest, low) >= (high - low) / 4:
        return None
    return (
        f"{path} has numbers from {lowest:g} to {highest:g}, so little of `input.range` {low:g} {high:g} that it is"
        " read as nearly one color. Set the range of these images (`data check` measures that of a set), or percentile."
    )


def _that_count(image: Pixels, input_config: InputConfig) -> Pixels:
    """The channels that become colors; transparency is none of them."""
    return image[..., :3] if input_config.channels is None else chosen_channels(image, input_config.channels)


def for_object_size(config: InputConfig, diameter: float) -> InputConfig:
    """The settings with the scale at which objects of this diameter, in pixels, look as those of the training did.

    >>> for_object_size(InputConfig(scale=2.0, object_size=20), 40).scale
    1.0

    Raises:
        ConfigError: the model does not say how large its objects were, or scales by `longest_side`.
    """
    if not diameter > 0:
        raise ConfigError(f"The object size must be a positive number of pixels. Got {diameter!r} instead.")
    if config.object_size is None or config.longest_side is not None:
        raise ConfigError(
            "The model does not say how large the objects were that it was trained on (`input.object_size` is null), or"
            " makes all images one size (`input.longest_side`). Set `input.scale` in place of the object size."
        )
    return replace(config, scale=config.scale * config.object_size / diameter, object_size=diameter)


def image_tensor(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[Tensor, "3 H W"]:
    """View an image array as the tensor that torchvision expects."""
    return torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)


def input_factor(size: Size, config: InputConfig) -> float:
    """By how much the rule of `InputConfig` scales an image of this size."""
    return config.scale if config.longest_side is None else config.longest_side / max(size)


def scaled_size(size: Size, factor: float) -> Size:
    """The size times a factor, in whole pixels; at least one."""
    height, width = (max(1, round(side * factor)) for side in size)
    return height, width


def normalized(image: UInt8[Tensor, "3 H W"], config: InputConfig) -> Float32[Tensor, "3 H W"]:
    """Colors to [0, 1], minus mean, over standard deviation."""
    image = v2.functional.to_dtype(image, torch.float32, scale=True)
    result: Tensor = v2.functional.normalize(image, list(config.pixel_mean), list(config.pixel_std), inplace=True)
    return result


def interpolated(image: UInt8[Tensor, "3 H W"], size: Size) -> UInt8[Tensor, "3 h w"]:
    """Interpolate colors: bilinear, antialiased where the image shrinks."""
    resized: Tensor = v2.functional.resize(
        image, list(size), interpolation=v2.InterpolationMode.BILINEAR, antialias=True
    )
    return resized
