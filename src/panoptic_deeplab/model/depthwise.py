"""Depthwise convolution on the CPU, where PyTorch's own takes slow ways: `use_fast_depthwise`.

oneDNN, which PyTorch calls, has fast kernels for depthwise convolution of channels-last tensors, but not for these,
which it leaves to code many times slower (`benchmarks/depthwise.py` measures them):

    gradient of the weights, kernel wider than 3   ->   three columns of the kernel at a time
    gradients in bfloat16                          ->   in float32
    atrous convolution in bfloat16                 ->   in float32
    gradients of atrous convolution                ->   sums over the taps of the kernel, one after the other

The first are the decoder's 5x5 convolutions and many of EfficientNet and MobileNetV3, the last are ASPP's.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

_WIDEST = 3
"""Columns of a kernel for which the gradient of the weights is fast."""


def use_fast_depthwise(model: nn.Module) -> None:
    """Let the depthwise convolutions of a model take the fast ways on the CPU, in place; elsewhere nothing changes.

    Weights, names and, up to rounding, results stay the same.
    """
    for module in model.modules():
        if type(module) is nn.Conv2d and _is_depthwise(module):
            module.__class__ = FastDepthwiseConv2d


class FastDepthwiseConv2d(nn.Conv2d):
    """A depthwise `nn.Conv2d` (as many groups as channels, zero padding), fast on the CPU, too, but for float64."""

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:  # noqa: A002 - PyTorch's name
        """Convolve."""
        weight = self.weight
        if input.device.type != "cpu" or weight.dtype == torch.float64 or torch.compiler.is_compiling():
            return super().forward(input)
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            input, weight = input.to(dtype), weight.to(dtype)  # noqa: A001
        assert not isinstance(self.padding, str)
        output: Tensor = _DepthwiseConvolution.apply(input, weight, _Geometry(self.stride, self.padding, self.dilation))
        return output if self.bias is None else output + self.bias.to(output.dtype)[:, None, None]


class _Geometry(NamedTuple):
    """How a convolution steps, pads and spreads, as (vertical, horizontal)."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def is_atrous(self) -> bool:
        return self.dilation != (1, 1)


class _DepthwiseConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.geometry = geometry
        dtype = features.dtype
        if geometry.is_atrous:
            features, weight = features.float(), weight.float()
        with torch.autocast("cpu", enabled=False):
            return F.conv2d(features, weight, None, *geometry, groups=len(weight)).to(dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        dtype, geometry = features.dtype, ctx.geometry
        features, weight = features.float(), weight.float()
        gradient = gradient.float().contiguous(memory_format=torch.channels_last)
        of_features = of_weight = None
        if geometry.is_atrous:
            of_features = torch.zeros_like(features) if ctx.needs_input_grad[0] else None
            of_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
            _add_gradients_of_taps(features, weight, gradient, geometry, of_features=of_features, of_weight=of_weight)
        else:
            if ctx.needs_input_grad[0]:
                of_features = _gradient(features, weight, gradient, geometry, of_weight=False)
            if ctx.needs_input_grad[1]:
                of_weight = _weight_gradient(features, weight, gradient, geometry)
        return (
            of_features if of_features is None else of_features.to(dtype),
            of_weight if of_weight is None else of_weight.to(dtype),
            None,
        )


def _weight_gradient(
    features: Float[Tensor, "B C H W"], weight: Float[Tensor, "C 1 k l"], gradient: Tensor, geometry: _Geometry
) -> Float[Tensor, "C 1 k l"]:
    kernel_width, output_width = weight.shape[3], gradient.shape[3]
    if kernel_width <= _WIDEST:
        return _gradient(features, weight, gradient, geometry, of_weight=True)
    (_, stride), (padding_y, padding), _ = geometry
    padded, parts = F.pad(features, (padding, padding)), []
    for first in range(0, kernel_width, _WIDEST):
        columns = weight[..., first : first + _WIDEST]
        # What these columns see, as features of their own without padding at the sides.
        seen = padded[..., first : first + (output_width - 1) * stride + columns.shape[3]]
        seen = seen.contiguous(memory_format=torch.channels_last)
        parts.append(_gradient(seen, columns, gradient, geometry._replace(padding=(padding_y, 0)), of_weight=True))
    return torch.cat(parts, dim=3)


def _gradient(features: Tensor, weight: Tensor, gradient: Tensor, geometry: _Geometry, *, of_weight: bool) -> Tensor:
    """PyTorch's own."""
    gradients = torch.ops.aten.convolution_backward(
        gradient, features, weight, None, *geometry, False, [0, 0], len(weight), [not of_weight, of_weight, False]
    )
    result: Tensor = gradients[1 if of_weight else 0]
    return result


# --- atrous -----------------------------------------------------------------------------------------------------------
def _add_gradients_of_taps(
    features: Float[Tensor, "B C H W"],
    weight: Float[Tensor, "C 1 k l"],
    gradient: Float[Tensor, "B C h w"],
    geometry: _Geometry,
    *,
    of_features: Float[Tensor, "B C H W"] | None,
    of_weight: Float[Tensor, "C 1 k l"] | None,
) -> None:
    """Add the gradients that are wanted to zeros."""
    kernel = weight[:, 0, :, :, None, None]
    for (row, column), (source, target) in _taps(weight, features, gradient, geometry):
        if of_features is not None:
            of_features[source].addcmul_(gradient[target], kernel[:, row, column])
        if of_weight is not None:
            of_weight[:, 0, row, column] = (features[source] * gradient[target]).sum(dim=(0, 2, 3))


def _taps(
    weight: Tensor, features: Tensor, output: Tensor, geometry: _Geometry
) -> Iterator[tuple[tuple[int, int], tuple[tuple[Any, ...], tuple[Any, ...]]]]:
    """Each tap (row, column) of the kernel, with the features that it sees and the outputs to which it adds them.

    Taps that see nothing but padding, as at rate 18 on a small map, are left out.
    """
    rows, columns = (
        [
            (tap, found)
            for tap in range(weight.shape[2 + axis])
            if (found := _range_of_tap(tap, features.shape[2 + axis], output.shape[2 + axis], geometry, axis))
        ]
        for axis in (0, 1)
    )
    for row, (source_rows, target_rows) in rows:
        for column, (source_columns, target_columns) in columns:
            yield (row, column), ((..., source_rows, source_columns), (..., target_rows, target_columns))


def _range_of_tap(
    tap: int, length: int, output_length: int, geometry: _Geometry, axis: int
) -> tuple[slice, slice] | None:
    """Along one axis: features `first * stride + start`, ..., for outputs `first`, ..., `last`."""
    stride, start = geometry.stride[axis], tap * geometry.dilation[axis] - geometry.padding[axis]
    first = max(0, -(start // stride))  # the first output whose feature is no padding
    last = min(output_length - 1, (length - 1 - start) // stride)
    if first > last:
        return None
    return slice(first * stride + start, last * stride + start + 1, stride), slice(first, last + 1)


def _is_depthwise(module: nn.Conv2d) -> bool:
    return (
        module.groups == module.in_channels == module.out_channels > 1
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )
