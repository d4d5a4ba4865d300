"""MobileNetV3 for segmentation: the paper's (Table 9, [27]), and the two of deeplab2's published weights.

Low-level features are taken where the TensorFlow DeepLab takes them: from the last inverted residual at a stride, the
output of the depthwise convolution (behind BN and activation, before squeeze-excite). Layers have timm's names.
deeplab2's networks (model/encoder/mobilenet.py, model/layers/{blocks,squeeze_and_excite}.py there) differ from timm's
in the gate of the squeeze-excite, a plain sigmoid.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from panoptic_deeplab.config import ModelConfig
from panoptic_deeplab.model.layers import initialize_convolutions

_Gate = Callable[[Tensor], Tensor]


class _Block(NamedTuple):
    """One inverted residual."""

    kernel: int
    expanded: int
    channels: int
    squeeze: bool
    activation: type[nn.Module]
    stride: int = 1


_RELU, _SWISH = nn.ReLU, nn.Hardswish
_STEM_CHANNELS = 16
_LARGE = (
    (_Block(3, 16, 16, False, _RELU),),
    (_Block(3, 64, 24, False, _RELU, 2), _Block(3, 72, 24, False, _RELU)),
    (_Block(5, 72, 40, True, _RELU, 2), _Block(5, 120, 40, True, _RELU), _Block(5, 120, 40, True, _RELU)),
    (
        _Block(3, 240, 80, False, _SWISH, 2),
        _Block(3, 200, 80, False, _SWISH),
        _Block(3, 184, 80, False, _SWISH),
        _Block(3, 184, 80, False, _SWISH),
    ),
    (_Block(3, 480, 112, True, _SWISH), _Block(3, 672, 112, True, _SWISH)),
    (_Block(5, 672, 160, True, _SWISH, 2), _Block(5, 960, 160, True, _SWISH), _Block(5, 960, 160, True, _SWISH)),
)
_LARGE_HALVED = (
    *_LARGE[:-1],
    tuple(block._replace(expanded=block.expanded // 2, channels=block.channels // 2) for block in _LARGE[-1]),
)
"""With "the channels in last block reduced by a factor of 2" (Table 9)."""
_SMALL = (
    (_Block(3, 16, 16, True, _RELU, 2),),
    (_Block(3, 72, 24, False, _RELU, 2), _Block(3, 88, 24, False, _RELU)),
    (_Block(5, 96, 40, True, _SWISH, 2), _Block(5, 240, 40, True, _SWISH), _Block(5, 240, 40, True, _SWISH)),
    (_Block(5, 120, 48, True, _SWISH), _Block(5, 144, 48, True, _SWISH)),
    (_Block(5, 288, 96, True, _SWISH, 2), _Block(5, 576, 96, True, _SWISH), _Block(5, 576, 96, True, _SWISH)),
)
_LARGE_TAPS, _SMALL_TAPS = (1, 2, 4), (0, 1, 3)
"""The last stages at strides 4, 8 and 16."""


class MobileNetV3(nn.Module):
    """MobileNetV3 without classifier.

    Args:
        stages: their inverted residuals.
        taps: the stages whose last depthwise output is a feature.
        last_channels: channels of the 1x1 convolution behind the stages, which is the last feature.
        output_stride: stride of the last feature: 8, 16 or 32. A layer that would have halved the resolution below it
            keeps it; the layers behind are dilated by what it left out.
        gate: the last function of squeeze-excite.
    """

    def __init__(
        self,
        stages: tuple[tuple[_Block, ...], ...],
        *,
        taps: tuple[int, ...],
        last_channels: int,
        output_stride: int,
        gate: _Gate = F.sigmoid,
    ) -> None:
        super().__init__()
        self.conv_stem = nn.Conv2d(3, _STEM_CHANNELS, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_STEM_CHANNELS)
        self.act1 = nn.Hardswish(inplace=True)
        self.blocks = nn.ModuleList()
        self.strides, self.channels = [], []
        self._taps = taps
        channels, reached, dilation = _STEM_CHANNELS, 2, 1
        for index, blocks in enumerate(stages):
            stage = nn.ModuleList()
            for block in blocks:
                stride = block.stride if reached < output_stride else 1
                kind = _InvertedResidual if index > 0 else _Separable
                stage.append(kind(channels, block, stride=stride, dilation=dilation, gate=gate))
                channels = block.channels
                reached *= stride
                dilation *= block.stride // stride
            self.blocks.append(stage)
            if index in taps:
                self.strides.append(reached)
                self.channels.append(blocks[-1].expanded)
        self.blocks.append(nn.ModuleList([_Last(channels, last_channels)]))
        self.strides.append(reached)
        self.channels.append(last_channels)
        initialize_convolutions(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features at `strides`."""
        output = self.act1(self.bn1(self.conv_stem(images)))
        *stages, last = self.blocks
        features = []
        for index, stage in enumerate(stages):
            for block in stage:  # type: ignore[attr-defined]
                output, depthwise = block(output)
            if index in self._taps:
                features.append(depthwise)
        return [*features, last[0](output)]  # type: ignore[index]


