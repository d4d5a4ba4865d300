"""From an image on disk to what the network sees: the input rule for prediction, and the augmentations of training.

Prediction: `prepare_image` = resize rule of `InputConfig` -> normalise -> pad. Training: `training_transforms`, a list
of steps to read from top to bottom. Each step takes and returns `(image, panoptic_map)`, two tensors of torchvision's
types `tv_tensors.Image` and `tv_tensors.Mask`, which is how torchvision tells colours (interpolate) from ids (never).
Random steps draw from torch's global generator. No step depends on the number of threads, not even in the last bit.

In both, images are padded after they are normalised, with 0: the mean colour, exactly.

Sizes are `(height, width)` in pixels.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F
from torchvision import tv_tensors
from torchvision.transforms import v2

from panoptic_deeplab.config import DataConfig, InputConfig
from panoptic_deeplab.maps import Size
from panoptic_deeplab.results.ids import VOID_ID

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""`(image, panoptic_map) -> (image, panoptic_map)`; a `tv_tensors.Image` and a `tv_tensors.Mask` both ways."""


class PreparedImage(NamedTuple):
    """An image as the network takes it."""

    tensor: Float32[Tensor, "3 Hp Wp"]
    """Normalized; padded at the bottom and on the right with 0, the mean colour."""
    content_size: Size
    """Size before padding: the part of the network's output that belongs to the image."""


def resized_size(size: Size, input_config: InputConfig) -> Size:
    """The size that the rule of `InputConfig` gives an image, before padding.

    >>> resized_size((480, 640), InputConfig(longest_side=641))
    (481, 641)
    """
    return _scaled_size(size, _input_factor(size, input_config))


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
    image: UInt8[np.ndarray, "H W 3"],
    *,
    input_config: InputConfig,
    output_stride: int,
    align_corners: bool,
) -> PreparedImage:
    """Resize, normalise and pad an image for validation or prediction.

    Args:
        image: RGB.
        input_config: resize rule, mean and standard deviation.
        output_stride: of the model.
        align_corners: of the model.
    """
    resized = resize_image(image, input_config=input_config)
    content_size = (resized.shape[1], resized.shape[2])
    tensor = _normalize(resized, input_config).as_subclass(Tensor)
    minimum = input_config.pad_to or content_size
    to_pad = max(content_size[0], minimum[0]), max(content_size[1], minimum[1])
    padded_height, padded_width = padded_size(to_pad, output_stride, align_corners=align_corners)
    tensor = F.pad(tensor, (0, padded_width - content_size[1], 0, padded_height - content_size[0]))
    return PreparedImage(tensor=tensor.contiguous(), content_size=content_size)


def resize_image(image: UInt8[np.ndarray, "H W 3"], *, input_config: InputConfig) -> UInt8[Tensor, "3 h w"]:
    """The first step of `prepare_image`: the image at the size that the rule gives.

    Args:
        image: RGB.
        input_config: resize rule.
    """
    size = (image.shape[0], image.shape[1])
    content_size = resized_size(size, input_config)
    tensor = image_tensor(image)
    return tensor if content_size == size else _resize_image(tensor, content_size)


