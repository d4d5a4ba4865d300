"""The encoder: which features are tapped, and that padding the image does not move them."""

from collections.abc import Callable

import pytest
import torch
from timm.layers import ScaledStdConv2dSame, StdConv2dSame
from timm.layers.cond_conv2d import CondConv2d
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from torch import Tensor, nn

from panoptic_deeplab.config import ModelConfig
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.model.backbones.build import build_backbone
from panoptic_deeplab.model.backbones.padding import use_symmetric_padding


@pytest.mark.parametrize(
    ("output_stride", "low_level"), [(8, (728, 256)), (16, (728, 256)), (32, (728, 256))], ids=["os8", "os16", "os32"]
)
def test_taps_of_xception(output_stride: int, low_level: tuple[int, ...]) -> None:
    """As in the public implementations: 256 channels at stride 4, 728 at stride 8, whatever the output stride."""
    with torch.device("meta"):
        backbone = build_backbone(ModelConfig(backbone="xception71", output_stride=output_stride))  # type: ignore[arg-type]
    assert (backbone.deepest_channels, backbone.low_level_channels) == (2048, low_level)


@pytest.mark.parametrize(
    "backbone", ["tf_efficientnet_lite0", "test_efficientnet", "resnet18", "test_nfnet", "test_convnext"]
)
def test_features_stay_in_place_when_the_image_is_padded(backbone: str) -> None:
    """TensorFlow's "same" padding fails this: it moves features when the parity of the size changes."""
    network = build_backbone(ModelConfig(backbone=backbone)).eval()
    image = torch.rand(1, 3, 128, 128)
    with torch.inference_mode():
        features = network(image)
        padded = network(torch.nn.functional.pad(image, (0, 33, 0, 33)))
    for small, large in zip(features.low_level, padded.low_level, strict=True):
        inner = small.shape[-1] // 2 - 4  # beyond, the border is within the receptive field
        torch.testing.assert_close(small[..., :inner, :inner], large[..., :inner, :inner], rtol=1e-4, atol=1e-5)


def test_output_stride_keeps_the_resolution() -> None:
    for output_stride, side in ((8, 17), (16, 9), (32, 5)):
        network = build_backbone(ModelConfig(backbone="test_efficientnet", output_stride=output_stride)).eval()  # type: ignore[arg-type]
        features = network(torch.rand(1, 3, 129, 129))
        assert features.deepest.shape[-1] == side
        assert [f.shape[-1] for f in features.low_level] == [17, 33]


