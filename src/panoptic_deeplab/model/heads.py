"""Prediction heads: one convolution and a 1x1 classifier or regressor (section 3.1)."""

from jaxtyping import Float
from torch import Tensor, nn

from panoptic_deeplab.model.layers import ConvolutionKind, refinement_conv


class Head(nn.Module):
    """One task's head: convolution as in the decoder, then 1x1 with bias to `out_channels`, without activation.

    `out_channels` are the classes; 1 for the center heatmap; 2 for the offset `(dy, dx)`.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        out_channels: int,
        *,
        conv: ConvolutionKind,
        mid_norm: bool,
        norm_eps: float,
    ) -> None:
        super().__init__()
        self.conv = refinement_conv(
            in_channels, channels, mid_channels=in_channels, kind=conv, mid_norm=mid_norm, norm_eps=norm_eps
        )
        self.predict = nn.Conv2d(channels, out_channels, 1)

    def forward(self, decoded: Float[Tensor, "B C h w"]) -> Float[Tensor, "B out h w"]:
        """Decoder features -> raw map."""
        output: Tensor = self.predict(self.conv(decoded))
        return output
