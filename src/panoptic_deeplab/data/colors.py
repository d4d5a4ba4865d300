"""The augmentations of training that change colors and leave every pixel where it is: `color_steps`.

Steps as in `augment.py`. Those with a strength or probability of 0 are left out.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int32, UInt8
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from panoptic_deeplab.config import DataConfig

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""`(image, panoptic_map) -> (image, panoptic_map)`; a `tv_tensors.Image` and a `tv_tensors.Mask` both ways."""


def color_steps(data: DataConfig) -> list[Step]:
    """The steps that a configuration asks for: first what a stain changes, then the exposure, then the camera."""
    steps: list[tuple[float, Callable[[float], Step]]] = [
        (data.color_jitter, lambda strength: ColorJitter(strength=strength)),
        (data.hue_jitter, lambda strength: HueJitter(strength=strength)),
        (data.grayscale_probability, lambda probability: RandomGrayscale(probability=probability)),
        (data.invert_probability, lambda probability: v2.RandomInvert(probability)),
        (data.gamma_jitter, lambda strength: GammaJitter(strength=strength)),
        (data.blur, lambda strength: Blur(strength=strength)),
        (data.noise, lambda strength: Noise(strength=strength)),
    ]
    return [make(strength) for strength, make in steps if strength]


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
    """Gray in all three channels, with a probability."""

    probability: float

    def __call__(self, image: Tensor, panoptic_map: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        if float(torch.rand(())) >= self.probability:
            return image, panoptic_map
        gray = _luma(image.as_subclass(Tensor)).to(torch.uint8).expand(3, -1, -1)
        return tv_tensors.wrap(gray, like=image), panoptic_map


@dataclass(frozen=True, kw_only=True)
class HueJitter:
    """Turn the color circle by a random part of it, at most `strength` either way."""

    strength: float

    def __call__(self, image: Tensor, panoptic_map: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        turn = self.strength * (2 * float(torch.rand(())) - 1)
        return v2.functional.adjust_hue(image, turn), panoptic_map


@dataclass(frozen=True, kw_only=True)
class GammaJitter:
    """Brightness in [0, 1] to a random power between e^-strength and e^strength."""

    strength: float

    def __call__(self, image: Tensor, panoptic_map: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        power = math.exp(self.strength * (2 * float(torch.rand(())) - 1))
        table = _to_uint8(255 * (torch.arange(256, dtype=torch.float64) / 255) ** power)
        return tv_tensors.wrap(table[image.as_subclass(Tensor).long()], like=image), panoptic_map


@dataclass(frozen=True, kw_only=True)
class Blur:
    """Gaussian blur of a random standard deviation, at most `strength` pixels."""

    strength: float

    def __call__(self, image: Tensor, panoptic_map: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        sigma = self.strength * float(torch.rand(()))
        radius = math.ceil(3 * sigma)
        if radius == 0 or radius >= min(image.shape[-2:]):  # smaller than what its border mirrors
            return image, panoptic_map
        weights = [math.exp(-0.5 * (offset / max(sigma, 1e-3)) ** 2) for offset in range(-radius, radius + 1)]
        colors = image.as_subclass(Tensor).float()
        for axis in (-2, -1):  # sums of shifted copies, which add up in the same order on any number of threads
            length = colors.shape[axis]
            padding = (0, 0, radius, radius) if axis == -2 else (radius, radius, 0, 0)
            padded = torch.nn.functional.pad(colors[None], padding, mode="reflect")[0]
            shifted = (weight * padded.narrow(axis, start, length) for start, weight in enumerate(weights))
            colors = sum(shifted, torch.zeros(())) / sum(weights)
        return tv_tensors.wrap(_to_uint8(colors), like=image), panoptic_map


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Gaussian noise of a random standard deviation, at most `strength` of white; a third of its variance is gray."""

    strength: float

    def __call__(self, image: Tensor, panoptic_map: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        sigma = 255 * self.strength * float(torch.rand(()))
        colors = image.as_subclass(Tensor).float()
        gray = torch.randn(1, *colors.shape[1:])
        colored = torch.randn(colors.shape)
        noisy = _to_uint8(colors + sigma * (math.sqrt(1 / 3) * gray + math.sqrt(2 / 3) * colored))
        return tv_tensors.wrap(noisy, like=image), panoptic_map


def _luma(image: UInt8[Tensor, "3 H W"]) -> Int32[Tensor, "H W"]:
    """Brightness of each pixel, 0..255 (ITU-R BT.601), in exact integers."""
    red, green, blue = image.to(torch.int32)
    luma: Tensor = (299 * red + 587 * green + 114 * blue + 500) // 1000
    return luma


def _to_uint8(colors: Float[Tensor, "..."]) -> UInt8[Tensor, "..."]:
    return colors.round().clamp(0, 255).to(torch.uint8)
