"""ResNet-50 in the "beta" form of the TensorFlow DeepLab, which Table 9's multiply-adds imply.

It has the layers of the usual ResNet-50 but for two differences, both of which make it dearer and finer:
- the stem is three 3x3 convolutions (64, 64, 128 channels) instead of one 7x7;
- a block halves the resolution in its *last* unit instead of its first, so that all units before see the finer map.

A unit that would have halved the resolution below the output stride keeps it; all units behind it are dilated by what
it left out.
"""

from torch import Tensor, nn

from panoptic_deeplab.config import ModelConfig
from panoptic_deeplab.model.layers import initialize_convolutions

_UNITS = (3, 4, 6, 3)
"""Units of the four blocks; block i has 64 * 2^i inner channels, four times as many outer ones."""

_STRIDES = (2, 2, 2, 1)
"""Stride of each block's last unit."""

_EXPANSION = 4


class ResNetBeta(nn.Module):
    """ResNet-50-beta without classifier.

    Low-level features are taken where the TensorFlow DeepLab takes them: the residual (behind the last BN, before the
    addition) of the unit before the strided one.

    ImageNet weights of exactly this network are not public in a form that PyTorch reads. timm's `resnet50s` has layers
    of the same sizes and names, with the stride in a block's first unit, so its weights fit. Features are equal up to
    the tap at stride 4; behind it, a 3x3 convolution that is strided in timm's network sees its neighbors twice as far
    away. They are a start for fine-tuning, and no replacement for weights of the network itself.
    """

    timm_name = "resnet50s"

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for in_channels, out_channels, stride in ((3, 64, 2), (64, 64, 1)):
            layers.append(nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False))
            layers += [nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
        self.conv1 = nn.Sequential(*layers, nn.Conv2d(64, 128, 3, padding=1, bias=False))
        self.bn1 = nn.BatchNorm2d(128)
        self.act1 = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)

        blocks, self.strides, self.channels = [], [], []
        channels, reached, dilation = 128, 4, 1
        for index, (units, wanted) in enumerate(zip(_UNITS, _STRIDES, strict=True)):
            inner = 64 * 2**index
            self.strides.append(reached)
            self.channels.append(_EXPANSION * inner)
            stride = wanted if reached < output_stride else 1
            block = []
            for unit in range(units):
                last = unit == units - 1
                block.append(_Unit(channels, inner, stride=stride if last else 1, dilation=dilation))
                channels = _EXPANSION * inner
            blocks.append(nn.ModuleList(block))
            reached *= stride
            dilation *= wanted // stride
        self.layer1, self.layer2, self.layer3, self.layer4 = blocks
        initialize_convolutions(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features at `strides`."""
        output = self.maxpool(self.act1(self.bn1(self.conv1(images))))
        features = []
        for block in (self.layer1, self.layer2, self.layer3):
            *units, strided = block
            for unit in units:
                output, residual = unit(output)
            features.append(residual)
            output, _ = strided(output)
        for unit in self.layer4:
            output, _ = unit(output)
        return [*features, output]

    def from_timm(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of `timm_name`, without the classifier."""
        return {name: value for name, value in state.items() if not name.startswith("fc.")}


def resnet50_beta(config: ModelConfig) -> ResNetBeta:
    """The network at `config.output_stride`."""
    return ResNetBeta(config.output_stride)


class _Unit(nn.Module):
    """Bottleneck: 1x1, 3x3 with the stride, 1x1, added to the input."""

    def __init__(self, in_channels: int, inner: int, *, stride: int, dilation: int) -> None:
        super().__init__()
        out_channels = _EXPANSION * inner
        self.stride = stride
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Sequential | None = None
        if in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Output, and the residual alone."""
        residual = self.relu(self.bn1(self.conv1(features)))
        residual = self.relu(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        if self.downsample is not None:
            shortcut = self.downsample(features)
        else:
            shortcut = features[:, :, :: self.stride, :: self.stride]
        return self.relu(shortcut + residual), residual
