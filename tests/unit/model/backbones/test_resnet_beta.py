"""ResNet-50-beta: where it strides, dilates and is tapped, and what it shares with timm's `resnet50s`."""

from pathlib import Path
from typing import Literal

import pytest
import timm
import torch
from torch import Tensor, nn

from panoptic_deeplab.config import ModelConfig
from panoptic_deeplab.model.backbones.resnet_beta import ResNetBeta, resnet50_beta
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.backbone import load_backbone_weights
from panoptic_deeplab.weights.folder import save_weights

OutputStride = Literal[8, 16, 32]


def convolutions(network: ResNetBeta) -> dict[str, nn.Conv2d]:
    """The 3x3 convolutions of the four blocks, as `block.unit`."""
    return {
        name.removeprefix("layer").removesuffix(".conv2"): module
        for name, module in network.named_modules()
        if name.endswith(".conv2") and isinstance(module, nn.Conv2d)
    }


@pytest.mark.parametrize("size", [(65, 97), (64, 96), (49, 70)])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_features(output_stride: OutputStride, size: tuple[int, int]) -> None:
    network = resnet50_beta(ModelConfig(output_stride=output_stride)).eval()
    with torch.inference_mode():
        features = network(torch.rand(1, 3, *size))
    assert network.strides == [4, 8, min(16, output_stride), output_stride]
    assert network.channels == [256, 512, 1024, 2048]
    for feature, stride, channels in zip(features, network.strides, network.channels, strict=True):
        assert feature.shape == (1, channels, -(-size[0] // stride), -(-size[1] // stride))


@pytest.mark.parametrize(
    ("output_stride", "strided", "dilated"),
    [
        (32, {"1.2", "2.3", "3.5"}, {}),
        (16, {"1.2", "2.3"}, {"4.0": 2, "4.1": 2, "4.2": 2}),
        (8, {"1.2"}, {**{f"3.{unit}": 2 for unit in range(6)}, **{f"4.{unit}": 4 for unit in range(3)}}),
    ],
)
def test_strides_are_in_last_units(output_stride: OutputStride, strided: set[str], dilated: dict[str, int]) -> None:
    """A unit that no longer strides keeps its own rate; the units behind it are dilated."""
    with torch.device("meta"):
        found = convolutions(ResNetBeta(output_stride))
    assert {name for name, conv in found.items() if conv.stride == (2, 2)} == strided
    assert {name: conv.dilation[0] for name, conv in found.items() if conv.dilation != (1, 1)} == dilated


def test_features_stay_in_place_when_the_image_is_padded() -> None:
    network = ResNetBeta(16).eval()
    image = torch.rand(1, 3, 128, 128)
    with torch.inference_mode():
        features = network(image)
        padded = network(nn.functional.pad(image, (0, 33, 0, 33)))
    for small, large in list(zip(features, padded, strict=True))[:2]:
        inner = small.shape[-1] // 2 - 4  # beyond, the border is within the receptive field
        torch.testing.assert_close(small[..., :inner, :inner], large[..., :inner, :inner], rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def timm_network() -> nn.Module:
    """With running statistics that are not those of a new network."""
    torch.manual_seed(1)
    network: nn.Module = timm.create_model("resnet50s", zero_init_last=False).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1)
            nn.init.uniform_(module.bias, -0.1, 0.1)
    return network


@pytest.fixture
def filled(timm_network: nn.Module, tmp_path: Path) -> ResNetBeta:
    """Our network with timm's weights, through a file."""
    save_weights(tmp_path / "resnet50s.safetensors", timm_network.state_dict())
    model = PanopticDeepLab(
        ModelConfig(backbone="resnet50_beta", backbone_weights=str(tmp_path / "resnet50s.safetensors")), 2
    )
    load_backbone_weights(model)
    network = model.backbone.network
    assert isinstance(network, ResNetBeta)
    return network.eval()


def test_feature_at_stride_4_is_that_of_timm(filled: ResNetBeta, timm_network: nn.Module) -> None:
    images, seen = torch.rand(1, 3, 65, 97), []
    residual = timm_network.get_submodule("layer1.1.bn3")
    handle = residual.register_forward_hook(lambda _module, _inputs, output: seen.append(output.clone()))
    with torch.inference_mode():
        timm_network(images)
        features = filled(images)
    handle.remove()
    torch.testing.assert_close(features[0], seen[0], rtol=1e-4, atol=1e-5)


def test_layers_are_those_of_timm_apart_from_strides(filled: ResNetBeta, timm_network: nn.Module) -> None:
    """With every stride of both networks' blocks set to 1, all features are equal."""
    images, seen = torch.rand(1, 3, 33, 33), []

    def without_strides(network: nn.Module) -> None:
        for name, module in network.named_modules():
            if name.startswith("layer"):
                if isinstance(module, nn.Conv2d):
                    module.stride, module.dilation = (1, 1), (1, 1)
                    module.padding = (module.kernel_size[0] // 2,) * 2
                elif hasattr(module, "stride"):
                    module.stride = 1  # of the shortcut

    def keep(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(output.clone())  # timm adds the shortcut in place

    timm_network.load_state_dict({**timm_network.state_dict(), **filled.state_dict()})
    without_strides(timm_network)
    without_strides(filled)
    for name in ("layer1.1.bn3", "layer2.2.bn3", "layer3.4.bn3", "layer4"):
        timm_network.get_submodule(name).register_forward_hook(keep)
    with torch.inference_mode():
        timm_network(images)
        features = filled(images)
    assert len(seen) == len(features) == 4
    for ours, theirs in zip(features, seen, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
