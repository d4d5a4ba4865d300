"""ResNet-50 and ResNet-50-beta as deeplab2 builds them, for its published weights.

Both have the layers of the usual ResNet-50, with the stride in the 3x3 convolution of a stage's first block. But there
is no max-pooling: the first stage has that stride too. "Beta" replaces the 7x7 convolution in front by three 3x3. This
is not the paper's ResNet-50-beta (`resnet_beta.py`), which keeps the pooling and puts strides into the last block.

From deeplab2's model/encoder/axial_resnet{,_instances}.py and model/layers/{stems,axial_block_groups,axial_blocks}.py.
"""

from torch import Tensor, nn

from panoptic_deeplab.config import ModelConfig
from panoptic_deeplab.model.layers import conv_norm

_BLOCKS = (3, 4, 6, 3)
"""Units of the stages; stage i has 64 * 2^i inner channels, four times as many outer ones, and stride 2."""
_EXPANSION = 4


class Deeplab2ResNet(nn.Module):
    """ResNet-50 without classifier; features are the outputs of the stages, behind the ReLU.

    Where a stage would have fallen below the output stride, its first block keeps resolution and dilation; the 3x3
    convolutions of all blocks behind are dilated by what it left out.

    Args:
        beta: three 3x3 convolutions in front instead of one 7x7.
        output_stride: stride of the last feature: 8, 16 or 32.
    """

    def __init__(self, *, beta: bool, output_stride: int) -> None:
        super().__init__()
        layers = [(3, 64, 3, 2), (64, 64, 3, 1), (64, 128, 3, 1)] if beta else [(3, 64, 7, 2)]
        self.stem = nn.ModuleList(conv_norm(i, o, kernel, stride=stride) for i, o, kernel, stride in layers)
        self.relu = nn.ReLU(inplace=True)

        self.stages = nn.ModuleList()
        self.strides, self.channels = [], []
        channels, reached, dilation = layers[-1][1], 2, 1
        for index, num_blocks in enumerate(_BLOCKS):
            inner = 64 * 2**index
            stage = nn.ModuleList()
            for block in range(num_blocks):
                stride = 2 if block == 0 and reached < output_stride else 1
                stage.append(_Bottleneck(channels, inner, stride=stride, dilation=dilation))
                channels = _EXPANSION * inner
                reached *= stride
                if block == 0:
                    dilation *= 2 // stride
            self.stages.append(stage)
            self.strides.append(reached)
            self.channels.append(channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features at `strides`."""
        output = images
        for layer in self.stem:
            output = self.relu(layer(output))
        features = []
        for stage in self.stages:
            for block in stage:  # type: ignore[attr-defined]
                output = block(output)
            features.append(output)
        return features


def deeplab2_resnet50(config: ModelConfig) -> Deeplab2ResNet:
    """ResNet-50 at `config.output_stride`."""
    return Deeplab2ResNet(beta=False, output_stride=config.output_stride)


def deeplab2_resnet50_beta(config: ModelConfig) -> Deeplab2ResNet:
    """ResNet-50-beta at `config.output_stride`."""
    return Deeplab2ResNet(beta=True, output_stride=config.output_stride)


class _Bottleneck(nn.Module):
    """1x1, 3x3 with stride and dilation, 1x1, added to the input."""

    def __init__(self, in_channels: int, inner: int, *, stride: int, dilation: int) -> None:
        super().__init__()
        out_channels = _EXPANSION * inner
        self.conv1 = conv_norm(in_channels, inner, 1)
        self.conv2 = conv_norm(inner, inner, 3, stride=stride, dilation=dilation)
        self.conv3 = conv_norm(inner, out_channels, 1)
        self.shortcut: nn.Sequential | None = None
        if in_channels != out_channels:
            self.shortcut = conv_norm(in_channels, out_channels, 1, stride=stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """The features behind the ReLU."""
        residual = self.relu(self.conv1(features))
        residual = self.conv3(self.relu(self.conv2(residual)))
        output: Tensor = self.relu(residual + (features if self.shortcut is None else self.shortcut(features)))
        return output
