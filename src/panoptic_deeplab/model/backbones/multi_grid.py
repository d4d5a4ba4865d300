"""Multi-grid: atrous rates that differ between the units of a ResNet's last block (DeepLabV3, section 3.1.1)."""

from typing import Any

from torch import nn

from panoptic_deeplab.errors import ConfigError

_UNITS = 3
"""Number of units of the last block of every bottleneck ResNet."""


def use_multi_grid(network: nn.Module, multi_grid: tuple[int, int, int], *, rate: int, name: str) -> None:
    """Set the atrous rates of the last block of one of timm's ResNets, in place.

    The detectron2 models do so with (1, 2, 4) and the rate 2 (32 / output stride) of output stride 16: their units have
    2, 4 and 8. A `ConfigError` with the network's name says that it is no such ResNet.
    """
    units: list[Any] = list(getattr(network, "layer4", []))
    if len(units) != _UNITS or not all(isinstance(getattr(unit, "conv2", None), nn.Conv2d) for unit in units):
        raise ConfigError(
            f"`model.compat.multi_grid` is for ResNets with three bottleneck units in the last block. {name!r} is none;"
            " set it to null."
        )
    for unit, factor in zip(units, multi_grid, strict=True):
        dilation = (rate * factor, rate * factor)
        unit.conv2.dilation = unit.conv2.padding = dilation
