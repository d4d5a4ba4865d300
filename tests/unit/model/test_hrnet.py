"""HRNet: its branches and head at all sizes, the equality with timm's network, and its own decoder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from panoptic_deeplab.config import ModelConfig
from panoptic_deeplab.errors import CheckpointError, ConfigError
from panoptic_deeplab.model.backbones.build import OWN_NETWORKS, build_backbone
from panoptic_deeplab.model.backbones.hrnet import HRNet, HRNetPlus
from panoptic_deeplab.model.backbones.hrnet_blocks import HighResolutionModule, HRNetLayout
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.backbone import load_backbone_weights

NAMES = ("hrnet_w48_branches", "hrnet_w48_plus", "hrnet_wider_plus")
SMALL = HRNetLayout(widths=(4, 8, 16, 32), stem_width=8, modules=(1, 1, 1), blocks=1)
VARIANTS = [
    SMALL,
    replace(SMALL, exchange="nearest"),
    replace(SMALL, exchange="inferred"),
    replace(SMALL, exchange="inferred", separable=True, atrous=True),
]


def small_plus(layout: HRNetLayout) -> HRNetPlus:
    return HRNetPlus(layout, head_widths=(2, 4, 6, 8), head_channels=40)


def shapes(features: list[Tensor]) -> list[tuple[int, ...]]:
    return [tuple(feature.shape[1:]) for feature in features]


@pytest.mark.parametrize("layout", VARIANTS, ids=["bilinear", "nearest", "inferred", "wider atrous"])
@pytest.mark.parametrize("size", [(65, 129), (97, 65), (64, 96)])
def test_features_at_odd_and_even_sizes(size: tuple[int, int], layout: HRNetLayout) -> None:
    strides = (4, 8, 16, 16 if layout.atrous else 32)
    sizes = [(-(-size[0] // stride), -(-size[1] // stride)) for stride in strides]
    for network, channels in ((HRNet(layout), (4, 8, 16, 32)), (small_plus(layout), (8, 16, 24, 40))):
        assert (network.strides, network.channels) == (strides, channels)
        features = network.eval()(torch.rand(1, 3, *size))
        assert shapes(features) == [(depth, *pixels) for depth, pixels in zip(channels, sizes, strict=True)]


@pytest.fixture(scope="module")
def full_networks() -> dict[str, Any]:
    """The networks of the paper at full width, without values."""
    with torch.device("meta"):
        return {name: OWN_NETWORKS[name](ModelConfig(backbone=name, output_stride=32)) for name in NAMES}


def test_w48_has_the_published_names_and_shapes(full_networks: dict[str, Any], shared_folder: Path) -> None:
    lines = (shared_folder / "checkpoints" / "keys_bowenc0221_H48_os4_cityscapes.txt").read_text("utf-8").splitlines()
    published = {line.split(" ", 1)[0]: line.split(" ", 1)[1] for line in lines if line.startswith("backbone.")}
    state = full_networks["hrnet_w48_branches"].state_dict()
    assert {f"backbone.{name}": str(tuple(value.shape)) for name, value in state.items()} == published


def test_sizes_of_the_full_networks(full_networks: dict[str, Any]) -> None:
    """The official classifier has 65.325 M parameters in the trunk and 10.096 M in the head."""
    parameters = [sum(p.numel() for p in network.parameters()) / 1e6 for network in full_networks.values()]
    assert [round(count, 3) for count in parameters[:2]] == [65.325, 75.421]
    assert [network.channels for network in full_networks.values()] == [
        (48, 96, 192, 384),
        (128, 256, 512, 2048),
        (128, 256, 512, 2048),
    ]
    depthwise = [any(getattr(m, "groups", 1) > 1 for m in network.modules()) for network in full_networks.values()]
    assert depthwise == [False, False, True]


def test_inferred_w48_plus_keeps_the_layer_of_1000_classes() -> None:
    """The parameters of `nn.Linear(2048, 1000)`, as a 1x1 convolution on the map; no other network has it."""
    with torch.device("meta"):
        kept = {
            (name, exchange): OWN_NETWORKS[name](
                ModelConfig(backbone=name, output_stride=32, hrnet_exchange=exchange)  # type: ignore[arg-type]
            )
            for name in NAMES
            for exchange in ("bilinear", "inferred")
        }
    layers = {key: getattr(network, "classifier", None) for key, network in kept.items()}
    assert [key for key, layer in layers.items() if layer is not None] == [("hrnet_w48_plus", "inferred")]
    layer = layers["hrnet_w48_plus", "inferred"]
    assert isinstance(layer, nn.Conv2d)
    assert (layer.weight.shape, layer.bias.shape) == ((1000, 2048, 1, 1), (1000,))  # type: ignore[union-attr]


def test_the_kept_layer_runs_on_the_deepest_feature_changes_nothing_and_is_frozen() -> None:
    layout = replace(SMALL, exchange="inferred")
    plain, kept = (HRNetPlus(layout, head_channels=40, image_classes=classes).eval() for classes in (None, 7))
    plain.load_state_dict({name: value for name, value in kept.state_dict().items() if "classifier" not in name})
    seen: list[Tensor] = []
    assert kept.classifier is not None
    kept.classifier.register_forward_hook(lambda _, inputs, output: seen.extend([*inputs, output]))
    images = torch.rand(1, 3, 65, 97)
    features = kept(images)
    for ours, theirs in zip(features, plain(images), strict=True):
        assert torch.equal(ours, theirs)
    assert seen[0] is features[-1]
    assert seen[1].shape == (1, 7, 3, 4)
    sum(feature.sum() for feature in features).backward()
    waiting = [name for name, p in kept.named_parameters() if p.requires_grad and p.grad is None]
    assert waiting == []  # so processes that train together do not wait for it


def test_timm_weights_cover_w48(full_networks: dict[str, Any]) -> None:
    with torch.device("meta"):
        state = timm.create_model("hrnet_w48").state_dict()
    head = {"incre_modules", "downsamp_modules", "final_layer"}
    for name, beyond in (("hrnet_w48_branches", head | {"classifier"}), ("hrnet_w48_plus", {"classifier"})):
        network = full_networks[name]
        found = network.from_timm(state)
        assert network.timm_name == "hrnet_w48"
        assert {n: v.shape for n, v in found.items()} == {n: v.shape for n, v in network.state_dict().items()}
        assert {n.split(".")[0] for n in state.keys() - found.keys()} == beyond
    assert full_networks["hrnet_wider_plus"].timm_name is None


@pytest.fixture(scope="module")
def timm_classifier() -> nn.Module:
    """timm's network with W48's topology and few channels, with normalization that does something."""
    torch.manual_seed(1)
    stages = {
        f"stage{index}": {
            "num_modules": 1,
            "num_branches": index,
            "block_type": "BASIC",
            "num_blocks": (1,) * index,
            "num_channels": SMALL.widths[:index],
            "fuse_method": "SUM",
        }
        for index in (2, 3, 4)
    }
    first = {
        "num_modules": 1,
        "num_branches": 1,
        "block_type": "BOTTLENECK",
        "num_blocks": (4,),
        "num_channels": (64,),
        "fuse_method": "SUM",
    }
    network: nn.Module = timm.create_model("hrnet_w48", stem_width=64, stage1=first, **stages).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network


def test_trunk_and_head_equal_timm(timm_classifier: nn.Module) -> None:
    """At an even size, where timm's resize by a factor works, with the nearest resize that timm has."""
    layout = replace(SMALL, exchange="nearest", stem_width=64)
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        output, features = timm_classifier.forward_intermediates(images)  # type: ignore[operator]
        stem = torch.relu(timm_classifier.bn2(timm_classifier.conv2(features[0])))  # type: ignore[operator]
        branches = timm_classifier.stages(stem)  # type: ignore[operator]
    for network, expected in ((HRNet(layout), branches), (HRNetPlus(layout), [*features[1:4], output])):
        state = network.from_timm(timm_classifier.state_dict())
        network.load_state_dict(state)
        with torch.no_grad():
            found = network.eval()(images)
        assert min(feature.std() for feature in found) > 0.01
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_inferred_layout_has_no_imagenet_weights() -> None:
    config = ModelConfig(
        backbone="hrnet_w48_branches", output_stride=32, hrnet_exchange="inferred", backbone_weights="imagenet"
    )
    with torch.device("meta"):
        model = PanopticDeepLab(config, 2)
    with pytest.raises(CheckpointError, match="no public ImageNet weights of 'hrnet_w48_branches'"):
        load_backbone_weights(model)


