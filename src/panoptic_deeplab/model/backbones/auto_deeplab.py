"""The Auto-DeepLab networks of Table 5, with F = 48 (L+) or 64 (XL+, XL++).

A searched network: 12 equal cells on a searched path through resolutions, as the TensorFlow DeepLab publishes it
("hnasnet"). The paper's "+" removes "the stride in the original output stride 32 path": the two cells there keep their
channels and run at stride 16. The path ends at stride 8, so the ASPP reads features of stride 8.

    images ─▶ stem ─▶ cell 0 1 2 ─▶ cell 3 ─▶ cell 4 ─▶ cell 5 ─▶ cell 6 7 ─▶ cell 8 9 ─▶ cell 10 ─▶ cell 11 ─▶ ASPP
    stride      4        4 4 4         8        16         8        16 16       16 16        16         8
    tap                      ▲                             ▲
"""

from functools import partial
from itertools import chain, pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panoptic_deeplab.config import ModelConfig
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.maps import Size, size_of, upsample
from panoptic_deeplab.model.layers import conv_norm

_LEVELS = (0, 0, 0, 1, 2, 1, 2, 2, 3, 3, 2, 1)
"""Level of each cell. A cell of level l has F * 2^l channels a convolution, and ends at stride 4 * 2^l, or 16 for
level 3."""

_COARSEST_RESOLUTION = 2
"""The level whose resolution level 3 shares since its stride was removed."""

_TAP_AT_4, _TAP_AT_8 = 2, 5
"""Cells whose outputs the decoder reads."""

_BLOCKS = (
    (("atrous", 5, 1), ("separable", 3, 0)),
    (("separable", 3, 1), ("atrous", 3, 0)),
    (("separable", 3, 3), ("separable", 3, 1)),
    (("separable", 5, 4), ("separable", 5, 2)),
    (("separable", 5, 3), ("atrous", 5, 5)),
)
"""The cell: each block adds two convolutions `(kind, kernel, input)`. Input 0 is the output of the cell before, 1 that
of the one before it, 2 to 6 are those of the blocks."""

_OUTPUT_STRIDE = 8

_conv_norm = partial(conv_norm, norm_eps=1e-3)
"""With PyTorch's initial values, which are those of the original (variance 1 / (3 fan-in))."""


