"""The two convolution blocks of which ASPP, decoder and heads are built."""

from typing import Any, Literal

from torch import nn

ConvolutionKind = Literal["separable", "dense"]


class ConvNormRelu(nn.Sequential):
    """k x k convolution -> BN (unless `norm` is False) -> ReLU; odd kernels keep the size.

    `dilation` is the atrous rate; `groups` = `in_channels` makes it depthwise.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        dilation: int = 1,
        groups: int = 1,
        norm: bool = True,
        bias: bool = False,
        norm_eps: float = 1e-5,
    ) -> None:
        layers: list[nn.Module] = [
            _convolution(in_channels, out_channels, kernel_size, dilation=dilation, groups=groups, bias=bias)
        ]
        if norm:
            layers.append(nn.BatchNorm2d(out_channels, eps=norm_eps))
        layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class SeparableConv(nn.Sequential):
    """Depthwise k x k convolution at the atrous rate `dilation`, then pointwise 1x1 -> BN -> ReLU (section 3.1, [28]).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: odd.
        dilation: atrous rate.
        mid_norm: BN and ReLU after the depthwise convolution too. The paper's parameter counts (Table 1) say no, the
            public implementations do it.
        norm_eps: epsilon of each BN.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        dilation: int = 1,
        mid_norm: bool,
        norm_eps: float,
    ) -> None:
        depthwise: nn.Module
        if mid_norm:
            depthwise = ConvNormRelu(
                in_channels, in_channels, kernel_size, dilation=dilation, groups=in_channels, norm_eps=norm_eps
            )
        else:
            depthwise = _convolution(in_channels, in_channels, kernel_size, dilation=dilation, groups=in_channels)
        super().__init__(depthwise, ConvNormRelu(in_channels, out_channels, 1, norm_eps=norm_eps))


def refinement_conv(
    in_channels: int, out_channels: int, *, mid_channels: int, kind: ConvolutionKind, mid_norm: bool, norm_eps: float
) -> nn.Module:
    """The convolution of a decoder stage or a head: one separable 5x5 (section 3.1), or two dense 3x3.

    `mid_channels` are those between the two dense ones; the separable one has no such place.
    """
    if kind == "separable":
        return SeparableConv(in_channels, out_channels, 5, mid_norm=mid_norm, norm_eps=norm_eps)
    return nn.Sequential(
        ConvNormRelu(in_channels, mid_channels, 3, norm_eps=norm_eps),
        ConvNormRelu(mid_channels, out_channels, 3, norm_eps=norm_eps),
    )


def _convolution(
    in_channels: int, out_channels: int, kernel_size: int, *, dilation: int, groups: int, bias: bool = False
) -> nn.Conv2d:
    padding = dilation * (kernel_size - 1) // 2  # keeps the size
    return nn.Conv2d(in_channels, out_channels, kernel_size, 1, padding, dilation, groups, bias=bias)


def conv_norm(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, dilation: int = 1, norm_eps: float = 1e-5
) -> nn.Sequential:
    """Convolution, padded evenly on all sides, then BN, for backbones."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, bias=False),
        nn.BatchNorm2d(out_channels, eps=norm_eps),
    )


def initialize_convolutions(network: nn.Module, *, mode: Literal["fan_in", "fan_out"] = "fan_out") -> None:
    """He-normal weights for ReLU, and biases of 0, in all convolutions below `network`."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def pair(value: Any) -> tuple[int, int]:
    """A setting of a convolution or pooling as (vertical, horizontal)."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])
