"""Each step against the plain formula; that all together keep shapes and ids is tested in `test_augment.py`."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors

from panoptic_deeplab.config import DataConfig
from panoptic_deeplab.data.colors import Blur, GammaJitter, HueJitter, Noise, Step, color_steps

IMAGE = torch.randint(0, 256, (3, 24, 31), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
MAP = torch.arange(24 * 31, dtype=torch.int32).reshape(24, 31)


def _stepped(step: Step, image: Tensor = IMAGE) -> Tensor:
    result, panoptic_map = step(tv_tensors.Image(image), tv_tensors.Mask(MAP))
    assert torch.equal(panoptic_map.as_subclass(Tensor), MAP)
    assert result.dtype == torch.uint8
    return result.as_subclass(Tensor)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every uniform number is 1: each step with all of its strength."""
    monkeypatch.setattr(torch, "rand", lambda *_: torch.tensor(1.0))


def test_what_has_no_strength_is_no_step():
    assert color_steps(DataConfig()) == []
    steps = color_steps(DataConfig(invert_probability=1.0, gamma_jitter=0.1))
    assert torch.equal(_stepped(steps[0]), 255 - IMAGE)
    assert isinstance(steps[1], GammaJitter)


@pytest.mark.usefixtures("drawn")
def test_gamma_is_a_power():
    expected = np.rint(255 * (IMAGE.numpy() / 255) ** math.exp(0.7)).astype(np.uint8)
    assert np.array_equal(_stepped(GammaJitter(strength=0.7)).numpy(), expected)


@pytest.mark.usefixtures("drawn")
def test_blur_is_a_gaussian():
    radius, sigma = 5, 1.5
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = np.outer(weights, weights) / weights.sum() ** 2
    padded = np.pad(IMAGE.numpy().astype(float), ((0, 0), (radius, radius), (radius, radius)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape, axis=(1, 2))
    expected = (windows * kernel).sum((-2, -1))
    assert np.abs(_stepped(Blur(strength=sigma)).numpy() - expected).max() < 0.51
    tiny = torch.full((3, 2, 2), 7, dtype=torch.uint8)
    assert torch.equal(Blur(strength=sigma)(tv_tensors.Image(tiny), tv_tensors.Mask(MAP))[0].as_subclass(Tensor), tiny)


@pytest.mark.usefixtures("drawn")
def test_noise_has_the_deviation_that_is_asked_for_and_a_gray_part():
    gray = torch.full((3, 200, 200), 128, dtype=torch.uint8)
    noise = _stepped(Noise(strength=0.1), gray).double() - 128
    assert noise.std().item() == pytest.approx(25.5, rel=0.02)
    assert abs(noise.mean().item()) < 0.5
    shared = torch.corrcoef(noise.flatten(1))[0, 1].item()
    assert shared == pytest.approx(1 / 3, abs=0.03)


@pytest.mark.usefixtures("drawn")
def test_hue_turns_colors_and_leaves_gray():
    red = torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None, None].expand(3, 24, 31)
    assert _stepped(HueJitter(strength=1 / 3), red)[:, 0, 0].tolist() == [0, 255, 0]
    gray = IMAGE[:1].expand(3, -1, -1)
    assert (_stepped(HueJitter(strength=0.2), gray).int() - gray.int()).abs().max() <= 1
