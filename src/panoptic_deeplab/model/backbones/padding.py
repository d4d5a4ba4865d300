"""`use_symmetric_padding`: timm's networks without TensorFlow's "same" padding."""

from timm.layers.cond_conv2d import CondConv2d
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from timm.layers.std_conv import ScaledStdConv2dSame, StdConv2dSame
from torch import nn

from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.model.layers import pair


def use_symmetric_padding(network: nn.Module) -> None:
    """Replace TensorFlow's "same" padding by symmetric padding, in place.

    "Same" pads by an amount that depends on the parity of the input, more at the bottom and right: the features of an
    image would move by pixels when it is padded to another size. For the odd sizes k * stride + 1 both agree.

    A layer that pads like that and has no symmetric form is a `ConfigError`.
    """
    for module in network.modules():
        for name, child in module.named_children():
            if _pads_by_size(child):
                setattr(module, name, _symmetric(child))


def _pads_by_size(layer: nn.Module) -> bool:
    """Does this layer of timm choose its padding by the size of the input, so that features move?"""
    if type(layer).__name__.endswith("Same"):
        dynamic = getattr(layer, "same_pad", True)
    else:
        dynamic = getattr(layer, "dynamic_padding", False)
    if not dynamic:
        return False
    # With stride 1 the amount is constant; an extent of 2 is padded, if at all, at the bottom and right only.
    return max(pair(layer.stride)) > 1 and max(_extent(layer)) > 2


def _symmetric(layer: nn.Module) -> nn.Module:
    extent = _extent(layer)
    if any(length % 2 == 0 for length in extent):
        raise ConfigError(
            f"`model.backbone` has a layer {type(layer).__name__} over {extent[0]} x {extent[1]} pixels, whose padding"
            " depends on the size of the image and cannot be made symmetric. Choose another network."
        )
    padding = (extent[0] // 2, extent[1] // 2)
    if isinstance(layer, Conv2dSame):
        convolution = nn.Conv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,  # type: ignore[arg-type]
            layer.stride,  # type: ignore[arg-type]
            padding,
            layer.dilation,  # type: ignore[arg-type]
            layer.groups,
            bias=layer.bias is not None,
        )
        convolution.weight, convolution.bias = layer.weight, layer.bias
        return convolution
    if isinstance(layer, MaxPool2dSame):
        return nn.MaxPool2d(layer.kernel_size, layer.stride, padding, layer.dilation, ceil_mode=layer.ceil_mode)
    if isinstance(layer, AvgPool2dSame):
        return nn.AvgPool2d(layer.kernel_size, layer.stride, padding, layer.ceil_mode, layer.count_include_pad)
    if isinstance(layer, (StdConv2dSame, ScaledStdConv2dSame)):
        layer.same_pad, layer.padding = False, padding
        return layer
    if isinstance(layer, CondConv2d):
        layer.dynamic_padding, layer.padding = False, padding
        return layer
    raise ConfigError(
        f"`model.backbone` has a layer {type(layer).__name__}, whose padding depends on the size of the image. Choose"
        " another network."
    )


def _extent(layer: nn.Module) -> tuple[int, int]:
    """Height and width in pixels of what one output of a convolution or pooling sees."""
    kernel, dilation = pair(layer.kernel_size), pair(getattr(layer, "dilation", 1))
    return dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1