def training_transforms(data: DataConfig, input_config: InputConfig) -> list[Step]:
    """The augmentations of section 4 (scale, crop, flip) and the optional ones, in their order.

    Args:
        data: crop size, ranges and probabilities.
        input_config: resize rule, mean and standard deviation.

    Returns:
        Steps that turn a uint8 image and its label map into a normalised float32 image and a label map of
        `data.crop_size`.
    """
    steps: list[Step] = []
    if data.rotate90:  # first, since it swaps the sides
        steps.append(RandomRotate90())
    steps += [
        RandomResize(data=data, input_config=input_config),
        RandomCrop(size=data.crop_size),
        v2.RandomHorizontalFlip(data.flip_probability),
        v2.RandomVerticalFlip(data.vertical_flip_probability),
    ]
    if data.color_jitter:
        steps.append(ColorJitter(strength=data.color_jitter))
    if data.grayscale_probability:
        steps.append(RandomGrayscale(probability=data.grayscale_probability))
    # Padded last, so that the margin has no colours to change.
    steps += [Normalize(input_config=input_config), Pad(size=data.crop_size, at_random=data.padding == "random")]
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
    """The resize rule of the input (or that of `data`, for training alone) times a random scale, as one resize.

    Colours are interpolated (bilinear, antialiased when it shrinks), ids are picked from the nearest pixel.
    """

    data: DataConfig
    input_config: InputConfig

    def __call__(self, image: Tensor, panoptic_map: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        height, width = image.shape[-2:]
        size = _scaled_size((height, width), self._random_factor((height, width)))
        if size == (height, width):
            return image, panoptic_map
        return _resize_image(image, size), _resize_ids(panoptic_map, size)

    def _random_factor(self, size: Size) -> float:
        scale = self._random_scale()
        if self.data.shortest_side is None:
            return _input_factor(size, self.input_config) * scale
        factor = self.data.shortest_side / min(size) * scale
        limit = self.data.longest_side_limit
        return factor if limit is None else min(factor, limit / max(size))

    def _random_scale(self) -> float:
        low, high, step = self.data.min_scale, self.data.max_scale, self.data.scale_step
        if step == 0:
            return low + (high - low) * float(torch.rand(()))
        num_scales = math.floor((high - low) / step + 1e-6) + 1
        return low + step * int(torch.randint(num_scales, ()))


@dataclass(frozen=True, kw_only=True)
class Pad:
    """Fill up to at least `size`: the normalised image with 0, the mean colour, the map with void.

    The margin is divided at random between both sides of each axis, which the authors call beneficial for the instance
    branch, or lies at the bottom and on the right.
    """

    size: Size
    at_random: bool

    def __call__(self, image: Tensor, panoptic_map: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        height, width = image.shape[-2:]
        extra_height, extra_width = max(self.size[0] - height, 0), max(self.size[1] - width, 0)
        if extra_height == extra_width == 0:
            return image, panoptic_map
        top = left = 0
        if self.at_random:
            top, left = int(torch.randint(extra_height + 1, ())), int(torch.randint(extra_width + 1, ()))
        padding = [left, top, extra_width - left, extra_height - top]
        return v2.functional.pad(image, padding, fill=0), v2.functional.pad(panoptic_map, padding, fill=VOID_ID)


@dataclass(frozen=True, kw_only=True)
class RandomCrop:
    """Cut out a part of at most `size`, anywhere; a side that is shorter stays as it is."""

    size: Size

    def __call__(self, image: Tensor, panoptic_map: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        height, width = image.shape[-2:]
        new_height, new_width = min(self.size[0], height), min(self.size[1], width)
        top, left = int(torch.randint(height - new_height + 1, ())), int(torch.randint(width - new_width + 1, ()))
        window = top, left, new_height, new_width
        return v2.functional.crop(image, *window), v2.functional.crop(panoptic_map, *window)


@dataclass(frozen=True, kw_only=True)
class ColorJitter:
    """Brightness, contrast and saturation, each times a random factor from 1 - strength to 1 + strength.

    Not torchvision's: its contrast rests on a mean in float32, which depends on the number of threads.
    """

    strength: float

    def __call__(self, image: Tensor, panoptic_map: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        brightness, contrast, saturation = (1 + self.strength * (2 * torch.rand(3) - 1)).tolist()
        colors = _to_uint8(brightness * image.as_subclass(Tensor))
        mean = _luma(colors).double().mean().item()  # of integers, so the sum is exact in any order
        colors = _to_uint8(mean + contrast * (colors - mean))
        gray = _luma(colors)
        colors = _to_uint8(gray + saturation * (colors - gray))
        return tv_tensors.wrap(colors, like=image), panoptic_map


@dataclass(frozen=True, kw_only=True)
class RandomGrayscale:
    """Grey in all three channels, with a probability."""

    probability: float

    def __call__(self, image: Tensor, panoptic_map: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        if float(torch.rand(())) >= self.probability:
            return image, panoptic_map
        gray = _luma(image.as_subclass(Tensor)).to(torch.uint8).expand(3, -1, -1)
        return tv_tensors.wrap(gray, like=image), panoptic_map


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

    input_config: InputConfig

    def __call__(self, image: Tensor, panoptic_map: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        return _normalize(image, self.input_config), panoptic_map


def _input_factor(size: Size, config: InputConfig) -> float:
    return config.scale if config.longest_side is None else config.longest_side / max(size)


def _scaled_size(size: Size, factor: float) -> Size:
    height, width = (max(1, round(side * factor)) for side in size)
    return height, width


def _normalize(image: Tensor, config: InputConfig) -> Tensor:
    image = v2.functional.to_dtype(image, torch.float32, scale=True)
    normalised: Tensor = v2.functional.normalize(image, list(config.pixel_mean), list(config.pixel_std), inplace=True)
    return normalised


def _luma(image: UInt8[Tensor, "3 H W"]) -> Int32[Tensor, "H W"]:
    """Brightness of each pixel, 0..255 (ITU-R BT.601), in exact integers."""
    red, green, blue = image.to(torch.int32)
    luma: Tensor = (299 * red + 587 * green + 114 * blue + 500) // 1000
    return luma


def _to_uint8(colors: Float[Tensor, "3 H W"]) -> UInt8[Tensor, "3 H W"]:
    return colors.round().clamp(0, 255).to(torch.uint8)


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
