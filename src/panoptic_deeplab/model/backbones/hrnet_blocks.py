"""The parts of HRNet: residual blocks, and the module in which parallel branches exchange their features.

Branch i has stride 4 * 2^i. Names of layers are those of the authors' code (HRNet-Image-Classification), which timm and
bowenc0221 share.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from panoptic_deeplab.maps import Size, size_of, upsample

_EXPANSION = 4
"""Output channels of a bottleneck over its inner ones."""


@dataclass(frozen=True, kw_only=True)
class HRNetLayout:
    """What distinguishes the members of the family."""

    widths: tuple[int, int, int, int]
    """Channels of each branch."""
    separable: bool = False
    """Depthwise separable 3x3 convolutions, behind the stem and in front of the ImageNet head."""
    exchange: Literal["bilinear", "bilinear_aligned", "nearest", "inferred"] = "bilinear"
    """See `ModelConfig.hrnet_exchange`."""
    align_corners: bool = True
    """Convention of the bilinear resizes, but for `bilinear_aligned`."""
    atrous: bool = False
    """The fourth branch at stride 16, with rate 2."""
    modules: tuple[int, int, int] = (1, 4, 3)
    """Modules in stages 2, 3 and 4, which have as many branches."""
    blocks: int = 4
    """Blocks in each branch of a module."""
    stem_width: int = 64
    """Also the inner channels of stage 1, which gives four times as many."""

    def stride_into(self, branch: int) -> int:
        """Stride of the convolution from the branch above."""
        return 1 if self.atrous and branch == 3 else 2

    def rate_in(self, branch: int) -> int:
        """Atrous rate of the 3x3 convolutions in a branch."""
        return 2 if self.atrous and branch == 3 else 1

    def resize(self, feature: Float[Tensor, "B C h w"], size: Size) -> Float[Tensor, "B C H W"]:
        """Bring a feature of a deeper branch to another one's size: not by a factor, since sizes may be odd."""
        if size_of(feature) == size:
            return feature
        if self.exchange == "nearest":
            return F.interpolate(feature, size=size, mode="nearest")
        return upsample(feature, size, align_corners=self.align_corners or self.exchange == "bilinear_aligned")

    def convolution(self, in_channels: int, out_channels: int, *, stride: int = 1, rate: int = 1) -> nn.Module:
        """3x3, without the BN that follows."""
        if not self.separable:
            return _convolution(in_channels, out_channels, stride=stride, rate=rate)
        return nn.Sequential(
            _convolution(in_channels, in_channels, stride=stride, rate=rate, groups=in_channels),
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
        )


class Bottleneck(nn.Module):
    """1x1, 3x3 of `channels`, 1x1 to four times as many; a shortcut, which is a 1x1 where the number changes."""

    def __init__(self, in_channels: int, channels: int, *, layout: HRNetLayout, rate: int = 1) -> None:
        super().__init__()
        out_channels = _EXPANSION * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = layout.convolution(channels, channels, rate=rate)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, feature: Float[Tensor, "B _ h w"]) -> Float[Tensor, "B _ h w"]:
        """Same size, other channels."""
        output = F.relu(self.bn1(self.conv1(feature)))
        output = F.relu(self.bn2(self.conv2(output)))
        return F.relu(self.bn3(self.conv3(output)) + self.downsample(feature))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, channels: int, *, layout: HRNetLayout, rate: int) -> None:
        super().__init__()
        self.conv1 = layout.convolution(channels, channels, rate=rate)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = layout.convolution(channels, channels, rate=rate)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, feature: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """Same size and channels."""
        output = F.relu(self.bn1(self.conv1(feature)))
        return F.relu(self.bn2(self.conv2(output)) + feature)


class HighResolutionModule(nn.Module):
    """Convolve each branch by itself, then add to each what all others have, brought to its size and channels.

    From a branch to a deeper one lead strided 3x3 convolutions, to a shallower one a convolution and a resize.
    With `upward`, deep branches give to shallower ones, too.
    """

    def __init__(self, branches: int, *, layout: HRNetLayout, upward: bool = True) -> None:
        super().__init__()
        self.layout = layout
        widths = layout.widths[:branches]
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width, layout=layout, rate=layout.rate_in(index)) for _ in range(layout.blocks)))
            for index, width in enumerate(widths)
        )
        self.fuse_layers = nn.ModuleList()
        for target in range(branches):
            paths: list[nn.Module] = [nn.Sequential(*descend(source, target, layout)) for source in range(target)]
            paths.append(nn.Identity())
            if upward:
                paths += [_ascend(source, target, layout) for source in range(target + 1, branches)]
            self.fuse_layers.append(nn.ModuleList(paths))

    def forward(self, features: list[Float[Tensor, "B _ _ _"]]) -> list[Float[Tensor, "B _ _ _"]]:
        """Features of all branches, shallow to deep; sizes and channels stay."""
        features = [branch(feature) for branch, feature in zip(self.branches, features, strict=True)]
        return [self._fuse(target, features) for target in range(len(features))]

    def _fuse(self, target: int, features: Sequence[Tensor]) -> Tensor:
        size, terms = size_of(features[target]), []
        paths: nn.ModuleList = self.fuse_layers[target]  # type: ignore[assignment]
        for source, path in enumerate(paths):
            if source <= target:
                terms.append(path(features[source]))
            elif self.layout.exchange == "inferred":
                terms.append(path(self.layout.resize(features[source], size)))
            else:
                terms.append(self.layout.resize(path(features[source]), size))
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return F.relu(total)


def descend(source: int, target: int, layout: HRNetLayout) -> list[nn.Module]:
    """The strided 3x3 convolutions from one branch to a deeper one; the last of them changes the channels.

    There is a ReLU between two of them, and none behind the last, whose output is added to others.
    """
    steps = []
    for branch in range(source + 1, target + 1):
        last = branch == target
        in_channels = layout.widths[source]
        out_channels = layout.widths[target] if last else in_channels
        layers = [
            layout.convolution(in_channels, out_channels, stride=layout.stride_into(branch)),
            nn.BatchNorm2d(out_channels),
        ]
        steps.append(nn.Sequential(*layers) if last else nn.Sequential(*layers, nn.ReLU(inplace=True)))
    return steps  # type: ignore[return-value]


def _ascend(source: int, target: int, layout: HRNetLayout) -> nn.Module:
    """The convolution from one branch to a shallower one; the resize has no weights."""
    in_channels, out_channels = layout.widths[source], layout.widths[target]
    if layout.exchange == "inferred":
        convolution = layout.convolution(in_channels, out_channels)
    else:
        convolution = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels))


def _convolution(in_channels: int, out_channels: int, *, stride: int, rate: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(
        in_channels, out_channels, 3, stride=stride, padding=rate, dilation=rate, groups=groups, bias=False
    )
