"""A second construction of deeplab2's Panoptic-DeepLab: functions over variables by TensorFlow's names.

Written from deeplab2's sources alone. Running it makes the variables: each is created, with fixed values, when a layer
first asks for it, in TensorFlow's order of axes. Padding, strides and atrous rates are TensorFlow's: convolutions of
stride 1 are padded "same", others explicitly by half of the kernel's extent and then not at all.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

NOISE = np.random.default_rng(0).normal(size=100_003).astype(np.float32)


class Variables(dict[str, np.ndarray]):
    """Name -> values."""

    def make(self, name: str, shape: tuple[int, ...]) -> Tensor:
        if name not in self:
            count, start = math.prod(shape), sum(map(ord, name)) * 37 % len(NOISE)
            noise = np.resize(np.roll(NOISE, -start), count).reshape(shape)
            last = name.rpartition("/")[2]
            if last == "kernel":
                values = noise * math.sqrt(2 / math.prod(shape[:3]))
            elif last == "depthwise_kernel":
                values = noise * math.sqrt(2 / math.prod(shape[:2]))
            elif last in ("gamma", "moving_variance"):
                values = 1 + 0.2 * np.abs(noise)
            else:
                values = 0.1 * noise
            self[name] = values.astype(np.float32)
        return torch.from_numpy(self[name]).double()


class Network:
    def __init__(self, *, epsilon: float, output_stride: int) -> None:
        self.variables = Variables()
        self.epsilon = epsilon
        self.output_stride = output_stride

    # -------------------------------------------------------------------------------------------------------- layers

    def batch_norm(self, x: Tensor, name: str) -> Tensor:
        get = lambda entry: self.variables.make(f"{name}/_batch_norm/{entry}", (x.shape[1],))[:, None, None]  # noqa: E731
        scale = get("gamma") / torch.sqrt(get("moving_variance") + self.epsilon)
        return (x - get("moving_mean")) * scale + get("beta")

    def conv(self, x: Tensor, name: str, channels: int, k: int, *, stride: int = 1, rate: int = 1) -> Tensor:
        """Conv2DSame with BN."""
        kernel = self.variables.make(f"{name}/_conv/kernel", (k, k, x.shape[1], channels))
        x = pad(x, k, stride, rate)
        return self.batch_norm(F.conv2d(x, kernel.permute(3, 2, 0, 1), stride=stride, dilation=rate), name)

    def depthwise(self, x: Tensor, name: str, k: int, *, stride: int = 1, rate: int = 1) -> Tensor:
        """DepthwiseConv2DSame with BN."""
        kernel = self.variables.make(f"{name}/_depthwise_conv/depthwise_kernel", (k, k, x.shape[1], 1))
        x = pad(x, k, stride, rate)
        y = F.conv2d(x, kernel.permute(2, 3, 0, 1), stride=stride, dilation=rate, groups=x.shape[1])
        return self.batch_norm(y, name)

    def separable(self, x: Tensor, name: str, channels: int) -> Tensor:
        """StackedConv2DSame of one 5x5 separable convolution."""
        x = self.depthwise(x, f"{name}/_conv1_bn_act/_depthwise", 5).relu()
        return self.conv(x, f"{name}/_conv1_bn_act/_pointwise", channels, 1).relu()

    def plain(self, x: Tensor, name: str, channels: int) -> Tensor:
        """Keras' Conv2D of 1x1 with bias."""
        kernel = self.variables.make(f"{name}/kernel", (1, 1, x.shape[1], channels))
        return F.conv2d(x, kernel.permute(3, 2, 0, 1), self.variables.make(f"{name}/bias", (channels,)))

    # ------------------------------------------------------------------------------------------------------ encoders

    def resnet(self, x: Tensor, *, beta: bool) -> dict[str, Tensor]:
        if beta:
            x = self.conv(x, "encoder/_stem/_conv1_bn_act", 64, 3, stride=2).relu()
            x = self.conv(x, "encoder/_stem/_conv2_bn_act", 64, 3).relu()
            x = self.conv(x, "encoder/_stem/_conv3_bn", 128, 3)
        else:
            x = self.conv(x, "encoder/_stem", 64, 7, stride=2)
        x = x.relu()
        endpoints = {}
        for stage, blocks, input_stride in ((2, 3, 2), (3, 4, 4), (4, 6, 8), (5, 3, 16)):
            current = input_stride
            for block in range(1, blocks + 1):
                stride = 2 if block == 1 and input_stride < self.output_stride else 1
                rate = max(1, current // self.output_stride)
                x = self.bottleneck(x, f"encoder/_stage{stage}/_block{block}", input_stride * 32, stride, rate)
                if block == 1:
                    current *= 2
            endpoints[f"res{stage}"] = x
        return endpoints

    def bottleneck(self, x: Tensor, name: str, filters: int, stride: int, rate: int) -> Tensor:
        shortcut = x
        if x.shape[1] != 4 * filters:
            shortcut = self.conv(x, f"{name}/_shortcut", 4 * filters, 1, stride=stride)
        x = self.conv(x, f"{name}/_conv1_bn_act", filters, 1).relu()
        x = self.conv(x, f"{name}/_conv2_bn_act", filters, 3, stride=stride, rate=rate).relu()
        return (self.conv(x, f"{name}/_conv3_bn", 4 * filters, 1) + shortcut).relu()

    def mobilenet(self, x: Tensor, specs: list[tuple]) -> dict[str, Tensor]:
        """`specs`: function, kernel, stride, filters, activation, squeeze-excite ratio, expansion, is endpoint."""
        current, rate, level, endpoints = 1, 1, 1, {}
        for index, (function, k, strides, filters, act, ratio, expansion, is_endpoint) in enumerate(specs):
            if current == self.output_stride:
                stride, layer_rate = 1, rate
                rate *= strides
            else:
                stride, layer_rate = strides, 1
                current *= strides
            name, activation = f"encoder/_blocks/{index}", ACTIVATIONS[act]
            if function == "conv_bn":
                x = endpoint = activation(self.conv(x, name, filters, k, stride=stride))
            else:
                y, before = x, x.shape[1]
                if expansion > 1:
                    y = activation(self.conv(y, f"{name}/_conv1_bn_act", divisible(before * expansion), 1))
                y = activation(self.depthwise(y, f"{name}/_conv2_bn_act", k, stride=stride, rate=layer_rate))
                endpoint = y
                if ratio:
                    reduced = divisible(max(1, int(y.shape[1] * ratio)))
                    gate = self.plain(y.mean((2, 3), keepdim=True), f"{name}/_squeeze_excitation/_se_reduce", reduced)
                    gate = self.plain(gate.relu(), f"{name}/_squeeze_excitation/_se_expand", y.shape[1])
                    y = y * gate.sigmoid()
                y = self.conv(y, f"{name}/_conv3_bn", filters, 1)
                x = x + y if strides == 1 and before == filters else y
            if is_endpoint:
                endpoints[f"res{level}"] = endpoint
                level += 1
        return endpoints

    # ------------------------------------------------------------------------------------------------ decoders, heads

    def decode(
        self, features: dict[str, Tensor], name: str, projections: tuple[int, int], aspp: int, channels: int,
        rates: tuple[int, int, int], pool: tuple[int, int],
    ) -> Tensor:  # fmt: skip
        top, prefix = features["res5"], f"{name}/_aspp"
        size = top.shape[-2:]
        views = [self.conv(top, f"{prefix}/_conv_bn_act", aspp, 1).relu()]
        for index, rate in enumerate(rates, start=1):
            views.append(self.conv(top, f"{prefix}/_aspp_conv{index}/_conv_bn_act", aspp, 3, rate=rate).relu())
        pooled = F.avg_pool2d(top, pool, stride=1)
        views.append(resize(self.conv(pooled, f"{prefix}/_aspp_pool/_conv_bn_act", aspp, 1).relu(), size))
        x = self.conv(torch.cat(views, 1), f"{prefix}/_proj_conv_bn_act", aspp, 1).relu()
        for index, (feature, projected) in enumerate(zip(("res3", "res2"), projections, strict=True), start=1):
            low = self.conv(features[feature], f"{name}/_low_level_conv{index}", projected, 1).relu()
            x = self.separable(torch.cat([resize(x, low.shape[-2:]), low], 1), f"{name}/_fusion_conv{index}", channels)
        return x

    def head(self, x: Tensor, name: str, last: str, channels: int, outputs: int) -> Tensor:
        return self.plain(self.separable(x, f"{name}_without_last_layer", channels), last, outputs)


def pad(x: Tensor, k: int, stride: int, rate: int) -> Tensor:
    total = rate * (k - 1)
    if stride == 1:  # "same": with stride 1, half on each side, the odd pixel behind
        return F.pad(x, (total // 2, total - total // 2, total // 2, total - total // 2))
    return F.pad(x, (total // 2, total - total // 2) * 2)


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


def divisible(value: float) -> int:
    new = max(8, int(value + 4) // 8 * 8)
    return new + 8 if new < 0.9 * value else new


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "hard_swish": lambda x: x * F.relu6(x + 3) * (1 / 6),
}

B, C, S = "inverted_bottleneck", "conv_bn", "hard_swish"
SMALL = [
    (C, 3, 2, 16, S, None, None, True),
    (B, 3, 2, 16, "relu", 0.25, 1, True),
    (B, 3, 2, 24, "relu", None, 72 / 16, False),
    (B, 3, 1, 24, "relu", None, 88 / 24, True),
    (B, 5, 2, 40, S, 0.25, 4, False),
    *[(B, 5, 1, 40, S, 0.25, 6, False)] * 2,
    (B, 5, 1, 48, S, 0.25, 3, False),
    (B, 5, 1, 48, S, 0.25, 3, True),
    (B, 5, 2, 96, S, 0.25, 6, False),
    *[(B, 5, 1, 96, S, 0.25, 6, False)] * 2,
    (C, 1, 1, 576, S, None, None, True),
]
LARGE = [
    (C, 3, 2, 16, S, None, None, False),
    (B, 3, 1, 16, "relu", None, 1, True),
    (B, 3, 2, 24, "relu", None, 4, False),
    (B, 3, 1, 24, "relu", None, 3, True),
    (B, 5, 2, 40, "relu", 0.25, 3, False),
    (B, 5, 1, 40, "relu", 0.25, 3, False),
    (B, 5, 1, 40, "relu", 0.25, 3, True),
    (B, 3, 2, 80, S, None, 6, False),
    (B, 3, 1, 80, S, None, 2.5, False),
    *[(B, 3, 1, 80, S, None, 2.3, False)] * 2,
    (B, 3, 1, 112, S, 0.25, 6, False),
    (B, 3, 1, 112, S, 0.25, 6, True),
    (B, 5, 2, 160, S, 0.25, 6, False),
    *[(B, 5, 1, 160, S, 0.25, 6, False)] * 2,
    (C, 1, 1, 960, S, None, None, True),
]
