"""The augmentations of training: `training_transforms`, a list of steps to read from top to bottom.

Each step takes and returns `(image, panoptic_map)`, two tensors of torchvision's types `tv_tensors.Image` and
`tv_tensors.Mask`, which is how torchvision tells colors (interpolate) from ids (never). Random steps draw from torch's
global generator. No step depends on the number of threads, not even in the last bit. What prediction does to an image
is in `images/prepare.py`; the steps that change colors alone are in `colors.py`. Sizes are `(height, width)` in pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from panoptic_deeplab.config import DataConfig, InputConfig
from panoptic_deeplab.data.colors import Step, color_steps
from panoptic_deeplab.images.prepare import input_factor, interpolated, normalized, scaled_size
from panoptic_deeplab.maps import Size, size_of
from panoptic_deeplab.results.ids import VOID_ID


def training_transforms(data: DataConfig, input_config: InputConfig) -> list[Step]:
    """The augmentations of section 4 (scale, crop, flip) and the optional ones, in their order.

    They turn a uint8 image and its label map into a normalized float32 image and a label map of `data.crop_size`.
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
    steps += color_steps(data)
    # Padded last, so that the margin has no colors to change.
    steps += [Normalize(input_config=input_config), Pad(size=data.crop_size, at_random=data.padding == "random")]
    return steps


def apply_transforms(
    steps: Sequence[Step], image: UInt8[Tensor, "3 H W"], panoptic_map: Tensor
) -> tuple[Float[Tensor, "3 h w"], Tensor]:
    """Run the steps on an image and its label map; plain tensors in the memory order that their shape says."""
    image, panoptic_map = tv_tensors.Image(image), tv_tensors.Mask(panoptic_map)
    for step in steps:
        image, panoptic_map = step(image, panoptic_map)
        # torchvision ignores a plain tensor beside an image without a word.
        assert isinstance(image, tv_tensors.Image), f"{step} returned {type(image)} as image"
        assert isinstance(panoptic_map, tv_tensors.Mask), f"{step} returned {type(panoptic_map)} as map"
    return image.as_subclass(Tensor).contiguous(), panoptic_map.as_subclass(Tensor).contiguous()


@dataclass(frozen=True, kw_only=True)
class RandomResize:
    """The resize rule of the input (or that of `data`, for training alone) times a random scale, as one resize.

    Colors are interpolated (bilinear, antialiased when it shrinks), ids are picked from the nearest pixel.
    """

    data: DataConfig
    input_config: InputConfig

    def __call__(self, image: Tensor, panoptic_map: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        before = size_of(image)
        size = scaled_size(before, self._random_factor(before))
        if size == before:
            return image, panoptic_map
        return interpolated(image, size), _resize_ids(panoptic_map, size)

    def _random_factor(self, size: Size) -> float:
        scale = self._random_scale()
        if self.data.shortest_side is None:
            return input_factor(size, self.input_config) * scale
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
    """Fill up to at least `size`: the normalized image with 0, the mean color, the map with void.

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
    """Uint8 colors to float32, minus mean, over standard deviation."""

    input_config: InputConfig

    def __call__(self, image: Tensor, panoptic_map: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        return normalized(image, self.input_config), panoptic_map


def _resize_ids(panoptic_map: Tensor, size: Size) -> Tensor:
    """Nearest pixel. torchvision's own way goes through float32 and is half a pixel off the image when it shrinks."""
    rows, columns = (_nearest(new, old) for new, old in zip(size, panoptic_map.shape[-2:], strict=True))
    plain = panoptic_map.as_subclass(Tensor)
    resized: Tensor = tv_tensors.wrap(plain.index_select(-2, rows).index_select(-1, columns), like=panoptic_map)
    return resized


def _nearest(new_length: int, old_length: int) -> Int64[Tensor, " new"]:
    """Old pixel that the center of each new one falls into: floor((i + 1/2) * old / new), in exact integers."""
    return (2 * torch.arange(new_length) + 1) * old_length // (2 * new_length)
