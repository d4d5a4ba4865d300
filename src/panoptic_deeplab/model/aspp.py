"""The context module: atrous spatial pyramid pooling (section 3.1, Figure 2).

Five views of the same features: a 1x1 convolution, three 3x3 convolutions at growing atrous rates, and an image-wide
average. Panoptic-DeepLab has two of these modules, since semantic and instance segmentation "require different
contextual information".
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.maps import Size, size_of, upsample
from panoptic_deeplab.model.layers import ConvNormRelu, SeparableConv


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling.

    Args:
        in_channels: channels of the deepest backbone features.
        channels: channels of each branch and of the output.
        rates: atrous rates of the three 3x3 branches.
        atrous_conv: `separable` (the count of Table 1) or `dense` 3x3 convolutions.
        mid_norm: see `SeparableConv`.
        dropout: after the projection.
        pool_size: window of the image pool in feature pixels, stride 1 (DeepLab evaluates whole images with the window
            of the training crop); None = the whole map.
        pool_norm: BN in the image pool.
        pool_bias: bias of the image pool's convolution.
        align_corners: convention of the resize of the pooled map.
        norm_eps: epsilon of each BN.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        rates: tuple[int, int, int],
        atrous_conv: Literal["separable", "dense"],
        mid_norm: bool,
        dropout: float,
        pool_size: Size | None,
        pool_norm: bool,
        pool_bias: bool,
        align_corners: bool,
        norm_eps: float,
    ) -> None:
        super().__init__()
        self.pool_size = pool_size
        self.align_corners = align_corners
        branches: list[nn.Module] = [ConvNormRelu(in_channels, channels, 1, norm_eps=norm_eps)]
        for rate in rates:
            if atrous_conv == "separable":
                branches.append(
                    SeparableConv(in_channels, channels, 3, dilation=rate, mid_norm=mid_norm, norm_eps=norm_eps)
                )
            else:
                branches.append(ConvNormRelu(in_channels, channels, 3, dilation=rate, norm_eps=norm_eps))
        self.branches = nn.ModuleList(branches)
        self.image_pool = ConvNormRelu(in_channels, channels, 1, norm=pool_norm, bias=pool_bias, norm_eps=norm_eps)
        self.project = ConvNormRelu((len(branches) + 1) * channels, channels, 1, norm_eps=norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B A h w"]:
        """Features with context, at the same size.

        Raises:
            ConfigError: training a normalized global pool with one image: its BN has one value a channel.
        """
        views = [branch(features) for branch in self.branches]
        views.append(self._pool(features))
        output: Tensor = self.dropout(self.project(torch.cat(views, dim=1)))
        return output

    def pool_window(self, size: Size) -> Size:
        """Height and width, in pixels, of what the image pool averages over features of `size`."""
        if self.pool_size is None:
            return size
        return min(self.pool_size[0], size[0]), min(self.pool_size[1], size[1])

    def _pool(self, features: Tensor) -> Tensor:
        size = size_of(features)
        window = self.pool_window(size)
        whole = window == size
        pooled = features.mean(dim=(2, 3), keepdim=True) if whole else F.avg_pool2d(features, window, stride=1)
        if self.training and pooled.shape[0] * pooled.shape[2] * pooled.shape[3] == 1:
            norm = next((m for m in self.image_pool if isinstance(m, nn.BatchNorm2d)), None)
            if norm is not None and norm.training:
                raise ConfigError(
                    "Training the ASPP image pool's batch normalization needs at least 2 images a forward pass."
                    " Got 1 instead; raise train.batch_size or train.images_at_once, or set"
                    " model.image_pool_norm to false."
                )
        return upsample(self.image_pool(pooled), size, align_corners=self.align_corners)
