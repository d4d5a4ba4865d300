"""The network: every choice in which the paper and the public implementations differ is a field."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from panoptic_deeplab.config.checks import check_fields, expand_home


@dataclass(frozen=True, kw_only=True)
class CompatConfig:
    """Choices in which public implementations differ from the paper, kept apart: a network of one's own needs none of
    them, published weights need theirs. They are set in YAML files, not on the command line."""

    multi_grid: tuple[int, int, int] | None = None
    """Atrous rates of the three units in a ResNet's last block are these times 32 / output_stride (detectron2: 1, 2,
    4); None = the first unit keeps the rate of the block before, the others have 32 / output_stride."""
    xception_taps: Literal["before_relu", "after_relu"] = "before_relu"
    """Low-level features of an Xception: the second separable convolution of a strided block, before or after the ReLU
    that follows. `before_relu` is that of the authors' DeepLab code and of published weights, which take the end of the
    middle flow at stride 16; `after_relu` is that of timm."""
    separable_mid_norm: bool = False
    """BN and ReLU between the depthwise and pointwise convolution; the count of Table 1 says no."""
    image_pool_bias: bool = False
    """A bias in the convolution behind the image pool (detectron2, where it has no BN)."""
    concat_order: Literal["upsampled_first", "projection_first"] = "upsampled_first"
    """Order of the channels that enter a stage of the decoder."""
    center_head_conv: Literal["separable", "dense"] = "separable"
    """Convolutions of the center head, as in `model.decoder_conv` (detectron2: dense in every model)."""
    norm_eps: float = 1e-5
    """Epsilon of the batch normalization outside the backbone."""
    backbone_norm_eps: float | None = None
    """The same in the backbone; None = as the backbone defines it."""

    def __post_init__(self) -> None:
        grid = (self.multi_grid is None or min(self.multi_grid) > 0, "positive numbers")
        check_fields(self, "model.compat", positive="norm_eps backbone_norm_eps", multi_grid=grid)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network. Defaults reproduce Table 1's final row (46.72 M parameters with Xception-71, 19 classes)."""

    backbone: str = "xception71"
    """A network of timm with features at strides 4, 8, 16 and 32 of images of any size (most convolutional ones have
    them), or one of our own: `OWN_NETWORKS` in `model/backbones/build.py`."""
    backbone_weights: str | None = None
    """None = random; `imagenet` = timm's (downloads); `package:efficientnet_lite0` (1, 2) = from an installed pip
    package; else a path to a `.safetensors` or `.pth` state dict."""
    weights: str | None = None
    """Train from the weights of this model instead of random ones: what `from_pretrained` takes, such as the folder of
    a run (runs/street/best) or a name of the zoo (detectron2/R52_os16_dsconv). `backbone_weights` is not read then."""
    reset_heads: bool = False
    """Start with a random last layer of the semantic head, for other classes than those of `weights`. Everything else,
    the instance heads too, knows no classes and keeps its weights."""
    output_stride: Literal[8, 16, 32] = 16
    """Input size over size of the deepest features; smaller = atrous convolution in the last blocks."""
    hrnet_exchange: Literal["bilinear", "bilinear_aligned", "nearest", "inferred"] = "bilinear"
    """How HRNet's deep branches give to shallower ones: 1x1 convolution, then a bilinear resize by `align_corners`, or
    always with aligned corners (bowenc0221, also in its detectron2 models), or nearest (where timm's weights were
    trained). `inferred` = the layout of all of HRNet that the paper's counts imply (`hrnet.py`); it has no weights."""
    atrous_rates: tuple[int, int, int] | None = None
    """Rates of the ASPP; None = (6, 12, 18) at output stride 16, halved at 32, doubled at 8."""
    atrous_conv: Literal["separable", "dense"] = "separable"
    """3x3 atrous convolutions: depthwise separable (the count of Table 1) or dense."""
    aspp_channels: int = 256
    instance_aspp_channels: int = 256
    aspp_dropout: float = 0.1
    image_pool_size: tuple[int, int] | None = None
    """Window of the ASPP image pool in input pixels, stride 1 (the training crop, when evaluating on whole images);
    None = the whole feature map."""
    image_pool_norm: bool = True
    dual_aspp: bool = True
    """Table 1, "ASPP x2"; False = one ASPP for both branches."""
    dual_decoder: bool = True
    """Table 1, "De. x2"; False = one decoder for all heads."""
    instance_branch: bool = True
    """False = "Sem. Only" of Table 1."""
    decoder: Literal["panoptic_deeplab", "hrnet"] = "panoptic_deeplab"
    """`hrnet` = HRNetV2's own head instead of ASPPs, decoders and heads (Table 5, "HRNet-W48"), shared by all tasks. It
    reads the deepest feature and those of `decoder_strides`; of the fields below and of the ASPP's it heeds
    `align_corners` and `compat.norm_eps`."""
    decoder_strides: tuple[int, ...] = (8, 4)
    """Strides of the low-level features that the decoder adds, deep to shallow."""
    projections: tuple[int, ...] = (64, 32)
    """Channels of the 1x1 projection of each low-level feature, semantic decoder."""
    instance_projections: tuple[int, ...] = (32, 16)
    decoder_channels: int = 256
    """Table 1, "C_Sem"."""
    instance_decoder_channels: int = 128
    """Table 1, "C_Ins"."""
    decoder_conv: Literal["separable", "dense"] = "separable"
    """One 5x5 separable convolution a stage (section 3.1), or two dense 3x3. Also of the semantic and offset heads."""
    head_channels: int = 256
    """Channels of the semantic head."""
    instance_head_channels: int = 32
    """Channels of the center and offset heads."""
    heatmap_activation: Literal["none", "sigmoid"] = "none"
    """What ends the center head: nothing (a plain regression), or a sigmoid, which makes it a probability (first rows
    of Table 1, with `loss.heatmap_loss`)."""
    align_corners: bool = True
    """Convention of every bilinear resize: corner pixel centers coincide (True; with odd sizes), or image borders."""
    norm_momentum: float = 0.1
    """Momentum of every batch normalization, PyTorch's convention."""
    compat: CompatConfig = field(default_factory=CompatConfig)
    """What only weights of other implementations need."""

    def __post_init__(self) -> None:
        expand_home(self, "backbone_weights", "weights")
        strides = self.decoder_strides
        falls = all(deep > shallow for deep, shallow in pairwise(strides)) and set(strides) <= {4, 8, 16}
        one_each = f"one positive number for each of decoder_strides {strides}"

        def fits(channels: tuple[int, ...]) -> bool:
            return min(channels, default=0) > 0 and (len(channels) == len(strides) or self.decoder == "hrnet")

        check_fields(
            self,
            "model",
            positive="aspp_channels decoder_channels head_channels instance_aspp_channels instance_decoder_channels"
            " instance_head_channels",
            output_stride=(self.output_stride in (8, 16, 32), "8, 16 or 32"),
            reset_heads=(self.weights is not None or not self.reset_heads, "false when model.weights is null"),
            decoder_strides=(falls and strides[-1:] == (4,), "falling strides out of 16, 8, 4 that end at 4"),
            dual_aspp=(
                self.dual_decoder or not self.dual_aspp or not self.instance_branch,
                "false when model.dual_decoder is false: one decoder reads one ASPP",
            ),
            aspp_dropout=(0 <= self.aspp_dropout < 1, "at least 0 and below 1"),
            norm_momentum=(0 < self.norm_momentum <= 1, "above 0 and at most 1"),
            atrous_rates=(min(self.atrous_rates or (1,)) > 0, "positive numbers"),
            image_pool_size=(min(self.image_pool_size or (1,)) > 0, "positive numbers"),
            projections=(fits(self.projections), one_each),
            instance_projections=(fits(self.instance_projections), one_each),
        )
