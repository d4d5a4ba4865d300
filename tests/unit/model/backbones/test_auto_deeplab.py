"""Auto-DeepLab: resolutions, channels, the wiring of a cell, and what the variants give the decoder."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from panoptic_deeplab.config import ModelConfig
from panoptic_deeplab.errors import CheckpointError, ConfigError
from panoptic_deeplab.model.backbones.auto_deeplab import AutoDeepLab, auto_deeplab_l_plus
from panoptic_deeplab.model.backbones.build import build_backbone
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.backbone import load_backbone_weights
from panoptic_deeplab.weights.folder import save_weights

FILTERS = 4


def small(*, tap_at_8: bool = True, align_corners: bool = True) -> AutoDeepLab:
    return AutoDeepLab(FILTERS, tap_at_8=tap_at_8, align_corners=align_corners).eval()


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("size", [(65, 97), (64, 96), (49, 70)])
def test_features(size: tuple[int, int], align_corners: bool) -> None:
    network = small(align_corners=align_corners)
    assert network.strides == [4, 8, 8]
    assert network.channels == [5 * FILTERS, 10 * FILTERS, 10 * FILTERS]
    features = network(torch.rand(1, 3, *size))
    for feature, stride, channels in zip(features, network.strides, network.channels, strict=True):
        assert feature.shape == (1, channels, -(-size[0] // stride), -(-size[1] // stride))
    assert features[-1].min() >= 0  # behind the final ReLU, as the taps are not
    assert features[0].min() < 0


def test_path_through_resolutions() -> None:
    """Cells of level 3 keep their channels and run at stride 16: "remove the stride"."""
    network, seen = small(), []
    for cell in network.cells:
        cell.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape[1:]))
    network(torch.rand(1, 3, 129, 129))
    assert [128 // (side - 1) for _, side, _ in seen] == [4, 4, 4, 8, 16, 8, 16, 16, 16, 16, 16, 8]
    assert [channels // 5 // FILTERS for channels, _, _ in seen] == [1, 1, 1, 2, 4, 2, 4, 4, 8, 8, 4, 2]


OPERATIONS = ("atrous5", "sep3", "sep3", "atrous3", "sep3", "sep3", "sep5", "sep5", "sep5", "atrous5")
INPUTS = (1, 0, 1, 0, 3, 1, 4, 2, 3, 5)
"""As the TensorFlow DeepLab lists them."""


@pytest.mark.parametrize("index", [1, 4, 6], ids=["stride 1", "stride 2", "unequal sizes"])
def test_cell_is_the_published_one(index: int) -> None:
    cell: Any = small().cells[index]
    for module in cell.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.weight, 0.5, 1)
    strided = index != 1
    last = torch.rand(1, cell.last[1][0].in_channels, 17, 17) - 0.5
    before_last = torch.rand(1, cell.before_last[1][0].in_channels, 9 if index == 6 else 17, 17) - 0.5
    output = cell(last, before_last, (17, 17))

    if index == 6:
        before_last = nn.functional.interpolate(before_last, size=(17, 17), mode="bilinear", align_corners=True)
    states = [cell.last[1](last.relu()), cell.before_last[1](before_last.relu())]
    results = []
    for operation, source, module in zip(OPERATIONS, INPUTS, cell.convolutions, strict=True):
        layers = [m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]
        kernel = int(operation[-1])
        stride = 2 if strided and source < 2 else 1
        result = states[source].relu()
        if operation.startswith("atrous"):
            if stride == 2:
                result = result[..., ::2, ::2]  # resized by half with aligned corners, at odd sizes
            conv, norm = layers
            rate = 1 if stride == 2 else 2
            result = norm(nn.functional.conv2d(result, conv.weight, padding=rate * (kernel // 2), dilation=rate))
            assert conv.kernel_size == (kernel, kernel)
        else:
            depth, point, norm, depth2, point2, norm2 = layers
            result = depthwise(result, depth, kernel, stride)
            result = norm(point(result)).relu()
            result = norm2(point2(depthwise(result, depth2, kernel, 1)))
        results.append(result)
        if len(results) == 2:
            states.append(results[0] + results[1])
            results = []
    torch.testing.assert_close(output, torch.cat(states[2:], dim=1))


def depthwise(features: Tensor, conv: nn.Conv2d, kernel: int, stride: int) -> Tensor:
    assert conv.weight.shape[1:] == (1, kernel, kernel)
    return nn.functional.conv2d(features, conv.weight, stride=stride, padding=kernel // 2, groups=len(conv.weight))


@pytest.mark.parametrize(
    ("name", "fields", "deepest", "low_level"),
    [
        ("auto_deeplab_l_plus", {}, 480, (480, 240)),
        ("auto_deeplab_xl_plus_plus", {}, 640, (640, 320)),
        (
            "auto_deeplab_xl_plus",
            {"decoder_strides": (4,), "projections": (32,), "instance_projections": (16,)},
            640,
            (320,),
        ),
    ],
)
def test_variants(name: str, fields: dict[str, Any], deepest: int, low_level: tuple[int, ...]) -> None:
    with torch.device("meta"):
        backbone = build_backbone(ModelConfig(backbone=name, output_stride=8, **fields))
    assert (backbone.deepest_channels, backbone.low_level_channels) == (deepest, low_level)


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match=r"Set `model\.output_stride` to 8\. Got 16 instead"):
        auto_deeplab_l_plus(ModelConfig(backbone="auto_deeplab_l_plus"))
    with torch.device("meta"), pytest.raises(ConfigError, match=r"features at the strides \(8, 4\)"):
        build_backbone(ModelConfig(backbone="auto_deeplab_xl_plus", output_stride=8))


@pytest.fixture
def _small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from panoptic_deeplab.model.backbones import build

    monkeypatch.setitem(build.OWN_NETWORKS, "auto_deeplab_l_plus", lambda _: small())


def model(weights: str) -> PanopticDeepLab:
    config = ModelConfig(
        backbone="auto_deeplab_l_plus",
        output_stride=8,
        backbone_weights=weights,
        aspp_channels=8,
        instance_aspp_channels=8,
        decoder_channels=8,
        instance_decoder_channels=8,
    )
    return PanopticDeepLab(config, 2)


@pytest.mark.usefixtures("_small_network")
def test_weights_of_its_own_and_no_others(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no public ImageNet weights of 'auto_deeplab_l_plus'"):
        load_backbone_weights(model("imagenet"))
    state = small().state_dict()
    save_weights(tmp_path / "own.safetensors", state)
    filled = model(str(tmp_path / "own.safetensors"))
    load_backbone_weights(filled)
    assert all(torch.equal(value, state[name]) for name, value in filled.backbone.network.state_dict().items())
    save_weights(tmp_path / "part.safetensors", dict(list(state.items())[:-6]))
    with pytest.raises(CheckpointError, match="does not fit the model: 5 missing"):
        load_backbone_weights(model(str(tmp_path / "part.safetensors")))