class AutoDeepLab(nn.Module):
    """Auto-DeepLab without classifier.

    No weights of it are public in a form that PyTorch reads, and timm lacks the network; the original, without "+",
    was trained from random values.

    Args:
        filters: F.
        tap_at_8: give the decoder the feature at stride 8 too, not only the one at stride 4.
        align_corners: convention of the resizes between resolutions.
    """

    def __init__(self, filters: int, *, tap_at_8: bool, align_corners: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv_norm(3, 64, 3, stride=2), nn.ReLU(inplace=True), _conv_norm(64, 64, 3))
        self.stem_end = nn.Sequential(nn.ReLU(), _conv_norm(64, 128, 3, stride=2))
        cells, last, before_last = [], 128, 64
        for level_before, level in pairwise((0, *_LEVELS)):
            stride = 2 if _resolution(level) > _resolution(level_before) else 1
            cells.append(_Cell(last, before_last, filters * 2**level, stride=stride, align_corners=align_corners))
            before_last, last = last, cells[-1].out_channels
        self.cells = nn.ModuleList(cells)
        self._taps = (_TAP_AT_4, _TAP_AT_8) if tap_at_8 else (_TAP_AT_4,)
        self.strides = [4 * 2 ** _LEVELS[tap] for tap in self._taps] + [_OUTPUT_STRIDE]
        self.channels = [cells[tap].out_channels for tap in self._taps] + [last]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features at `strides`."""
        before_last = self.stem(images)
        last = self.stem_end(before_last)
        sizes = [size_of(last)]
        for _ in range(_COARSEST_RESOLUTION):
            sizes.append(_half(sizes[-1]))
        outputs = []
        for cell, (level_before, level) in zip(self.cells, pairwise((0, *_LEVELS)), strict=True):
            finer = min(_resolution(level_before), _resolution(level))  # a stride, if any, is inside of the cell
            before_last, last = last, cell(last, before_last, sizes[finer])
            outputs.append(last)
        return [*(outputs[tap] for tap in self._taps), F.relu(last)]


def auto_deeplab_l_plus(config: ModelConfig) -> AutoDeepLab:
    """Auto-DeepLab-L+: F = 48; `decoder_strides` (8, 4)."""
    return _auto_deeplab(config, filters=48, tap_at_8=True)


def auto_deeplab_xl_plus(config: ModelConfig) -> AutoDeepLab:
    """Auto-DeepLab-XL+: F = 64; its decoder has no feature at stride 8, so `decoder_strides` must be (4,)."""
    return _auto_deeplab(config, filters=64, tap_at_8=False)


def auto_deeplab_xl_plus_plus(config: ModelConfig) -> AutoDeepLab:
    """Auto-DeepLab-XL++: "additionally exploit low-level features from output stride 8"; `decoder_strides` (8, 4)."""
    return _auto_deeplab(config, filters=64, tap_at_8=True)


def _auto_deeplab(config: ModelConfig, *, filters: int, tap_at_8: bool) -> AutoDeepLab:
    if config.output_stride != _OUTPUT_STRIDE:
        raise ConfigError(
            f"`model.backbone` {config.backbone!r} ends at stride {_OUTPUT_STRIDE} and at no other. Set"
            f" `model.output_stride` to {_OUTPUT_STRIDE}. Got {config.output_stride} instead."
        )
    return AutoDeepLab(filters, tap_at_8=tap_at_8, align_corners=config.align_corners)


class _Cell(nn.Module):
    """Five blocks, whose outputs are concatenated."""

    def __init__(self, last: int, before_last: int, channels: int, *, stride: int, align_corners: bool) -> None:
        super().__init__()
        self.out_channels = len(_BLOCKS) * channels
        self.align_corners = align_corners
        self.last = nn.Sequential(nn.ReLU(), _conv_norm(last, channels, 1))
        self.before_last = nn.Sequential()
        if before_last != channels:
            self.before_last = nn.Sequential(nn.ReLU(), _conv_norm(before_last, channels, 1))
        self.convolutions = nn.ModuleList()
        for kind, kernel, source in chain.from_iterable(_BLOCKS):
            own_stride = stride if source < 2 else 1  # blocks have the cell's output size already
            if kind == "atrous":
                self.convolutions.append(_Atrous(channels, kernel, stride=own_stride, align_corners=align_corners))
            else:
                twice = (_separable(channels, kernel, stride=own_stride), _separable(channels, kernel))
                self.convolutions.append(nn.Sequential(*twice))

    def forward(self, last: Tensor, before_last: Tensor, size: Size) -> Tensor:
        """Outputs of the cell before and of the one before that, of any sizes -> at `size`, or half of it."""
        states = [
            self.last(_resized(last, size, align_corners=self.align_corners)),
            self.before_last(_resized(before_last, size, align_corners=self.align_corners)),
        ]
        convolutions = iter(self.convolutions)
        for (_, _, left), (_, _, right) in _BLOCKS:
            states.append(next(convolutions)(states[left]) + next(convolutions)(states[right]))
        return torch.cat(states[2:], dim=1)


class _Atrous(nn.Module):
    """ReLU, dense convolution at rate 2, BN. With a stride, the input is resized instead, and the rate is 1."""

    def __init__(self, channels: int, kernel: int, *, stride: int, align_corners: bool) -> None:
        super().__init__()
        self.halves = stride == 2
        self.align_corners = align_corners
        self.conv = _conv_norm(channels, channels, kernel, dilation=1 if self.halves else 2)

    def forward(self, features: Tensor) -> Tensor:
        """Same size, or half of it."""
        features = F.relu(features)
        if self.halves:
            size = _half(size_of(features))
            features = upsample(features, size, align_corners=self.align_corners)
        output: Tensor = self.conv(features)
        return output


def _separable(channels: int, kernel: int, *, stride: int = 1) -> nn.Sequential:
    """ReLU, depthwise and pointwise convolution without anything between, BN."""
    depthwise = nn.Conv2d(channels, channels, kernel, stride=stride, padding=kernel // 2, groups=channels, bias=False)
    return nn.Sequential(nn.ReLU(), depthwise, *_conv_norm(channels, channels, 1))


def _resolution(level: int) -> int:
    """Which of the sizes at strides 4, 8, 16 a level has."""
    return min(level, _COARSEST_RESOLUTION)


def _half(size: Size) -> Size:
    """The size after a convolution with stride 2, be it of k * stride + 1 pixels or of any others."""
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def _resized(features: Tensor, size: Size, *, align_corners: bool) -> Tensor:
    if size_of(features) == size:
        return features
    return upsample(features, size, align_corners=align_corners)
