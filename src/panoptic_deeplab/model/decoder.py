"""The light decoder: back to stride 4 in steps, "a single convolution during each upsampling stage" (Figure 2).

It follows DeepLabV3+ with two changes (section 3.1): an additional low-level feature at stride 8, so that the
resolution is recovered by factors of two, and one 5x5 depthwise-separable convolution in each stage.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from panoptic_deeplab.maps import upsample
from panoptic_deeplab.model.layers import ConvNormRelu, ConvolutionKind, refinement_conv


class Decoder(nn.Module):
    """One stage for each low-level feature: upsample, concatenate with the projected feature, convolve.

    Args:
        in_channels: channels of the ASPP.
        low_level_channels: channels of each low-level feature, deep to shallow.
        projections: channels to which each is projected by 1x1 (a rich low-level feature would outweigh the context).
        channels: channels of each stage's output.
        conv: `separable` = one 5x5 a stage, `dense` = two 3x3.
        mid_norm: see `SeparableConv`.
        concat_order: `upsampled_first` or `projection_first`, which only matters to published weights.
        align_corners: convention of the resizes.
        norm_eps: epsilon of each BN.
    """

    def __init__(
        self,
        in_channels: int,
        low_level_channels: tuple[int, ...],
        *,
        projections: tuple[int, ...],
        channels: int,
        conv: ConvolutionKind,
        mid_norm: bool,
        concat_order: Literal["upsampled_first", "projection_first"],
        align_corners: bool,
        norm_eps: float,
    ) -> None:
        super().__init__()
        self.projection_first = concat_order == "projection_first"
        self.align_corners = align_corners
        self.projections = nn.ModuleList(
            ConvNormRelu(low, projected, 1, norm_eps=norm_eps)
            for low, projected in zip(low_level_channels, projections, strict=True)
        )
        self.stages = nn.ModuleList()
        for projected in projections:
            self.stages.append(
                refinement_conv(
                    in_channels + projected,
                    channels,
                    mid_channels=channels,
                    kind=conv,
                    mid_norm=mid_norm,
                    norm_eps=norm_eps,
                )
            )
            in_channels = channels

    def forward(
        self, context: Float[Tensor, "B A h w"], low_level: tuple[Float[Tensor, "B _ _ _"], ...]
    ) -> Float[Tensor, "B C h4 w4"]:
        """Context at output stride and low-level features, deep to shallow -> features at the shallowest one's size."""
        decoded = context
        for project, stage, feature in zip(self.projections, self.stages, low_level, strict=True):
            height, width = feature.shape[-2:]  # not a scale factor: sizes may be odd
            decoded = upsample(decoded, (height, width), align_corners=self.align_corners)
            on_cpu = decoded.device.type == "cpu" and not torch.compiler.is_compiling()
            if decoded.requires_grad and on_cpu and decoded.is_contiguous(memory_format=torch.channels_last):
                decoded.register_hook(_as_channels_last)  # type: ignore[no-untyped-call]
            skip = project(feature)
            decoded = stage(torch.cat([skip, decoded] if self.projection_first else [decoded, skip], dim=1))
        return decoded


def _as_channels_last(gradient: Tensor) -> Tensor:
    """The gradient of a concatenation is a slice, for which PyTorch's resizing has ten times slower code on the CPU."""
    return gradient.contiguous(memory_format=torch.channels_last)
