"""MobileNetV3-Large with the last block halved: its features, and timm's weights for the layers that agree."""

import logging
from pathlib import Path
from typing import Literal

import pytest
import timm
import torch
from torch import Tensor, nn

from panoptic_deeplab.config import ModelConfig
from panoptic_deeplab.model.backbones.mobilenet_v3 import MobileNetV3LargeSeg, mobilenet_v3_large_seg
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.backbone import load_backbone_weights
from panoptic_deeplab.weights.folder import save_weights

OutputStride = Literal[8, 16, 32]


@pytest.mark.parametrize("size", [(65, 97), (64, 96), (49, 70)])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_features(output_stride: OutputStride, size: tuple[int, int]) -> None:
    network = mobilenet_v3_large_seg(ModelConfig(output_stride=output_stride)).eval()
    with torch.inference_mode():
        features = network(torch.rand(1, 3, *size))
    assert network.strides == [4, 8, min(16, output_stride), output_stride]
    assert network.channels == [72, 120, 672, 480]
    for feature, stride, channels in zip(features, network.strides, network.channels, strict=True):
        assert feature.shape == (1, channels, -(-size[0] // stride), -(-size[1] // stride))


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_strides_and_rates_are_those_of_timm(output_stride: OutputStride) -> None:
    with torch.device("meta"):
        ours = MobileNetV3LargeSeg(output_stride)
        theirs = timm.create_model("mobilenetv3_large_100", features_only=True, output_stride=output_stride)

    def depthwise(network: nn.Module) -> dict[str, tuple[int, int]]:
        return {
            name.removesuffix(".conv_dw"): (module.stride[0], module.dilation[0])
            for name, module in network.named_modules()
            if name.endswith("conv_dw") and isinstance(module, nn.Conv2d)
        }

    found = depthwise(ours)
    assert len(found) == 15
    assert found == depthwise(theirs)
    if output_stride == 16:  # the unit that no longer strides keeps its rate
        assert [found[f"blocks.5.{index}"] for index in range(3)] == [(1, 1), (1, 2), (1, 2)]


def test_last_block_is_halved() -> None:
    with torch.device("meta"):
        ours = MobileNetV3LargeSeg(32).state_dict()
        theirs = timm.create_model("mobilenetv3_large_100").state_dict()
    assert ours.keys() == {name for name in theirs if not name.startswith(("conv_head", "classifier"))}
    other = {name.rpartition(".")[0] for name, value in ours.items() if value.shape != theirs[name].shape}
    assert all(name.startswith(("blocks.5.", "blocks.6.")) for name in other)
    for block, expanded in enumerate((336, 480, 480)):
        name = f"blocks.5.{block}.conv_dw.weight"
        assert (len(ours[name]), len(theirs[name])) == (expanded, 2 * expanded)
        assert ours[f"blocks.5.{block}.conv_pwl.weight"].shape[0] == 80
    assert ours["blocks.6.0.conv.weight"].shape[0] == 480


def test_weights_of_timm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Features in front of the halved block are equal; the halved block stays as it was, and a message says so."""
    network: nn.Module = timm.create_model("mobilenetv3_large_100").eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    save_weights(tmp_path / "weights.safetensors", network.state_dict())
    model = PanopticDeepLab(
        ModelConfig(backbone="mobilenet_v3_large_seg", backbone_weights=str(tmp_path / "weights.safetensors")), 2
    ).eval()
    before = {name: value.clone() for name, value in model.backbone.network.state_dict().items()}
    with caplog.at_level(logging.INFO):
        load_backbone_weights(model)
    assert "do not cover these parts, which start at random: blocks.5, blocks.6" in caplog.text
    after = model.backbone.network.state_dict()
    for name, value in after.items():
        expected = before if name.startswith(("blocks.5.", "blocks.6.")) else network.state_dict()
        assert torch.equal(value, expected[name]), name

    seen: list[Tensor] = []
    for name in ("blocks.1.1.bn2", "blocks.2.2.bn2", "blocks.4.1.bn2"):  # in timm, BN and its activation
        network.get_submodule(name).register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    images = torch.rand(1, 3, 65, 97)
    with torch.inference_mode():
        network(images)
        features = model.backbone.network(images)
    for ours, theirs in zip(features[:3], seen, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
