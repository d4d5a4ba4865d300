"""The representation head of HRNetV2, which Table 5's plain "HRNet-W48" has instead of context modules and decoders.

All features are brought to the shallowest one's size and concatenated (720 channels with HRNet-W48); a 1x1 convolution
mixes them, and a 1x1 convolution a task predicts ([70], arXiv 1908.07919, section 3). The paper does not say what its
three predictions share; one mixing layer for all meets its counts (see `backbones/hrnet.py`).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from panoptic_deeplab.maps import size_of, upsample
from panoptic_deeplab.model.backbones.build import Features
from panoptic_deeplab.model.layers import ConvNormRelu


class HRNetMixing(nn.Module):
    """Resize, concatenate, 1x1 convolution -> BN -> ReLU. `channels`, those of all features together, stay."""

    def __init__(self, channels: int, *, align_corners: bool, norm_eps: float) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.mix = ConvNormRelu(channels, channels, 1, norm_eps=norm_eps)

    def forward(self, features: Features) -> Float[Tensor, "B C h4 w4"]:
        """Features of all strides -> features at the shallowest one's size."""
        shallow_to_deep = [*reversed(features.low_level), features.deepest]
        size = size_of(shallow_to_deep[0])
        resized = [
            feature if size_of(feature) == size else upsample(feature, size, align_corners=self.align_corners)
            for feature in shallow_to_deep
        ]
        output: Tensor = self.mix(torch.cat(resized, dim=1))
        return output


class PointwiseHead(nn.Module):
    """One task's prediction: 1x1 with bias, without activation, from mixed features; channels as for `Head`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.predict = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, decoded: Float[Tensor, "B C h w"]) -> Float[Tensor, "B out h w"]:
        """Mixed features -> raw map."""
        output: Tensor = self.predict(decoded)
        return output
