"""How large a network is and what it computes, counted as the paper counts (Tables 1, 5 and 9).

The network is built without values, so the largest takes seconds and no memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from panoptic_deeplab.config import ModelConfig
from panoptic_deeplab.maps import Size
from panoptic_deeplab.model.aspp import ASPP
from panoptic_deeplab.model.network import PanopticDeepLab


class Counts(NamedTuple):
    """What one network has, and computes for one input."""

    parameters: int
    """Weights and biases, scale and shift of BN; its running statistics are no parameters."""
    multiply_adds: float
    """One for each multiplication of a convolution, half a one for each value that the ASPP's image pool adds.
    Biases, BN, activations, resizes and additions are not counted, as in the paper (their share is about 0.25 %)."""


def count(config: ModelConfig, num_classes: int, size: Size) -> Counts:
    """Count the network for one image.

    Args:
        config: settings of the network; `image_pool_size` is the training crop, whose window the paper keeps at
            inference.
        num_classes: channels of the semantic head.
        size: `(height, width)` of the image.
    """
    with torch.device("meta"):
        model = PanopticDeepLab(config, num_classes).eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):  # not counted, and half of the time
                module.forward = _unchanged  # type: ignore[method-assign]
        with _multiply_adds(model) as total, torch.no_grad():
            model(torch.empty(1, 3, *size))
    return Counts(parameters=sum(parameter.numel() for parameter in model.parameters()), multiply_adds=sum(total))


def _unchanged(input: Tensor) -> Tensor:  # noqa: A002 - the name in the base class
    return input


@contextmanager
def _multiply_adds(model: nn.Module) -> Iterator[list[float]]:
    """A list to which each convolution and image pool that runs adds its multiply-adds."""
    counted: list[float] = []

    def of_convolution(module: nn.Module, _: tuple[Tensor], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        counted.append(module.weight.numel() * output.shape[-2] * output.shape[-1])

    def of_image_pool(module: nn.Module, inputs: tuple[Tensor], _: Tensor) -> None:
        assert isinstance(module, ASPP)
        channels, height, width = inputs[0].shape[1:]
        window = module.pool_window((height, width))
        places = (height - window[0] + 1) * (width - window[1] + 1)
        counted.append(channels * places * window[0] * window[1] / 2)

    handles = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(of_convolution))
        elif isinstance(module, ASPP):
            handles.append(module.register_forward_hook(of_image_pool))
    yield counted
    for handle in handles:
        handle.remove()