class _Routed(nn.Module):
    """A conditional convolution with its routing weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = CondConv2d(3, 4, 3, stride=2, padding="same", num_experts=1)

    def forward(self, image: Tensor) -> Tensor:
        output: Tensor = self.layer(image, image.new_ones(1, 1))
        return output


@pytest.mark.parametrize(
    "make_layer",
    [
        lambda: Conv2dSame(3, 4, 3, stride=2, dilation=2),
        lambda: StdConv2dSame(3, 4, 5, stride=2),
        lambda: ScaledStdConv2dSame(3, 4, 3, stride=2),
        lambda: MaxPool2dSame(3, stride=2),
        lambda: AvgPool2dSame(3, stride=2),
        lambda: Conv2dSame(3, 4, 2, stride=2),
        lambda: AvgPool2dSame(2, stride=1),
        _Routed,
    ],
    ids=["conv", "std", "scaled_std", "max", "average", "even", "stride_1", "conditional"],
)
def test_no_layer_moves_with_the_parity_of_the_size(make_layer: Callable[[], nn.Module]) -> None:
    network = nn.Sequential(make_layer())
    expected = network(torch.ones(1, 3, 17, 17) * torch.arange(17.0))  # "same" padding is symmetric at odd sizes
    use_symmetric_padding(network)
    odd = network(torch.ones(1, 3, 17, 17) * torch.arange(17.0))
    even = network(torch.ones(1, 3, 18, 18) * torch.arange(18.0))
    inner = odd.shape[-1] - 2
    torch.testing.assert_close(odd, expected)
    torch.testing.assert_close(odd[..., :inner, :inner], even[..., :inner, :inner])


@pytest.mark.parametrize("layer", [Conv2dSame(3, 4, 4, stride=2), MaxPool2dSame(4, stride=4)])
def test_padding_that_cannot_be_made_symmetric_is_refused(layer: nn.Module) -> None:
    with pytest.raises(ConfigError, match="cannot be made symmetric"):
        use_symmetric_padding(nn.Sequential(layer))


def test_unknown_kind_of_same_padding_is_refused() -> None:
    layer = type("NewSame", (nn.Conv2d,), {})(3, 4, 3, stride=2)
    with pytest.raises(ConfigError, match="NewSame"):
        use_symmetric_padding(nn.Sequential(layer))


def test_even_kernels_of_atrous_stages_keep_the_size() -> None:
    network = build_backbone(ModelConfig(backbone="test_convnext", output_stride=16))
    assert network(torch.rand(1, 3, 128, 128)).deepest.shape[-1] == 8


@pytest.mark.parametrize(
    ("name", "output_strides"),
    [
        ("regnetx_002", (16, 32)),
        ("mobilenetv4_conv_small_035", (16, 32)),
        ("inception_next_atto", (16, 32)),
        ("fastvit_t8", (32,)),
        ("ghostnet_050", (32,)),
        ("fasternet_t0", (32,)),
    ],
)
def test_families_that_the_documents_list(name: str, output_strides: tuple[int, ...]) -> None:
    for output_stride in (16, 32):
        config = ModelConfig(backbone=name, output_stride=output_stride)  # type: ignore[arg-type]
        if output_stride in output_strides:
            with torch.inference_mode():
                features = build_backbone(config).eval()(torch.rand(1, 3, 65, 97))
            assert [f.shape[-2:] for f in features.low_level] == [(9, 13), (17, 25)]
            assert features.deepest.shape[-2:] == (-(-65 // output_stride), -(-97 // output_stride))
        else:
            with pytest.raises(ConfigError, match=r"This network works with `model.output_stride` 32\."):
                build_backbone(config)


def test_network_without_output_stride_works_at_its_own() -> None:
    backbone = build_backbone(ModelConfig(backbone="pvt_v2_b0", output_stride=32)).eval()
    features = backbone(torch.rand(1, 3, 65, 97))
    assert [f.shape[-2:] for f in (features.deepest, *features.low_level)] == [(3, 4), (9, 13), (17, 25)]


def test_network_that_needs_even_sizes_works_without_aligned_corners() -> None:
    config = ModelConfig(backbone="hrnet_w18_small", output_stride=32, align_corners=False)
    assert build_backbone(config).eval()(torch.rand(1, 3, 64, 64)).deepest.shape[-2:] == (2, 2)


def test_backbone_is_made_in_training_mode() -> None:
    assert all(module.training for module in build_backbone(ModelConfig(backbone="test_efficientnet")).modules())


@pytest.mark.parametrize(
    ("name", "output_stride", "message"),
    [
        ("test_mambaout", 32, r"features of shape \(1, 17, 25, 16\).*Expected \(1, 16, 17, 25\), channels first"),
        ("hrnet_w18_small", 32, "cannot encode an image of 65 x 97.*works with `model.align_corners` false"),
        ("hrnet_w18_small", 16, "works with `model.output_stride` 32 and `model.align_corners` false"),
        ("pvt_v2_b0", 16, "works with `model.output_stride` 32"),
        ("test_vit", 16, "unexpected keyword argument.*Choose a network that has features at strides 4, 8"),
        ("levit_128s", 32, "ends at stride 64.*Choose a network"),
        ("test_vit", 32, "ends at stride 16.*Choose a network that has features at strides 4, 8"),
    ],
)
def test_networks_whose_features_are_of_no_use(name: str, output_stride: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_backbone(ModelConfig(backbone=name, output_stride=output_stride))  # type: ignore[arg-type]


@pytest.mark.parametrize("output_stride", [16, 32])
@pytest.mark.parametrize("name", ["test_vit", "vit_tiny_patch16_224"])
def test_no_advice_leads_in_a_circle(name: str, output_stride: int) -> None:
    """Settings are recommended only where the network works with them."""
    with pytest.raises(ConfigError) as caught:
        build_backbone(ModelConfig(backbone=name, output_stride=output_stride))  # type: ignore[arg-type]
    assert "works with" not in str(caught.value)
    assert "Try" not in str(caught.value)


class _Pools(nn.Module):
    """Features by average pooling alone."""

    def __init__(self, strides: tuple[int, ...], channels: tuple[int, ...]) -> None:
        super().__init__()
        self.strides, self.channels = strides, channels

    def forward(self, images: Tensor) -> list[Tensor]:
        return [nn.functional.avg_pool2d(images, stride, ceil_mode=True) for stride in (4, 8, 16)]


def test_a_backbone_of_ones_own() -> None:
    config = ModelConfig(output_stride=16)
    features = build_backbone(config, _Pools((4, 8, 16), (3, 3, 3)))(torch.zeros(1, 3, 64, 96))
    assert features.deepest.shape == (1, 3, 4, 6)
    assert [f.shape[-2:] for f in features.low_level] == [(8, 12), (16, 24)]


@pytest.mark.parametrize(
    ("strides", "channels", "said"),
    [
        ((4, 8, 32), (3, 3, 3), r"end at `model.output_stride` 16\. _Pools has \(4, 8, 32\)"),
        ((4, 8, 16), (3, 3), "one number a feature"),
        ((4, 16), (3, 3), "strides"),
        ((2, 4, 8, 16), (3, 3, 3, 3), "'_Pools' gives 3 features. Expected 4"),
        ((4, 8, 16), (3, 3, 5), r"'_Pools' gives features of shape \(1, 3, "),
    ],
)
def test_a_backbone_of_ones_own_that_does_not_fit(
    strides: tuple[int, ...], channels: tuple[int, ...], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        build_backbone(ModelConfig(output_stride=16), _Pools(strides, channels))
