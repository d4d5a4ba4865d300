"""Atrous rates of the last block."""

from typing import Any

import pytest
import torch

from panoptic_deeplab.config import CompatConfig, ModelConfig
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.model.backbones.build import build_backbone


def resnet(output_stride: Any, multi_grid: tuple[int, int, int] | None) -> ModelConfig:
    return ModelConfig(backbone="resnet50s", output_stride=output_stride, compat=CompatConfig(multi_grid=multi_grid))


def rates(output_stride: int, multi_grid: tuple[int, int, int] | None = None) -> list[int]:
    with torch.device("meta"):
        network: Any = build_backbone(resnet(output_stride, multi_grid)).network
    for unit in network.layer4:
        assert unit.conv2.padding == unit.conv2.dilation
    return [unit.conv2.dilation[0] for unit in network.layer4]


def test_rates_are_multiples_of_the_lost_stride() -> None:
    assert rates(output_stride=16) == [1, 2, 2]  # the first unit keeps its rate
    assert rates(output_stride=16, multi_grid=(1, 1, 1)) == [2, 2, 2]
    assert rates(output_stride=16, multi_grid=(1, 2, 4)) == [2, 4, 8]
    assert rates(output_stride=32, multi_grid=(1, 2, 4)) == [1, 2, 4]
    assert rates(output_stride=8, multi_grid=(1, 2, 4)) == [4, 8, 16]


def test_size_stays() -> None:
    network = build_backbone(resnet(16, (1, 2, 4))).eval()
    assert network(torch.zeros(1, 3, 65, 97)).deepest.shape[-2:] == (5, 7)


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenetv2_100", "xception65"])
def test_other_networks_refuse(backbone: str) -> None:
    with torch.device("meta"), pytest.raises(ConfigError, match=r"`model\.compat\.multi_grid` is for ResNets"):
        build_backbone(ModelConfig(backbone=backbone, compat=CompatConfig(multi_grid=(1, 2, 4))))


def test_rates_are_positive() -> None:
    with pytest.raises(ConfigError, match=r"model\.compat\.multi_grid"):
        CompatConfig(multi_grid=(0, 1, 2))
