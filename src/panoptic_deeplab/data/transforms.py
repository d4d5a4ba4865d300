"""From an image on disk to what the network sees: the input rule for prediction, and the augmentations of training.

Prediction: `prepare_image` = resize rule of `InputConfig` -> normalise -> pad. Training: `training_transforms`, a list
of steps to read from top to bottom. Each step takes and returns `(image, panoptic_map)`, two tensors of torchvision's
types `tv_tensors.Image` and `tv_tensors.Mask`, which is how torchvision tells colours (interpolate) from ids (never).
Random steps draw from torch's global generator.

Sizes are `(height, width)` in pixels.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F
from torchvision import tv_tensors
from torchvision.transforms import v2

from panoptic_deeplab.config import DataConfig, InputConfig
from panoptic_deeplab.encoding import VOID_ID
from panoptic_deeplab.maps import Size

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""`(image, panoptic_map) -> (image, panoptic_map)`; a `tv_tensors.Image` and a `tv_tensors.Mask` both ways."""


class PreparedImage(NamedTuple):
    """An image as the network takes it."""

    tensor: Float32[Tensor, "3 Hp Wp"]
    """Normalized; padded at the bottom and on the right with 0, the mean colour."""
    content_size: Size
    """Size before padding: the part of the network's output that belongs to the image."""


def resized_size(size: Size, input: InputConfig) -> Size:  # noqa: A002
    """The size that the rule of `InputConfig` gives an image, before padding.

    >>> resized_size((480, 640), InputConfig(longest_side=641))
    (481, 641)
    """
    return _scaled_size(size, _input_factor(size, input))


def padded_size(size: Size, output_stride: int) -> Size:
    """The next size of the form k * output_stride + 1 on each axis (section 4; FACTS 1.6).

    >>> padded_size((481, 641), 16)
    (481, 641)
    >>> padded_size((482, 640), 16)
    (497, 641)
    """
    height, width = (math.ceil((side - 1) / output_stride) * output_stride + 1 for side in size)
    return height, width


def prepare_image(
    image: UInt8[np.ndarray, "H W 3"],
    *,
    input: InputConfig,  # noqa: A002
    output_stride: int,
) -> PreparedImage:
    """Resize, normalise and pad an image for validation or prediction.

    Args:
        image: RGB.
        input: resize rule, mean and standard deviation.
        output_stride: of the model.
    """
    tensor = image_tensor(image)
    size = (image.shape[0], image.shape[1])
    content_size = resized_size(size, input)
    if content_size != size:
        tensor = _resize_image(tensor, content_size)
    tensor = _normalize(tensor, input).as_subclass(Tensor)
    padded_height, padded_width = padded_size(content_size, output_stride)
    tensor = F.pad(tensor, (0, padded_width - content_size[1], 0, padded_height - content_size[0]))
    return PreparedImage(tensor=tensor.contiguous(), content_size=content_size)


def training_transforms(data: DataConfig, input: InputConfig) -> list[Step]:  # noqa: A002
    """The augmentations of section 4 (scale, crop, flip) and the optional ones, in their order.

    Args:
        data: crop size, ranges and probabilities.
        input: resize rule, mean and standard deviation.

    Returns:
        Steps that turn a uint8 image and its label map into a normalised float32 image and a label map of
        `data.crop_size`.
    """
    steps: list[Step] = []
    if data.rotate90:  # first, since it swaps the sides
        steps.append(RandomRotate90())
    steps += [
        RandomResize(data=data, input=input),
        RandomPad(size=data.crop_size, pixel_mean=input.pixel_mean),
        v2.RandomCrop(data.crop_size),
        v2.RandomHorizontalFlip(data.flip_probability),
        v2.RandomVerticalFlip(data.vertical_flip_probability),
    ]
    if data.color_jitter:
        strength = data.color_jitter
        steps.append(v2.ColorJitter(brightness=strength, contrast=strength, saturation=strength))
    if data.grayscale_probability:
        steps.append(v2.RandomGrayscale(data.grayscale_probability))
    steps.append(Normalize(input=input))
    return steps


def apply_transforms(
    steps: Sequence[Step], image: UInt8[Tensor, "3 H W"], panoptic_map: Tensor
) -> tuple[Float[Tensor, "3 h w"], Tensor]:
    """Run the steps on an image and its label map.

    Returns:
        Plain tensors in the memory order that their shape says.
    """
    image, panoptic_map = tv_tensors.Image(image), tv_tensors.Mask(panoptic_map)
    for step in steps:
        image, panoptic_map = step(image, panoptic_map)
        # torchvision ignores a plain tensor beside an image without a word.
        assert isinstance(image, tv_tensors.Image), f"{step} returned {type(image)} as image"
        assert isinstance(panoptic_map, tv_tensors.Mask), f"{step} returned {type(panoptic_map)} as map"
    return image.as_subclass(Tensor).contiguous(), panoptic_map.as_subclass(Tensor).contiguous()


