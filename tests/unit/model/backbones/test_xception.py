"""Xception: the features of timm, and those in front of the ReLU."""

import pytest
import timm
import torch

from panoptic_deeplab.config import CompatConfig, ModelConfig
from panoptic_deeplab.model.backbones.build import build_backbone
from panoptic_deeplab.model.backbones.xception import Xception


@pytest.mark.parametrize("output_stride", [16, 32])
@torch.inference_mode()
def test_features_behind_the_relu_are_those_of_timm(output_stride: int) -> None:
    theirs = timm.create_model("xception41", features_only=True, output_stride=output_stride).eval()
    ours = Xception("xception41", output_stride=output_stride, before_relu=False).eval()
    ours.load_state_dict(theirs.state_dict())
    image = torch.randn(1, 3, 65, 97)
    expected = theirs(image)
    assert tuple(theirs.feature_info.reduction()) == ours.strides
    assert tuple(theirs.feature_info.channels()) == ours.channels
    for feature, other in zip(ours(image), expected, strict=True):
        assert torch.equal(feature, other)


@torch.inference_mode()
def test_features_in_front_of_the_relu() -> None:
    ours = Xception("xception41", output_stride=32, before_relu=True).eval()
    behind = Xception("xception41", output_stride=32, before_relu=False).eval()
    behind.load_state_dict(ours.state_dict())
    image = torch.randn(1, 3, 65, 97)
    features, rectified = ours(image), behind(image)
    for index in (0, 1, 2):
        assert features[index].min() < 0
        assert torch.equal(features[index].relu(), rectified[index])
    assert torch.equal(features[-1], rectified[-1])
    # At stride 16, the end of the middle flow instead of a feature of the block behind it.
    assert ours.channels == (128, 256, 728, 728, 2048)
    assert [feature.shape[1] for feature in features] == list(ours.channels)


def test_weights_of_timm_fit() -> None:
    network = Xception("xception41", output_stride=16, before_relu=True)
    state = timm.create_model("xception41").state_dict()
    network.load_state_dict(network.from_timm(state))
    assert torch.equal(
        network.state_dict()["blocks_12.stack.conv1.conv_pw.weight"], state["blocks.12.stack.conv1.conv_pw.weight"]
    )


def test_taps_follow_the_setting() -> None:
    with torch.device("meta"):
        channels = {
            taps: build_backbone(
                ModelConfig(
                    backbone="xception65",
                    output_stride=32,
                    decoder_strides=(16, 8, 4),
                    projections=(8, 8, 8),
                    instance_projections=(8, 8, 8),
                    compat=CompatConfig(xception_taps=taps),
                )
            ).low_level_channels
            for taps in ("before_relu", "after_relu")
        }
    assert channels == {"before_relu": (728, 728, 256), "after_relu": (1024, 728, 256)}