@pytest.mark.parametrize("exchange", ["bilinear", "bilinear_aligned", "nearest", "inferred"])
def test_exchange_by_hand_at_an_odd_size(exchange: str) -> None:
    """The sums that a module makes, written out for three branches of odd sizes."""
    layout = replace(SMALL, exchange=exchange, align_corners=False)  # type: ignore[arg-type]
    module = HighResolutionModule(3, layout=layout).eval()
    features = [torch.rand(1, 4, 17, 9), torch.rand(1, 8, 9, 5), torch.rand(1, 16, 5, 3)]
    mode: dict[str, Any] = {
        "bilinear": {"mode": "bilinear", "align_corners": False},
        "bilinear_aligned": {"mode": "bilinear", "align_corners": True},
        "nearest": {"mode": "nearest"},
        "inferred": {"mode": "bilinear", "align_corners": False},
    }[exchange]

    def up(path: nn.Module, feature: Tensor, size: tuple[int, int]) -> Tensor:
        if exchange == "inferred":
            return path(nn.functional.interpolate(feature, size=size, **mode))  # type: ignore[no-any-return]
        return nn.functional.interpolate(path(feature), size=size, **mode)

    with torch.no_grad():
        a, b, c = (branch(feature) for branch, feature in zip(module.branches, features, strict=True))
        to_a, to_b, to_c = module.fuse_layers
        expected = [
            a + up(to_a[1], b, (17, 9)) + up(to_a[2], c, (17, 9)),  # type: ignore[index]
            to_b[0](a) + b + up(to_b[2], c, (9, 5)),  # type: ignore[index]
            to_c[0](a) + to_c[1](b) + c,  # type: ignore[index]
        ]
        found = module(features)
    for ours, by_hand in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, torch.relu(by_hand))