def image_tensor(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[Tensor, "3 H W"]:
    """View an image array as the tensor that torchvision expects."""
    return torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)


@dataclass(frozen=True, kw_only=True)
class RandomResize:
    """The resize rule of the input times a random scale, as one resize.

    Colours are interpolated (bilinear, antialiased when it shrinks), ids are picked from the nearest pixel.
    """

    data: DataConfig
    input: InputConfig

    def __call__(self, image: Tensor, panoptic_map: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        height, width = image.shape[-2:]
        size = _scaled_size((height, width), _input_factor((height, width), self.input) * self._random_scale())
        if size == (height, width):
            return image, panoptic_map
        return _resize_image(image, size), _resize_ids(panoptic_map, size)

    def _random_scale(self) -> float:
        low, high, step = self.data.min_scale, self.data.max_scale, self.data.scale_step
        if step == 0:
            return low + (high - low) * float(torch.rand(()))
        num_scales = math.floor((high - low) / step + 1e-6) + 1
        return low + step * int(torch.randint(num_scales, ()))


@dataclass(frozen=True, kw_only=True)
class RandomPad:
    """Fill up to at least `size`: the image with the mean colour, the map with void.

    The margin is divided at random between both sides of each axis ("beneficial for the instance branch", FACTS 6).
    """

    size: Size
    pixel_mean: tuple[float, float, float]

    def __call__(self, image: Tensor, panoptic_map: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        height, width = image.shape[-2:]
        extra_height, extra_width = max(self.size[0] - height, 0), max(self.size[1] - width, 0)
        if extra_height == extra_width == 0:
            return image, panoptic_map
        top, left = int(torch.randint(extra_height + 1, ())), int(torch.randint(extra_width + 1, ()))
        padding = [left, top, extra_width - left, extra_height - top]
        mean_color = [round(255 * value) for value in self.pixel_mean]
        return (
            v2.functional.pad(image, padding, fill=mean_color),
            v2.functional.pad(panoptic_map, padding, fill=VOID_ID),
        )


@dataclass(frozen=True)
class RandomRotate90:
    """Rotate by 0, 90, 180 or 270 degrees; exact."""

    def __call__(self, image: Tensor, panoptic_map: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        quarters = int(torch.randint(4, ()))
        return (
            tv_tensors.wrap(torch.rot90(image, quarters, (-2, -1)), like=image),
            tv_tensors.wrap(torch.rot90(panoptic_map, quarters, (-2, -1)), like=panoptic_map),
        )


@dataclass(frozen=True, kw_only=True)
class Normalize:
    """Uint8 colours to float32, minus mean, over standard deviation."""

    input: InputConfig

    def __call__(self, image: Tensor, panoptic_map: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        return _normalize(image, self.input), panoptic_map


def _input_factor(size: Size, input: InputConfig) -> float:  # noqa: A002
    return input.scale if input.longest_side is None else input.longest_side / max(size)


def _scaled_size(size: Size, factor: float) -> Size:
    height, width = (max(1, round(side * factor)) for side in size)
    return height, width


def _normalize(image: Tensor, input: InputConfig) -> Tensor:  # noqa: A002
    image = v2.functional.to_dtype(image, torch.float32, scale=True)
    normalised: Tensor = v2.functional.normalize(image, list(input.pixel_mean), list(input.pixel_std), inplace=True)
    return normalised


def _resize_image(image: Tensor, size: Size) -> Tensor:
    resized: Tensor = v2.functional.resize(
        image, list(size), interpolation=v2.InterpolationMode.BILINEAR, antialias=True
    )
    return resized


def _resize_ids(panoptic_map: Tensor, size: Size) -> Tensor:
    """Nearest pixel. torchvision's own way goes through float32 and is half a pixel off the image when it shrinks."""
    rows, columns = (_nearest(new, old) for new, old in zip(size, panoptic_map.shape[-2:], strict=True))
    plain = panoptic_map.as_subclass(Tensor)
    resized: Tensor = tv_tensors.wrap(plain.index_select(-2, rows).index_select(-1, columns), like=panoptic_map)
    return resized


def _nearest(new_length: int, old_length: int) -> Int64[Tensor, " new"]:
    """Old pixel that the centre of each new one falls into: floor((i + 1/2) * old / new), in exact integers."""
    return (2 * torch.arange(new_length) + 1) * old_length // (2 * new_length)
