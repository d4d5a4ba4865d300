"""The network: parameter counts of the paper, any input size, every architectural switch."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from panoptic_deeplab.config import CompatConfig, ModelConfig
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.model.aspp import ASPP
from panoptic_deeplab.model.network import PanopticDeepLab

FIRST_ROWS: dict[str, Any] = {
    "aspp_channels": 128,
    "instance_aspp_channels": 128,
    "decoder_channels": 128,
    "head_channels": 128,
    "projections": (32, 16),
}


@pytest.mark.parametrize(
    ("fields", "millions"),
    [
        pytest.param({**FIRST_ROWS, "dual_aspp": False, "dual_decoder": False}, 41.85, id="one decoder"),
        pytest.param({**FIRST_ROWS, "dual_aspp": False}, 41.93, id="De. x2"),
        pytest.param(FIRST_ROWS, 43.37, id="ASPP x2"),
        pytest.param({}, 46.72, id="C_Sem = 256, the default"),
        pytest.param(
            {"instance_decoder_channels": 256, "instance_projections": (64, 32), "instance_head_channels": 64},
            46.88,
            id="C_Ins = 256",
        ),
        pytest.param({"instance_branch": False}, 43.60, id="Sem. only"),
    ],
)
def test_parameters_of_table_1(fields: dict[str, Any], millions: float) -> None:
    with torch.device("meta"):
        model = PanopticDeepLab(ModelConfig(backbone="xception71", **fields), num_classes=19)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert f"{count / 1e6:.2f}" == f"{millions:.2f}"


def small(**fields: Any) -> PanopticDeepLab:
    return PanopticDeepLab(ModelConfig(backbone="test_efficientnet", **fields), num_classes=5).eval()


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("size", [(65, 129), (64, 128), (50, 71), (33, 33), (7, 300)])
def test_any_size_and_output_stride(output_stride: Any, size: tuple[int, int]) -> None:
    maps = small(output_stride=output_stride)(torch.rand(2, 3, *size))
    expected = (-(-size[0] // 4), -(-size[1] // 4))
    assert maps.semantic_logits.shape == (2, 5, *expected)
    assert maps.center_heatmap.shape == (2, 1, *expected)
    assert maps.offset.shape == (2, 2, *expected)
    assert all(torch.isfinite(m).all() for m in maps)


@pytest.mark.parametrize("backbone", ["test_resnet", "mobilenetv3_small_050", "tf_mobilenetv3_small_minimal_100"])
def test_other_backbones(backbone: str) -> None:
    model = PanopticDeepLab(ModelConfig(backbone=backbone), num_classes=3).eval()
    assert model(torch.rand(1, 3, 65, 65)).semantic_logits.shape == (1, 3, 17, 17)


@pytest.mark.parametrize(
    "fields",
    [
        {"atrous_conv": "dense"},
        {"compat": CompatConfig(separable_mid_norm=True)},
        {"decoder_conv": "dense"},
        {"compat": CompatConfig(center_head_conv="dense")},
        {"compat": CompatConfig(concat_order="projection_first")},
        {"image_pool_norm": False, "compat": CompatConfig(image_pool_bias=True)},
        {"image_pool_size": (33, 65)},
        {"align_corners": False},
        {"atrous_rates": (1, 2, 3)},
        {
            "decoder_strides": (16, 8, 4),
            "output_stride": 32,
            "projections": (8, 8, 8),
            "instance_projections": (4, 4, 4),
        },
        {"dual_aspp": False},
        {"dual_aspp": False, "dual_decoder": False},
    ],
    ids=str,
)
def test_every_choice_changes_the_network(fields: dict[str, Any]) -> None:
    """Each switch gives maps of the right size, and other ones than the default does from the same seed."""
    images = torch.rand(1, 3, 65, 129)
    maps = []
    for chosen in ({}, fields):
        torch.manual_seed(0)
        model = small(**chosen)
        # Last layers start near zero; make what comes before them visible.
        for head in (model.semantic_head, model.center_head, model.offset_head):
            torch.nn.init.ones_(head.predict.weight)
        maps.append(model(images))
    assert all(a.shape == b.shape for a, b in zip(*maps, strict=True))
    assert any(not torch.allclose(a, b) for a, b in zip(*maps, strict=True))


INSTANCE_MAPS = {"center_heatmap", "offset"}
ALL_MAPS = {"semantic_logits", *INSTANCE_MAPS}


@pytest.mark.parametrize(
    ("fields", "part", "reached"),
    [
        ({}, "backbone", ALL_MAPS),
        ({}, "semantic_aspp", {"semantic_logits"}),
        ({}, "instance_aspp", INSTANCE_MAPS),
        ({}, "semantic_decoder", {"semantic_logits"}),
        ({}, "instance_decoder", INSTANCE_MAPS),
        ({}, "semantic_head", {"semantic_logits"}),
        ({}, "center_head", {"center_heatmap"}),
        ({}, "offset_head", {"offset"}),
        ({"dual_aspp": False}, "semantic_aspp", ALL_MAPS),
        ({"dual_aspp": False}, "semantic_decoder", {"semantic_logits"}),
        ({"dual_aspp": False, "dual_decoder": False}, "semantic_decoder", ALL_MAPS),
    ],
)
def test_each_part_feeds_its_own_branch(fields: dict[str, Any], part: str, reached: set[str]) -> None:
    """The encoder is shared, ASPPs and decoders are decoupled (section 3.1): which maps another part's weights move."""
    model = small(**fields)
    images = torch.rand(1, 3, 33, 65)
    with torch.no_grad():
        before = model(images)
        for parameter in getattr(model, part).parameters():
            parameter.mul_(1.5).add_(0.01)
        after = model(images)
    moved = {name for name in ALL_MAPS if not torch.equal(getattr(before, name), getattr(after, name))}
    assert moved == reached


