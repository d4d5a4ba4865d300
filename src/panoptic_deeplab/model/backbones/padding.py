"""timm's networks with features as many, and where, as the rest expects them.

`use_symmetric_padding` is for networks with TensorFlow's "same" padding, `pad_patches` for those that cut the image
into patches.

ConvNeXt and its kin have convolutions whose kernel is as large as their stride, without padding: 4x4 on the image, 2x2
between stages. They drop what does not fill a patch, so an image of 513 pixels has 128 features where everything else
here counts on 129; and with aligned corners, feature i is taken for pixel 4.03 i while it shows pixel 4 i + 1.5: 1.5
pixels off at one border of the image and 2.5 the other way at the other; at stride 32, 15.5 and 16.5.

What it costs: of an image smoothed over 4 pixels, a linear function of 3x3 features of convnext_atto at stride 4 (with
random weights, 513 x 513 pixels) misses 36 % of the deviation; with the patches in place it misses 24 %, as it does
without aligned corners.

Padding the last patch gives the missing feature, and makes the error the same all over the image. What is left with
aligned corners is that feature i shows pixel stride * i + (stride - 1) / 2, half a feature too far. No patch of even
size has its middle at a pixel, but one that begins half a patch earlier is half a pixel of its input too early instead
of half a patch too late. If only every second one begins earlier, the errors keep each other small: -0.5, 1.5, -2.5 and
5.5 pixels at strides 4, 8, 16 and 32. Without aligned corners, patches begin with the image and are where they should
be, but for the deepest feature of atrous convolution: a 2x2 convolution without stride moves it by half a feature.
"""

from timm.layers.cond_conv2d import CondConv2d
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from timm.layers.std_conv import ScaledStdConv2dSame, StdConv2dSame
from torch import Tensor, nn
from torch.nn import functional as F

from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.maps import Size
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


def pad_patches(network: nn.Module, *, align_corners: bool) -> None:
    """Make every patch round sizes up, in place; weights and their names stay.

    Pooling over patches does so too, but keeps its place: beside it there may be another path, to which it belongs.

    `network` is timm's, whose patches follow one upon the other in the order of `modules()`.
    """
    turn = 0
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d) and _is_patch(child):
                top, left = ((length - turn % 2) // 2 if align_corners else 0 for length in child.kernel_size)
                setattr(module, name, _PatchConv(child, before=(top, left)))
                turn += 1
            elif isinstance(child, (nn.MaxPool2d, nn.AvgPool2d)) and _is_patch(child):
                child.ceil_mode = True
                child.count_include_pad = False  # the mean of what a window has within the image


class _PatchConv(nn.Conv2d):
    """The convolution `layer` with one pixel of padding less than its kernel has, `before` (y, x) of them in front."""

    def __init__(self, layer: nn.Conv2d, *, before: Size) -> None:
        height, width = layer.kernel_size
        super().__init__(
            layer.in_channels,
            layer.out_channels,
            (height, width),
            stride=layer.stride,  # type: ignore[arg-type]
            groups=layer.groups,
            bias=layer.bias is not None,
        )
        self.weight, self.bias = layer.weight, layer.bias
        top, left = before
        self._margins = (left, width - 1 - left, top, height - 1 - top)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in the base class
        output: Tensor = super().forward(F.pad(input, self._margins))
        return output


def _is_patch(layer: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) -> bool:
    kernel, stride, dilation = layer.kernel_size, layer.stride, getattr(layer, "dilation", (1, 1))
    if not isinstance(layer, nn.Conv2d):  # poolings may have one number for both axes
        kernel, stride, dilation = pair(kernel), pair(stride), pair(dilation)
    if kernel == (1, 1) or dilation != (1, 1):
        return False
    if isinstance(layer, Conv2dSame):  # between stages, once atrous convolution has taken its stride away
        return kernel == (2, 2) and stride == (1, 1)
    return kernel == stride and layer.padding in (0, (0, 0))
