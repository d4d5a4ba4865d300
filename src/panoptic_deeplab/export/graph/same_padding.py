"""`use_integer_padding`: timm's padding by the size of the image, in the arithmetic that exported programs can hold."""

from torch import Tensor, nn
from torch.nn import functional as F

from panoptic_deeplab.model.layers import pair


def use_integer_padding(network: nn.Module) -> None:
    """Replace layers that pad by the size of their input through floating-point numbers, in place; equal results.

    After `model.backbones.padding.use_symmetric_padding`, such a layer has stride 1, or an extent of at most 2 pixels.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child).__name__ in ("AvgPool2dSame", "MaxPool2dSame", "Conv2dSame"):
                setattr(module, name, _Padded(child))


class _Padded(nn.Module):
    """TensorFlow's "same" padding, then the layer without padding of its own."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.kernel_size, self.stride = pair(layer.kernel_size), pair(layer.stride)
        self.dilation = pair(getattr(layer, "dilation", 1))
        self.value = float("-inf") if isinstance(layer, nn.MaxPool2d) else 0.0

    def forward(self, images: Tensor) -> Tensor:
        rows, columns = (self._amount(images.shape[axis + 2], axis) for axis in (0, 1))
        padding = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        # the layer's own `forward` is the one that pads
        plain = next(c for c in type(self.layer).__mro__ if c in (nn.AvgPool2d, nn.MaxPool2d, nn.Conv2d))
        result: Tensor = plain.forward(self.layer, F.pad(images, padding, value=self.value))  # type: ignore[arg-type]
        return result

    def _amount(self, length: int, axis: int) -> int:
        extent, stride = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1, self.stride[axis]
        if stride == 1:
            return extent - 1
        if extent == 1:
            return 0
        assert extent >= stride
        return extent - stride + (-length) % stride  # the last window begins at the last multiple of the stride