def test_semantic_only_has_no_instance_maps() -> None:
    maps = small(instance_branch=False)(torch.rand(1, 3, 33, 33))
    assert maps.semantic_logits.shape == (1, 5, 9, 9)
    assert maps.center_heatmap is None
    assert maps.offset is None


def test_batches_are_independent_images() -> None:
    model = small()
    images = torch.rand(3, 3, 49, 81)
    together = model(images)
    alone = [model(image[None]) for image in images]
    for field in ("semantic_logits", "center_heatmap", "offset"):
        separate = torch.cat([getattr(maps, field) for maps in alone])
        torch.testing.assert_close(getattr(together, field), separate, rtol=1e-4, atol=1e-6)


def test_image_pool_of_the_training_crop_equals_the_global_pool_on_that_crop_only() -> None:
    images, larger = torch.rand(1, 3, 65, 65), torch.rand(1, 3, 129, 129)
    for size, same in ((images, True), (larger, False)):
        outputs = []
        for pool in (None, (65, 65)):
            torch.manual_seed(0)
            outputs.append(small(image_pool_size=pool)(size).semantic_logits)
        assert torch.equal(*outputs) == same


def test_training_one_image_with_a_normalized_global_pool_says_what_to_do() -> None:
    model = small().train()
    with pytest.raises(ConfigError, match="at least 2 images a forward pass"):
        model(torch.rand(1, 3, 33, 33))
    small(image_pool_norm=False).train()(torch.rand(1, 3, 33, 33))


def test_atrous_rates_follow_the_output_stride() -> None:
    for output_stride, rates in ((8, (12, 24, 36)), (16, (6, 12, 18)), (32, (3, 6, 9))):
        model = small(output_stride=output_stride)  # type: ignore[arg-type]
        assert isinstance(model.semantic_aspp, ASPP)
        found = {m.dilation[0] for m in model.semantic_aspp.modules() if isinstance(m, torch.nn.Conv2d)}
        assert found == {1, *rates}


def test_norm_settings_reach_every_layer() -> None:
    model = small(norm_momentum=0.03, compat=CompatConfig(norm_eps=1e-4, backbone_norm_eps=1e-2))
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.momentum == 0.03
            assert module.eps == (1e-2 if name.startswith("backbone") else 1e-4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"backbone": "mobilenetv3_smal_050"}, "Did you mean `mobilenetv3_small_050`"),
        ({"backbone": "#"}, "timm.list_models"),
        ({"backbone": "hrnet_w18"}, "output stride 16"),
        ({"backbone": "vit_tiny_patch16_224"}, "model.backbone"),
    ],
)
def test_unusable_backbones(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PanopticDeepLab(ModelConfig(**fields), num_classes=2)


def test_sigmoid_makes_the_heatmap_a_probability() -> None:
    config = ModelConfig(backbone="resnet18", output_stride=32)
    plain = PanopticDeepLab(config, 3).eval()
    probability = PanopticDeepLab(replace(config, heatmap_activation="sigmoid"), 3).eval()
    probability.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, 33, 33)
    with torch.no_grad():
        torch.testing.assert_close(probability(images).center_heatmap, plain(images).center_heatmap.sigmoid())


def test_probability_has_the_precision_of_float32_under_autocast() -> None:
    """In bfloat16 everything above 0.998 is 1, where the gradient of a sigmoid is 0."""
    config = ModelConfig(backbone="test_resnet", output_stride=32, heatmap_activation="sigmoid")
    model = PanopticDeepLab(config, 3).eval()
    nn.init.constant_(model.center_head.predict.bias, 8.0)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        heatmap = model(torch.zeros(1, 3, 33, 33)).center_heatmap
    assert 0.999 < heatmap.min() <= heatmap.max() < 1
