"""Counting parameters and multiply-adds."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from panoptic_deeplab.config import ModelConfig
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.profiling.counting import count

SMALL: dict[str, Any] = {"backbone": "test_resnet", "aspp_channels": 8, "instance_aspp_channels": 8}


@pytest.mark.parametrize("size", [(65, 129), (50, 71)])
def test_agrees_with_the_flop_counter_of_pytorch(size: tuple[int, int]) -> None:
    """Which counts two operations a multiply-add, and no image pool."""
    config = ModelConfig(**SMALL)
    model = PanopticDeepLab(config, 5).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, *size))
    rows, columns = -(-size[0] // 16), -(-size[1] // 16)
    pooled = 2 * model.backbone.deepest_channels * rows * columns / 2
    counts = count(config, 5, size)
    assert counts.multiply_adds == counter.get_total_flops() / 2 + pooled
    assert counts.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_image_pool_of_the_training_crop_adds_each_window() -> None:
    """At 129 x 129 pixels features have 9 x 9; windows of 5 x 5 fit in 5 x 5 places, and so many values are resized."""
    whole = count(ModelConfig(**SMALL), 5, (129, 129))
    windows = count(ModelConfig(**SMALL, image_pool_size=(65, 65)), 5, (129, 129))
    channels = PanopticDeepLab(ModelConfig(**SMALL), 5).backbone.deepest_channels
    added = channels * (25 * 25 - 81) / 2
    convolved = channels * 8 * (25 - 1)
    assert windows.multiply_adds - whole.multiply_adds == 2 * (added + convolved)
    assert windows.parameters == whole.parameters


def test_is_counted_without_values() -> None:
    """A network that would not fit in memory, at a size that would not either."""
    config = ModelConfig(**SMALL, decoder_conv="dense", decoder_channels=60_000)
    counts = count(config, 5, (20_001, 20_001))
    assert counts.parameters > 5e10
    assert counts.multiply_adds > 1e18