class MobileNetV3LargeSeg(MobileNetV3):
    """MobileNetV3-Large with its last block halved.

    ImageNet weights are timm's of `mobilenetv3_large_100`. They cover all but the halved block, which starts at
    random: no weights of that one are public in a form that PyTorch reads.
    """

    timm_name = "mobilenetv3_large_100"

    def __init__(self, output_stride: int) -> None:
        super().__init__(
            _LARGE_HALVED, taps=_LARGE_TAPS, last_channels=480, output_stride=output_stride, gate=F.hardsigmoid
        )

    def from_timm(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of `timm_name`, for the layers that agree."""
        halved = tuple(f"blocks.{index}." for index in (5, 6))
        own = self.state_dict()
        return {name: value for name, value in state.items() if name in own and not name.startswith(halved)}


def mobilenet_v3_large_seg(config: ModelConfig) -> MobileNetV3LargeSeg:
    """The paper's network at `config.output_stride`."""
    return MobileNetV3LargeSeg(config.output_stride)


def deeplab2_mobilenet_v3_small(config: ModelConfig) -> MobileNetV3:
    """deeplab2's MobileNetV3-Small at `config.output_stride`."""
    return MobileNetV3(_SMALL, taps=_SMALL_TAPS, last_channels=576, output_stride=config.output_stride)


def deeplab2_mobilenet_v3_large(config: ModelConfig) -> MobileNetV3:
    """deeplab2's MobileNetV3-Large at `config.output_stride`."""
    return MobileNetV3(_LARGE, taps=_LARGE_TAPS, last_channels=960, output_stride=config.output_stride)


class _Separable(nn.Module):
    """Depthwise convolution, then 1x1: the first block, which does not expand."""

    def __init__(self, in_channels: int, block: _Block, *, stride: int, dilation: int, gate: _Gate) -> None:
        super().__init__()
        assert in_channels == block.expanded == block.channels
        self.adds_input = block.stride == 1
        self.conv_dw = _depthwise(block, stride, dilation)
        self.bn1 = nn.BatchNorm2d(block.expanded)
        self.activation = block.activation(inplace=True)
        self.se = _SqueezeExcite(block.expanded, gate) if block.squeeze else nn.Identity()
        self.conv_pw = nn.Conv2d(block.expanded, block.channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(block.channels)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Output, and that of the depthwise convolution."""
        depthwise = self.activation(self.bn1(self.conv_dw(features)))
        output = self.bn2(self.conv_pw(self.se(depthwise)))
        return (features + output if self.adds_input else output), depthwise


class _InvertedResidual(nn.Module):
    """1x1 to more channels, depthwise convolution, squeeze-excite, 1x1 to fewer, added to the input where it fits."""

    def __init__(self, in_channels: int, block: _Block, *, stride: int, dilation: int, gate: _Gate) -> None:
        super().__init__()
        self.adds_input = block.stride == 1 and in_channels == block.channels
        self.conv_pw = nn.Conv2d(in_channels, block.expanded, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(block.expanded)
        self.activation = block.activation(inplace=True)
        self.conv_dw = _depthwise(block, stride, dilation)
        self.bn2 = nn.BatchNorm2d(block.expanded)
        self.se = _SqueezeExcite(block.expanded, gate) if block.squeeze else nn.Identity()
        self.conv_pwl = nn.Conv2d(block.expanded, block.channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(block.channels)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Output, and that of the depthwise convolution."""
        expanded = self.activation(self.bn1(self.conv_pw(features)))
        depthwise = self.activation(self.bn2(self.conv_dw(expanded)))
        output = self.bn3(self.conv_pwl(self.se(depthwise)))
        return (features + output if self.adds_input else output), depthwise


class _SqueezeExcite(nn.Module):
    """Scale each channel by what the mean of all channels over the image suggests."""

    def __init__(self, channels: int, gate: _Gate) -> None:
        super().__init__()
        quarter = int(channels / 4 + 4) // 8 * 8  # the nearest multiple of 8, but not below 90 %: how MobileNets round
        reduced = max(8, quarter if quarter >= 0.9 * channels / 4 else quarter + 8)
        self.gate = gate
        self.conv_reduce = nn.Conv2d(channels, reduced, 1)
        self.conv_expand = nn.Conv2d(reduced, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Same size."""
        squeezed = F.relu(self.conv_reduce(features.mean(dim=(2, 3), keepdim=True)))
        return features * self.gate(self.conv_expand(squeezed))


class _Last(nn.Module):
    """1x1 convolution, BN, activation."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.activation = nn.Hardswish(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Same size."""
        output: Tensor = self.activation(self.bn1(self.conv(features)))
        return output


def _depthwise(block: _Block, stride: int, dilation: int) -> nn.Conv2d:
    padding, channels = dilation * (block.kernel // 2), block.expanded
    return nn.Conv2d(channels, channels, block.kernel, stride, padding, dilation, groups=channels, bias=False)
