"""Networks that cut the image into patches: how large their maps are, and which part of the image a feature shows."""

from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from panoptic_deeplab.config import ModelConfig
from panoptic_deeplab.model.backbones.build import Backbone, build_backbone
from panoptic_deeplab.model.backbones.padding import pad_patches
from panoptic_deeplab.model.network import PanopticDeepLab

ATTO = ModelConfig(backbone="convnext_atto", output_stride=32)
FEMTO = replace(ATTO, backbone="convnext_femto")


def features_of(backbone: Backbone, images: Tensor) -> list[Tensor]:
    """Shallow to deep."""
    found = backbone(images)
    return [*reversed(found.low_level), found.deepest]


def middle_row(feature: Tensor, index: int, images: Tensor) -> float:
    """The middle of the rows on which a row of the feature depends; ConvNeXt's blocks start as almost nothing."""
    (gradient,) = torch.autograd.grad(feature[0, :, index].square().sum(), images, retain_graph=True)
    strength = gradient.abs().sum(dim=(0, 1, 3))
    rows = (strength > 0.01 * strength.max()).nonzero().flatten()
    return float(rows[0] + rows[-1]) / 2


def displacements(config: ModelConfig, length: int) -> list[list[float]]:
    """How far each feature's patches lie from where a resize takes its samples, at three rows, in pixels."""
    images = torch.rand(1, 3, length, 64, requires_grad=True)
    found = []
    for feature in features_of(build_backbone(config).eval(), images):
        count = feature.shape[-2]
        rows = (count // 4, count // 2, count - 1 - count // 4)
        if config.align_corners:
            assumed = [row * (length - 1) / (count - 1) for row in rows]
        else:
            assumed = [(row + 0.5) * length / count - 0.5 for row in rows]
        found.append([middle_row(feature, row, images) - place for row, place in zip(rows, assumed, strict=True)])
    return found


@pytest.mark.parametrize("config", [ATTO, FEMTO], ids=["atto", "femto"])
def test_with_aligned_corners_patches_are_off_by_a_fifth_of_a_feature_and_everywhere_the_same(
    config: ModelConfig,
) -> None:
    for found, expected in zip(displacements(config, 257), (-0.5, 1.5, 5.5), strict=True):
        assert found == pytest.approx([expected] * 3, abs=1e-4)


def test_atrous_convolution_keeps_the_turns() -> None:
    for found, expected in zip(displacements(replace(ATTO, output_stride=16), 257), (-0.5, 1.5, 5.5), strict=True):
        assert found == pytest.approx([expected] * 3, abs=1e-4)


def test_without_aligned_corners_patches_lie_where_they_are_thought_to() -> None:
    for found in displacements(replace(ATTO, align_corners=False), 256):
        assert found == pytest.approx([0, 0, 0], abs=1e-4)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("size", [(129, 65), (128, 64), (77, 103)])
def test_maps_have_the_promised_size(size: tuple[int, int], output_stride: Any, align_corners: bool) -> None:
    config = replace(ATTO, output_stride=output_stride, align_corners=align_corners)
    images = torch.rand(1, 3, *size)
    for feature, stride in zip(features_of(build_backbone(config).eval(), images), (4, 8, output_stride), strict=True):
        assert feature.shape[-2:] == (-(-size[0] // stride), -(-size[1] // stride))


def test_maps_of_the_network_have_the_promised_size() -> None:
    model = PanopticDeepLab(replace(ATTO, aspp_channels=16, instance_aspp_channels=16), 3).eval()
    assert model(torch.rand(1, 3, 513, 65)).semantic_logits.shape[-2:] == (129, 17)


@pytest.mark.parametrize(
    "config", [ATTO, FEMTO, replace(ATTO, align_corners=False)], ids=["atto", "femto", "not aligned"]
)
def test_features_of_a_shifted_image_are_the_shifted_features(config: ModelConfig) -> None:
    """By 32 pixels, one sample of the deepest feature: nothing depends on where in the image a patch lies."""
    extra = int(config.align_corners)
    image = torch.rand(1, 3, 256 + 32 + extra, 96 + extra)
    backbone = build_backbone(config).eval()
    with torch.inference_mode():
        whole, shifted = features_of(backbone, image[..., :-32, :]), features_of(backbone, image[..., 32:, :])
    for first, second, steps in zip(whole, shifted, (8, 4, 1), strict=True):
        inner = slice(2 * steps, -3 * steps)
        torch.testing.assert_close(first[..., steps:, :][..., inner, :], second[..., :-steps, :][..., inner, :])


def test_inside_the_image_features_are_those_of_timm() -> None:
    """Without aligned corners, where the sizes fill all patches, to the last bit: weights of timm mean the same."""
    ours = build_backbone(replace(ATTO, align_corners=False)).eval()
    theirs = timm.create_model("convnext_atto", features_only=True).eval()
    theirs.load_state_dict(ours.network.state_dict())
    images = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        expected = theirs(images)
        for feature, stage in zip(features_of(ours, images), (0, 1, 3), strict=True):
            assert torch.equal(feature, expected[stage])


@pytest.mark.parametrize("make", [nn.MaxPool2d, nn.AvgPool2d])
@pytest.mark.parametrize("align_corners", [True, False])
def test_pooling_over_patches_rounds_up_and_keeps_its_place(make: Any, align_corners: bool) -> None:
    network = nn.Sequential(make(2, 2))
    pad_patches(network, align_corners=align_corners)
    image = torch.arange(5.0).expand(1, 1, 5, 5)
    expected = {nn.MaxPool2d: [1, 3, 4], nn.AvgPool2d: [0.5, 2.5, 4]}[make]
    assert network(image)[0, 0, 0].tolist() == expected


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(1, 1, 3, stride=2, padding=1),
        nn.Conv2d(1, 1, 1, stride=2),
        nn.Conv2d(1, 1, 2, stride=2, padding=1),
        nn.Conv2d(1, 1, 3),
        nn.Conv2d(1, 1, 2, stride=2, dilation=2),
        Conv2dSame(1, 1, 3, stride=1),
        nn.MaxPool2d(3, 2, padding=1),
        nn.AvgPool2d(3, 2),
    ],
    ids=str,
)
def test_other_layers_stay_as_they_are(layer: nn.Module) -> None:
    network = nn.Sequential(layer)
    pad_patches(network, align_corners=True)
    assert network[0] is layer
    assert not getattr(layer, "ceil_mode", False)
