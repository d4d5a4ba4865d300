"""`PanopticDeepLab`: images -> `RawMaps` (section 3.1, Figure 2).

    images ─▶ backbone ─┬─▶ ASPP ─▶ decoder ─▶ semantic head ──────────────▶ semantic_logits
                        └─▶ ASPP ─▶ decoder ─┬─▶ center head ──────────────▶ center_heatmap
                                             └─▶ offset head ──────────────▶ offset

The backbone is shared; everything else is decoupled, one ASPP and one decoder for each branch. The switches of the
ablation (Table 1) are fields of `ModelConfig`. With `decoder` `hrnet`, the module of `hrnet_head.py` stands in the
place of ASPPs and decoders, for all three heads.
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from panoptic_deeplab.config import ModelConfig
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.maps import RawMaps, Size
from panoptic_deeplab.model.aspp import ASPP
from panoptic_deeplab.model.backbones.build import Features, build_backbone, set_norm
from panoptic_deeplab.model.decoder import Decoder
from panoptic_deeplab.model.heads import Head
from panoptic_deeplab.model.hrnet_head import HRNetMixing, PointwiseHead
from panoptic_deeplab.model.layers import ConvolutionKind, initialize_convolutions

ATROUS_RATES: dict[int, tuple[int, int, int]] = {32: (3, 6, 9), 16: (6, 12, 18), 8: (12, 24, 36)}
"""ASPP rates by output stride, as the DeepLab family uses them: the same field of view in input pixels."""


class PanopticDeepLab(nn.Module):
    """The network, with random weights.

    Args:
        config: every architectural choice.
        num_classes: length of the semantic logits (things and stuff).
        backbone: a network of your own in place of the one that `config.backbone` names; see `build_backbone`.

    Raises:
        ConfigError: the backbone does not exist, or lacks a feature that the decoder needs.

    Example:
        >>> import torch
        >>> model = PanopticDeepLab(ModelConfig(backbone="resnet18", output_stride=32), num_classes=19).eval()
        >>> maps = model(torch.zeros(1, 3, 65, 129))
        >>> maps.semantic_logits.shape, maps.center_heatmap.shape, maps.offset.shape
        (torch.Size([1, 19, 17, 33]), torch.Size([1, 1, 17, 33]), torch.Size([1, 2, 17, 33]))
    """

    def __init__(self, config: ModelConfig, num_classes: int, *, backbone: nn.Module | None = None) -> None:
        super().__init__()
        if num_classes < 1:
            raise ConfigError(f"The number of classes must be positive. Got {num_classes} instead.")
        self.config = config
        self.num_classes = num_classes
        self.backbone = build_backbone(config, backbone)
        # None = the instance branch shares the module of the semantic branch.
        self.instance_aspp: ASPP | None = None
        self.instance_decoder: Decoder | None = None
        self.semantic_head: Head | PointwiseHead
        self.center_head: Head | PointwiseHead | None = None
        self.offset_head: Head | PointwiseHead | None = None
        self.hrnet_mixing: HRNetMixing | None = None
        if config.decoder == "hrnet":
            self._add_hrnet_head()
        else:
            self._add_branches()
        _initialize(self)
        set_norm(self, eps=None, momentum=config.norm_momentum)
        set_norm(self.backbone, eps=config.compat.backbone_norm_eps, momentum=config.norm_momentum)

    @classmethod
    def from_pretrained(cls, model: str | Path) -> "PanopticDeepLab":
        """Open a trained network; an alias of `weights.open.open_pretrained(model).network`, which see."""
        from panoptic_deeplab.weights.open import open_pretrained  # the one import out of this room

        return open_pretrained(model).network

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> RawMaps:
        """Predict the raw maps at stride 4 of images of any size, normalized by the mean and deviation of the recipe.

        Best results with odd sizes k * output_stride + 1 and `align_corners`: then the corner samples of all levels
        coincide. The maps have ceil(H / 4) x ceil(W / 4) pixels.
        """
        features: Features = self.backbone(images)
        if self.hrnet_mixing is not None:
            semantic = instance = self.hrnet_mixing(features)
        else:
            semantic, instance = self._decode(features)
        semantic_logits = self.semantic_head(semantic)
        if self.center_head is None or self.offset_head is None:
            return RawMaps(semantic_logits=semantic_logits, center_heatmap=None, offset=None)
        center_heatmap = self.center_head(instance)
        if self.config.heatmap_activation == "sigmoid":
            # In bfloat16, probabilities above 0.998 are 1, from where no gradient leads back.
            center_heatmap = center_heatmap.float().sigmoid()
        return RawMaps(
            semantic_logits=semantic_logits, center_heatmap=center_heatmap, offset=self.offset_head(instance)
        )

    def _decode(self, features: Features) -> tuple[Tensor, Tensor]:
        """Features at stride 4 for the semantic and for the instance heads."""
        context = self.semantic_aspp(features.deepest)
        semantic = self.semantic_decoder(context, features.low_level)
        if self.instance_decoder is None:
            return semantic, semantic
        if self.instance_aspp is not None:
            context = self.instance_aspp(features.deepest)
        return semantic, self.instance_decoder(context, features.low_level)

    def _add_branches(self) -> None:
        """ASPPs, decoders and heads of the paper."""
        config = self.config
        deepest, low_level = self.backbone.deepest_channels, self.backbone.low_level_channels
        self.semantic_aspp = _aspp(config, deepest, config.aspp_channels)
        self.semantic_decoder = _decoder(
            config, config.aspp_channels, low_level, projections=config.projections, channels=config.decoder_channels
        )
        self.semantic_head = _head(
            config, config.decoder_channels, config.head_channels, self.num_classes, conv=config.decoder_conv
        )
        if not config.instance_branch:
            return
        context_channels, decoded_channels = config.aspp_channels, config.decoder_channels
        if config.dual_aspp:
            context_channels = config.instance_aspp_channels
            self.instance_aspp = _aspp(config, deepest, context_channels)
        if config.dual_decoder:
            decoded_channels = config.instance_decoder_channels
            self.instance_decoder = _decoder(
                config, context_channels, low_level, projections=config.instance_projections, channels=decoded_channels
            )
        self.center_head = _head(
            config, decoded_channels, config.instance_head_channels, 1, conv=config.compat.center_head_conv
        )
        self.offset_head = _head(config, decoded_channels, config.instance_head_channels, 2, conv=config.decoder_conv)

    def _add_hrnet_head(self) -> None:
        """HRNet's own head, shared by all tasks up to the last layer."""
        config = self.config
        channels = sum((*self.backbone.low_level_channels, self.backbone.deepest_channels))
        self.hrnet_mixing = HRNetMixing(channels, align_corners=config.align_corners, norm_eps=config.compat.norm_eps)
        self.semantic_head = PointwiseHead(channels, self.num_classes)
        if config.instance_branch:
            self.center_head, self.offset_head = PointwiseHead(channels, 1), PointwiseHead(channels, 2)


