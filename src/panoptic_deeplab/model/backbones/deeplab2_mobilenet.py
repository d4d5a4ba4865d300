"""MobileNetV3-Small and -Large as deeplab2 builds them, for its published weights.

They differ from timm's in the squeeze-excite (sigmoid, other widths) and in the features, which are taken between the
depthwise convolution and the squeeze-excite of an inverted residual. The last block is whole, unlike that of the
paper's network (`mobilenet_v3.py`).

From deeplab2's model/encoder/mobilenet.py and model/layers/{blocks,squeeze_and_excite}.py.
"""

from typing import NamedTuple

from torch import Tensor, nn

from panoptic_deeplab.config import ModelConfig
from panoptic_deeplab.model.backbones.mobilenet_v3 import multiple_of_8


class _Spec(NamedTuple):
    """One inverted residual."""

    kernel: int
    stride: int
    expanded: int
    channels: int
    squeeze: bool
    activation: type[nn.Module]
    is_feature: bool = False


_RELU, _SWISH = nn.ReLU, nn.Hardswish
_STEM_CHANNELS = 16
_SMALL = (
    _Spec(3, 2, 16, 16, True, _RELU, True),
    _Spec(3, 2, 72, 24, False, _RELU),
    _Spec(3, 1, 88, 24, False, _RELU, True),
    _Spec(5, 2, 96, 40, True, _SWISH),
    _Spec(5, 1, 240, 40, True, _SWISH),
    _Spec(5, 1, 240, 40, True, _SWISH),
    _Spec(5, 1, 120, 48, True, _SWISH),
    _Spec(5, 1, 144, 48, True, _SWISH, True),
    _Spec(5, 2, 288, 96, True, _SWISH),
    _Spec(5, 1, 576, 96, True, _SWISH),
    _Spec(5, 1, 576, 96, True, _SWISH),
)
_LARGE = (
    _Spec(3, 1, 16, 16, False, _RELU),
    _Spec(3, 2, 64, 24, False, _RELU),
    _Spec(3, 1, 72, 24, False, _RELU, True),
    _Spec(5, 2, 72, 40, True, _RELU),
    _Spec(5, 1, 120, 40, True, _RELU),
    _Spec(5, 1, 120, 40, True, _RELU, True),
    _Spec(3, 2, 240, 80, False, _SWISH),
    _Spec(3, 1, 200, 80, False, _SWISH),
    _Spec(3, 1, 184, 80, False, _SWISH),
    _Spec(3, 1, 184, 80, False, _SWISH),
    _Spec(3, 1, 480, 112, True, _SWISH),
    _Spec(3, 1, 672, 112, True, _SWISH, True),
    _Spec(5, 2, 672, 160, True, _SWISH),
    _Spec(5, 1, 960, 160, True, _SWISH),
    _Spec(5, 1, 960, 160, True, _SWISH),
)


class Deeplab2MobileNetV3(nn.Module):
    """MobileNetV3 without classifier; features are depthwise outputs, and the last 1x1 convolution's.

    Args:
        specs: of the inverted residuals.
        last_channels: of the 1x1 convolution behind them.
        output_stride: of the last feature: 8, 16 or 32. A block that would have halved the resolution below it keeps
            resolution and dilation; those behind are dilated by what it left out.
    """

    def __init__(self, specs: tuple[_Spec, ...], *, last_channels: int, output_stride: int) -> None:
        super().__init__()
        self.stem = _conv_norm(3, _STEM_CHANNELS, 3, stride=2)
        self.blocks = nn.ModuleList()
        self.strides, self.channels = [], []
        channels, reached, dilation = _STEM_CHANNELS, 2, 1
        for spec in specs:
            stride = spec.stride if reached < output_stride else 1
            self.blocks.append(_InvertedResidual(channels, spec, stride=stride, dilation=dilation))
            channels = spec.channels
            reached *= stride
            dilation *= spec.stride // stride
            if spec.is_feature:
                self.strides.append(reached)
                self.channels.append(spec.expanded)
        self.last = _conv_norm(channels, last_channels, 1)
        self.strides.append(reached)
        self.channels.append(last_channels)
        self.activation = nn.Hardswish(inplace=True)
        self._is_feature = tuple(spec.is_feature for spec in specs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features at `strides`."""
        output = self.activation(self.stem(images))
        features = []
        for block, is_feature in zip(self.blocks, self._is_feature, strict=True):
            output, depthwise = block(output)
            if is_feature:
                features.append(depthwise)
        return [*features, self.activation(self.last(output))]


def deeplab2_mobilenet_v3_small(config: ModelConfig) -> Deeplab2MobileNetV3:
    """MobileNetV3-Small at `config.output_stride`."""
    return Deeplab2MobileNetV3(_SMALL, last_channels=576, output_stride=config.output_stride)


def deeplab2_mobilenet_v3_large(config: ModelConfig) -> Deeplab2MobileNetV3:
    """MobileNetV3-Large at `config.output_stride`."""
    return Deeplab2MobileNetV3(_LARGE, last_channels=960, output_stride=config.output_stride)


class _InvertedResidual(nn.Module):
    """1x1 to more channels, depthwise convolution, squeeze-excite, 1x1 to fewer, added to the input where it fits."""

    def __init__(self, in_channels: int, spec: _Spec, *, stride: int, dilation: int) -> None:
        super().__init__()
        self.adds_input = spec.stride == 1 and in_channels == spec.channels
        self.expand: nn.Sequential | None = None
        if spec.expanded != in_channels:
            self.expand = _conv_norm(in_channels, spec.expanded, 1)
        self.depthwise = _conv_norm(
            spec.expanded, spec.expanded, spec.kernel, stride=stride, dilation=dilation, groups=spec.expanded
        )
        self.squeeze = _SqueezeExcite(spec.expanded) if spec.squeeze else None
        self.project = _conv_norm(spec.expanded, spec.channels, 1)
        self.activation = spec.activation()  # not in place: the depthwise output is a feature

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Output, and that of the depthwise convolution."""
        expanded = features if self.expand is None else self.activation(self.expand(features))
        depthwise: Tensor = self.activation(self.depthwise(expanded))
        output = self.project(depthwise if self.squeeze is None else self.squeeze(depthwise))
        return (features + output if self.adds_input else output), depthwise


class _SqueezeExcite(nn.Module):
    """Scale each channel by what the mean of all channels over the image suggests."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        reduced = multiple_of_8(channels / 4)
        self.reduce = nn.Conv2d(channels, reduced, 1)
        self.expand = nn.Conv2d(reduced, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Same size."""
        squeezed = self.reduce(features.mean(dim=(2, 3), keepdim=True)).relu()
        scaled: Tensor = features * self.expand(squeezed).sigmoid()
        return scaled


def _conv_norm(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, padded evenly on all sides, then BN."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, groups, bias=False),
        nn.BatchNorm2d(out_channels),
    )
