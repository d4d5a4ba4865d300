"""Aligned Xception, timm's layers with the low-level features of the authors' DeepLab code.

Three blocks halve the resolution before the middle flow, each in its third separable convolution. The feature of a
resolution is the output of the second one, which timm reads behind the ReLU that follows and the TensorFlow DeepLab,
and with it every published Panoptic-DeepLab, in front of it (`CompatConfig.xception_taps`).
"""

from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from panoptic_deeplab.config import ModelConfig


class Xception(nn.Module):
    """timm's `xception41`, `xception65` or `xception71` without classifier.

    Names of layers are those that timm's `features_only` gives them.

    The last feature has stride `output_stride`; `before_relu`: see `CompatConfig.xception_taps`.
    """

    def __init__(self, timm_name: str, *, output_stride: int, before_relu: bool) -> None:
        import timm

        super().__init__()
        self.timm_name = timm_name
        self.before_relu = before_relu
        network: Any = timm.create_model(timm_name, output_stride=output_stride)
        self._stem = [f"stem_{index}" for index in range(len(network.stem))]
        self._blocks = [f"blocks_{index}" for index in range(len(network.blocks))]
        for name, layer in zip([*self._stem, *self._blocks], [*network.stem, *network.blocks], strict=True):
            self.add_module(name, layer)
        self.strides = tuple(int(info["reduction"]) for info in network.feature_info)
        channels = [int(info["num_chs"]) for info in network.feature_info]
        # "blocks.2.stack.act3": the feature is inside the third block; the last one is the output of the last block.
        self._tapped = [f"blocks_{info['module'].split('.')[1]}" for info in network.feature_info[:-1]]
        for name in self._tapped:
            block = getattr(self, name)
            block.stack.act3.inplace = False  # or it would change the feature in front of it
            if block.shortcut is None:  # in Xception-71 at output stride 8: timm drops it with the stride
                block.shortcut = _shortcut(block)
        if before_relu:
            channels[-2] = getattr(self, self._tapped[-1]).in_channels
        self.channels = tuple(channels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features at `strides`."""
        output = images
        for name in self._stem:
            output = getattr(self, name)(output)
        features = []
        for name in self._blocks:
            block = getattr(self, name)
            if name not in self._tapped:
                output = block(output)
                continue
            middle_flow, (output, tap) = output, _block_with_tap(block, output)
            if not self.before_relu:
                tap = F.relu(tap)
            elif name == self._tapped[-1]:
                tap = middle_flow
            features.append(tap)
        return [*features, output]

    def from_timm(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of `timm_name`, without the classifier."""
        return {
            name.replace(".", "_", 1): value for name, value in state.items() if name.startswith(("stem.", "blocks."))
        }


def xception(config: ModelConfig) -> Xception:
    """The network that `config.backbone` names."""
    before_relu = config.compat.xception_taps == "before_relu"
    return Xception(config.backbone, output_stride=config.output_stride, before_relu=before_relu)


def _shortcut(block: Any) -> nn.Module:
    """The 1x1 convolution beside a block, without stride."""
    from timm.layers import ConvNormAct  # type: ignore[attr-defined]

    like = block.stack.conv1.bn_dw
    norm = partial(nn.BatchNorm2d, eps=like.eps, momentum=like.momentum)
    shortcut: nn.Module = ConvNormAct(block.in_channels, block.out_channels, 1, norm_layer=norm, apply_act=False)
    return shortcut


def _block_with_tap(block: Any, features: Tensor) -> tuple[Tensor, Tensor]:
    """Output of a strided block, and what its second separable convolution gives."""
    residual = tap = features
    for name, layer in block.stack.named_children():
        if name == "act3":
            tap = residual
        residual = layer(residual)
    return residual + block.shortcut(features), tap