def test_exchange_is_what_differs_between_public_versions() -> None:
    """All have the same weights; features differ, by alignment only where a size is even."""
    torch.manual_seed(2)
    state = HRNet(SMALL).state_dict()

    def deepest(exchange: str, *, align_corners: bool) -> Tensor:
        layout = replace(SMALL, exchange=exchange, align_corners=align_corners)  # type: ignore[arg-type]
        network = HRNet(layout).eval()
        network.load_state_dict(state)
        with torch.no_grad():
            output: Tensor = network(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3)))[0]
        return output

    aligned = deepest("bilinear", align_corners=True)
    assert torch.equal(deepest("bilinear_aligned", align_corners=False), aligned)
    for other in (deepest("bilinear", align_corners=False), deepest("nearest", align_corners=True)):
        assert (other - aligned).abs().max() > 0.01 * aligned.std()


@pytest.mark.parametrize("exchange", ["bilinear", "inferred"])
def test_atrous_form_has_the_same_weights_and_sees_the_same(exchange: str) -> None:
    """Every second pixel of the fourth branch, while nothing of it has gone to the other branches, is unchanged."""
    torch.manual_seed(4)
    layout = replace(SMALL, exchange=exchange)  # type: ignore[arg-type]
    network, atrous = small_plus(layout).eval(), small_plus(replace(layout, atrous=True)).eval()
    atrous.load_state_dict(network.state_dict())
    with torch.no_grad():
        image = torch.rand(1, 3, 129, 65)
        coarse, fine = (HRNet.forward(net, image)[-1] for net in (network, atrous))
        torch.testing.assert_close(fine[..., ::2, ::2], coarse)
        assert shapes(atrous(image))[2:] == [(24, 9, 5), (40, 9, 5)]


@pytest.mark.parametrize("layout", VARIANTS, ids=["bilinear", "nearest", "inferred", "wider atrous"])
def test_gradients_reach_every_parameter(layout: HRNetLayout) -> None:
    for network in (HRNet(layout), small_plus(layout)):
        features = network(torch.rand(2, 3, 65, 97))
        sum((feature * torch.rand_like(feature)).sum() for feature in features).backward()
        silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert silent == []


def test_output_stride_8_is_refused() -> None:
    with pytest.raises(ConfigError, match="'hrnet_w48_plus' has output stride 32, or 16"):
        build_backbone(ModelConfig(backbone="hrnet_w48_plus", output_stride=8))


HRNET_HEAD = ModelConfig(backbone="test_resnet", output_stride=32, decoder="hrnet", decoder_strides=(16, 8, 4))


def test_hrnet_head_mixes_all_features_at_stride_4() -> None:
    model = PanopticDeepLab(HRNET_HEAD, 5).eval()
    images = torch.rand(1, 3, 65, 97)
    with torch.no_grad():
        maps = model(images)
        features = model.backbone(images)
        # By hand, shallow to deep: resize to stride 4, concatenate, 1x1 convolution, BN, ReLU, 1x1 convolution.
        resized = [
            nn.functional.interpolate(feature, (17, 25), mode="bilinear", align_corners=True)
            for feature in (*reversed(features.low_level), features.deepest)
        ]
        assert model.hrnet_mixing is not None
        convolution, norm, _ = model.hrnet_mixing.mix
        mixed = torch.relu(norm(convolution(torch.cat(resized, dim=1))))
        predict = model.semantic_head.predict
        expected = torch.einsum("oi,bihw->bohw", predict.weight[:, :, 0, 0], mixed) + predict.bias[:, None, None]  # type: ignore[index]
    assert [tuple(m.shape) for m in maps] == [(1, 5, 17, 25), (1, 1, 17, 25), (1, 2, 17, 25)]
    assert maps.semantic_logits.std() > 0
    torch.testing.assert_close(maps.semantic_logits, expected, rtol=1e-3, atol=1e-7)


def test_hrnet_head_without_instances_and_its_training() -> None:
    model = PanopticDeepLab(replace(HRNET_HEAD, instance_branch=False), 5)
    maps = model(torch.rand(2, 3, 33, 33))
    assert maps.center_heatmap is None
    assert maps.offset is None
    model = PanopticDeepLab(HRNET_HEAD, 5)
    sum((m * torch.rand_like(m)).sum() for m in model(torch.rand(2, 3, 33, 33))).backward()
    heads = {n: p for n, p in model.named_parameters() if not n.startswith("backbone.")}
    assert {n.split(".")[0] for n in heads} == {"hrnet_mixing", "semantic_head", "center_head", "offset_head"}
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in heads.values())
