"""MobileNetV3-Large for segmentation, "the channels in last block reduced by a factor of 2" (Table 9, [27])."""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from panoptic_deeplab.config import ModelConfig


class _Block(NamedTuple):
    """One inverted residual."""

    kernel: int
    expanded: int
    channels: int
    squeeze: bool
    activation: type[nn.Module]
    stride: int = 1


_STAGES = (
    (_Block(3, 16, 16, False, nn.ReLU),),
    (_Block(3, 64, 24, False, nn.ReLU, 2), _Block(3, 72, 24, False, nn.ReLU)),
    (_Block(5, 72, 40, True, nn.ReLU, 2), _Block(5, 120, 40, True, nn.ReLU), _Block(5, 120, 40, True, nn.ReLU)),
    (
        _Block(3, 240, 80, False, nn.Hardswish, 2),
        _Block(3, 200, 80, False, nn.Hardswish),
        _Block(3, 184, 80, False, nn.Hardswish),
        _Block(3, 184, 80, False, nn.Hardswish),
    ),
    (_Block(3, 480, 112, True, nn.Hardswish), _Block(3, 672, 112, True, nn.Hardswish)),
    # The halved block: 672, 960, 960 expanded and 160 output channels in the original, 960 in the convolution behind.
    (
        _Block(5, 336, 80, True, nn.Hardswish, 2),
        _Block(5, 480, 80, True, nn.Hardswish),
        _Block(5, 480, 80, True, nn.Hardswish),
    ),
)

_STEM_CHANNELS = 16
_LAST_CHANNELS = 480
_TAPPED_STAGES = (1, 2, 4)
"""The last ones at strides 4, 8 and 16."""


class MobileNetV3LargeSeg(nn.Module):
    """MobileNetV3-Large with its last block halved, without classifier.

    Low-level features are taken where the TensorFlow DeepLab takes them: from the last inverted residual at a stride,
    the output of the depthwise convolution (behind BN and activation, before squeeze-excite). That is 72 channels at
    stride 4, 120 at stride 8, 672 at stride 16.

    ImageNet weights are timm's of `mobilenetv3_large_100`, whose names the layers have. They cover all but the halved
    block, which starts at random: no weights of that one are public in a form that PyTorch reads.

    Args:
        output_stride: of the last feature: 8, 16 or 32. A layer that would have halved the resolution below it keeps
            it; the layers behind are dilated by what it left out.
    """

    timm_name = "mobilenetv3_large_100"

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        self.conv_stem = nn.Conv2d(3, _STEM_CHANNELS, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_STEM_CHANNELS)
        self.act1 = nn.Hardswish(inplace=True)
        self.blocks = nn.ModuleList()
        self.strides, self.channels = [], []
        channels, reached, dilation = _STEM_CHANNELS, 2, 1
        for index, blocks in enumerate(_STAGES):
            stage = nn.ModuleList()
            for block in blocks:
                stride = block.stride if reached < output_stride else 1
                kind = _InvertedResidual if index > 0 else _Separable
                stage.append(kind(channels, block, stride=stride, dilation=dilation))
                channels = block.channels
                reached *= stride
                dilation *= block.stride // stride
            self.blocks.append(stage)
            if index in _TAPPED_STAGES:
                self.strides.append(reached)
                self.channels.append(blocks[-1].expanded)
        self.blocks.append(nn.ModuleList([_Last(channels, _LAST_CHANNELS)]))
        self.strides.append(reached)
        self.channels.append(_LAST_CHANNELS)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features at `strides`."""
        output = self.act1(self.bn1(self.conv_stem(images)))
        *stages, last = self.blocks
        features = []
        for index, stage in enumerate(stages):
            for block in stage:  # type: ignore[attr-defined]
                output, depthwise = block(output)
            if index in _TAPPED_STAGES:
                features.append(depthwise)
        return [*features, last[0](output)]  # type: ignore[index]

    def from_timm(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of `timm_name`, for the layers that agree."""
        halved = tuple(f"blocks.{index}." for index in (5, 6))
        own = self.state_dict()
        return {name: value for name, value in state.items() if name in own and not name.startswith(halved)}


def mobilenet_v3_large_seg(config: ModelConfig) -> MobileNetV3LargeSeg:
    """The network at `config.output_stride`."""
    return MobileNetV3LargeSeg(config.output_stride)


def multiple_of_8(channels: float) -> int:
    """The nearest one, but not below 90 % of `channels`: how MobileNets round."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


class _Separable(nn.Module):
    """Depthwise convolution, then 1x1: the first block, which does not expand."""

    def __init__(self, in_channels: int, block: _Block, *, stride: int, dilation: int) -> None:
        super().__init__()
        assert in_channels == block.expanded == block.channels
        assert stride == 1
        self.conv_dw = _depthwise(block, stride, dilation)
        self.bn1 = nn.BatchNorm2d(block.expanded)
        self.activation = block.activation(inplace=True)
        self.conv_pw = nn.Conv2d(block.expanded, block.channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(block.channels)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Output, and that of the depthwise convolution."""
        depthwise = self.activation(self.bn1(self.conv_dw(features)))
        return features + self.bn2(self.conv_pw(depthwise)), depthwise


class _InvertedResidual(nn.Module):
    """1x1 to more channels, depthwise convolution, squeeze-excite, 1x1 to fewer, added to the input where it fits."""

    def __init__(self, in_channels: int, block: _Block, *, stride: int, dilation: int) -> None:
        super().__init__()
        self.adds_input = block.stride == 1 and in_channels == block.channels
        self.conv_pw = nn.Conv2d(in_channels, block.expanded, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(block.expanded)
        self.activation = block.activation(inplace=True)
        self.conv_dw = _depthwise(block, stride, dilation)
        self.bn2 = nn.BatchNorm2d(block.expanded)
        self.se = _SqueezeExcite(block.expanded) if block.squeeze else nn.Identity()
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

    def __init__(self, channels: int) -> None:
        super().__init__()
        reduced = multiple_of_8(channels / 4)
        self.conv_reduce = nn.Conv2d(channels, reduced, 1)
        self.conv_expand = nn.Conv2d(reduced, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Same size."""
        squeezed = F.relu(self.conv_reduce(features.mean(dim=(2, 3), keepdim=True)))
        return features * F.hardsigmoid(self.conv_expand(squeezed))


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
    return nn.Conv2d(
        block.expanded,
        block.expanded,
        block.kernel,
        stride=stride,
        padding=dilation * (block.kernel // 2),
        dilation=dilation,
        groups=block.expanded,
        bias=False,
    )