def with_output_stride(config: ModelConfig, output_stride: Literal[8, 16, 32]) -> ModelConfig:
    """The network that runs the same weights at another output stride.

    From 16 to 8, the last but one block loses its stride, and the last two blocks have atrous convolution of rates 2
    and 4 instead of 1 and 2 (section 4.2, "the trick proposed in [11]"). The rates of the ASPP double with the
    resolution, as in the DeepLab family. Every second feature of the backbone is then that of stride 16, for networks
    that stride by convolution alone.

    A `ConfigError` says that the atrous rates cannot be scaled to integers.
    """
    rates = config.atrous_rates
    if rates is not None:
        scaled = [rate * config.output_stride for rate in rates]
        if any(rate % output_stride for rate in scaled):
            raise ConfigError(
                f"`model.atrous_rates` {rates} of output stride {config.output_stride} are no integers at output"
                f" stride {output_stride}. Choose a smaller output stride."
            )
        first, second, third = (rate // output_stride for rate in scaled)
        rates = (first, second, third)
    return replace(config, output_stride=output_stride, atrous_rates=rates)


def _aspp(config: ModelConfig, in_channels: int, channels: int) -> ASPP:
    return ASPP(
        in_channels,
        channels,
        rates=config.atrous_rates or ATROUS_RATES[config.output_stride],
        atrous_conv=config.atrous_conv,
        mid_norm=config.compat.separable_mid_norm,
        dropout=config.aspp_dropout,
        pool_size=_pool_size(config),
        pool_norm=config.image_pool_norm,
        pool_bias=config.compat.image_pool_bias,
        align_corners=config.align_corners,
        norm_eps=config.compat.norm_eps,
    )


def _pool_size(config: ModelConfig) -> Size | None:
    """The image pool's window in feature pixels: a crop of k * stride + 1 has k + 1 of them, k * stride has k."""
    if config.image_pool_size is None:
        return None
    height, width = config.image_pool_size
    return -(-height // config.output_stride), -(-width // config.output_stride)


def _decoder(
    config: ModelConfig,
    in_channels: int,
    low_level_channels: tuple[int, ...],
    *,
    projections: tuple[int, ...],
    channels: int,
) -> Decoder:
    return Decoder(
        in_channels,
        low_level_channels,
        projections=projections,
        channels=channels,
        conv=config.decoder_conv,
        mid_norm=config.compat.separable_mid_norm,
        concat_order=config.compat.concat_order,
        align_corners=config.align_corners,
        norm_eps=config.compat.norm_eps,
    )


def _head(config: ModelConfig, in_channels: int, channels: int, out_channels: int, *, conv: ConvolutionKind) -> Head:
    return Head(
        in_channels,
        channels,
        out_channels,
        conv=conv,
        mid_norm=config.compat.separable_mid_norm,
        norm_eps=config.compat.norm_eps,
    )


def _initialize(model: PanopticDeepLab) -> None:
    """He-normal convolutions outside the backbone; N(0, 0.001) for the last layers, so that training starts at zero."""
    parts = nn.ModuleList(child for child in model.children() if child is not model.backbone)
    initialize_convolutions(parts, mode="fan_in")
    for head in (model.semantic_head, model.center_head, model.offset_head):
        if head is not None:
            nn.init.normal_(head.predict.weight, std=0.001)
