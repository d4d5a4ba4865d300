"""All settings of a run as frozen dataclasses. `config_io.py` reads and writes them as YAML.

The defaults are the paper's where the paper states one; each field cites its section or table. Where the paper is
silent and public implementations disagree, the field says so. Sizes are `(height, width)` in pixels.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from panoptic_deeplab.errors import ConfigError


def _check(condition: bool, name: str, expected: str, got: object) -> None:
    if not condition:
        raise ConfigError(f"`{name}` must be {expected}. Got {got!r} instead.")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images and labels, and how they are augmented for training."""

    format: Literal["coco_panoptic", "cityscapes", "folder", "synthetic"] = "coco_panoptic"
    """Layout on disk; see `data/`."""
    root: str = "datasets"
    """Folder of the data set (ignored by `synthetic`)."""
    categories: str = "coco"
    """Name of a packaged category table, or a path to a JSON file."""
    train_split: str = "train"
    val_split: str = "val"
    crop_size: tuple[int, int] = (1025, 2049)
    """Training crop. Section 4: whole Cityscapes images; k * output_stride + 1 with `model.align_corners`."""
    min_scale: float = 0.5
    """Random scale, section 4 ("random scale data augmentation"); range of DeepLab's public recipes."""
    max_scale: float = 2.0
    scale_step: float = 0.1
    """Scales are drawn from min_scale, min_scale + step, ..., max_scale; 0 draws from the whole interval."""
    flip_probability: float = 0.5
    """Left-right."""
    vertical_flip_probability: float = 0.0
    """Only for images without an up, as microscopy; with `rotate90` all eight symmetries of the square."""
    rotate90: bool = False
    """Rotate by a random multiple of 90 degrees."""
    color_jitter: float = 0.0
    """Strength of brightness, contrast and saturation jitter; 0 = off, as in the paper."""
    grayscale_probability: float = 0.0
    num_workers: int = 2
    """Loader processes; 0 loads in the training process. The batches do not depend on it."""

    def __post_init__(self) -> None:
        _check(min(self.crop_size) > 0, "data.crop_size", "two positive numbers", self.crop_size)
        _check(0 < self.min_scale <= self.max_scale, "data.min_scale", "positive and at most max_scale", self.min_scale)
        for name in ("flip_probability", "vertical_flip_probability", "grayscale_probability"):
            _check(0 <= getattr(self, name) <= 1, f"data.{name}", "between 0 and 1", getattr(self, name))
        _check(0 <= self.color_jitter < 1, "data.color_jitter", "at least 0 and below 1", self.color_jitter)
        _check(self.scale_step >= 0, "data.scale_step", "at least 0", self.scale_step)
        _check(self.num_workers >= 0, "data.num_workers", "at least 0", self.num_workers)


@dataclass(frozen=True, kw_only=True)
class InputConfig:
    """From an image to what the network sees; the same in training, validation and prediction."""

    longest_side: int | None = None
    """Resize so that the longest side has this many pixels (section 4: 2177 Mapillary, 1025 or 641 COCO)."""
    scale: float = 1.0
    """Resize by this factor (enlarge small objects); not together with `longest_side`."""
    pixel_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Subtracted from RGB in [0, 1]."""
    pixel_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Divided by afterwards."""

    def __post_init__(self) -> None:
        _check(self.scale > 0, "input.scale", "positive", self.scale)
        _check(self.longest_side is None or self.longest_side > 1, "input.longest_side", "above 1", self.longest_side)
        _check(
            self.longest_side is None or self.scale == 1,
            "input.scale",
            "1 when input.longest_side is set",
            self.scale,
        )
        _check(min(self.pixel_std) > 0, "input.pixel_std", "three positive numbers", self.pixel_std)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network. Defaults reproduce Table 1's final row (46.72 M parameters with Xception-71, 19 classes)."""

    backbone: str = "xception71"
    """Any timm network that has `features_only`."""
    backbone_weights: str | None = None
    """None = random; `imagenet` = timm's (downloads); `package:efficientnet_lite0` = from an installed pip package;
    else a path to a `.safetensors` or `.pth` state dict."""
    output_stride: Literal[8, 16, 32] = 16
    """Input size over size of the deepest features; smaller = atrous convolution in the last blocks."""
    atrous_rates: tuple[int, int, int] | None = None
    """Of the ASPP; None = (6, 12, 18) at output stride 16, halved at 32, doubled at 8."""
    atrous_conv: Literal["separable", "dense"] = "separable"
    """3x3 atrous convolutions: depthwise separable (the count of Table 1) or dense."""
    separable_mid_norm: bool = False
    """BN and ReLU between the depthwise and pointwise convolution; the count of Table 1 says no."""
    aspp_channels: int = 256
    instance_aspp_channels: int = 256
    aspp_dropout: float = 0.1
    image_pool_size: tuple[int, int] | None = None
    """Window of the ASPP image pool in input pixels, stride 1 (the training crop, when evaluating on whole images);
    None = the whole feature map."""
    image_pool_norm: bool = True
    image_pool_bias: bool = False
    dual_aspp: bool = True
    """Table 1, "ASPP x2"; False = one ASPP for both branches."""
    dual_decoder: bool = True
    """Table 1, "De. x2"; False = one decoder for all heads."""
    instance_branch: bool = True
    """False = "Sem. Only" of Table 1."""
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
    concat_order: Literal["upsampled_first", "projection_first"] = "upsampled_first"
    head_channels: int = 256
    """Of the semantic head."""
    instance_head_channels: int = 32
    """Of the centre and offset heads."""
    center_head_conv: Literal["separable", "dense"] = "separable"
    align_corners: bool = True
    """Convention of every bilinear resize: corner pixel centres coincide (True; with odd sizes), or image borders."""
    norm_eps: float = 1e-5
    """Of the batch normalisation outside the backbone."""
    norm_momentum: float = 0.1
    """Of every batch normalisation, PyTorch's convention."""
    backbone_norm_eps: float | None = None
    """None = as the backbone defines it."""

    def __post_init__(self) -> None:
        _check(self.output_stride in (8, 16, 32), "model.output_stride", "8, 16 or 32", self.output_stride)
        for name in (
            "aspp_channels",
            "instance_aspp_channels",
            "decoder_channels",
            "instance_decoder_channels",
            "head_channels",
            "instance_head_channels",
            "norm_eps",
        ):
            _check(getattr(self, name) > 0, f"model.{name}", "positive", getattr(self, name))
        for name in ("atrous_rates", "image_pool_size"):
            values = getattr(self, name)
            _check(values is None or min(values) > 0, f"model.{name}", "positive numbers", values)
        epsilon = self.backbone_norm_eps
        _check(epsilon is None or epsilon > 0, "model.backbone_norm_eps", "positive", epsilon)
        strides = self.decoder_strides
        _check(
            len(strides) > 0
            and strides[-1] == 4
            and all(deep > shallow for deep, shallow in pairwise(strides))
            and set(strides) <= {4, 8, 16},
            "model.decoder_strides",
            "falling strides out of 16, 8, 4 that end at 4",
            strides,
        )
        for name in ("projections", "instance_projections"):
            _check(
                len(getattr(self, name)) == len(strides),
                f"model.{name}",
                f"one number for each of decoder_strides {strides}",
                getattr(self, name),
            )
            _check(min(getattr(self, name)) > 0, f"model.{name}", "positive numbers", getattr(self, name))
        _check(
            self.dual_decoder or not self.dual_aspp or not self.instance_branch,
            "model.dual_aspp",
            "false when model.dual_decoder is false: one decoder reads one ASPP",
            self.dual_aspp,
        )
        _check(0 <= self.aspp_dropout < 1, "model.aspp_dropout", "at least 0 and below 1", self.aspp_dropout)
        _check(0 < self.norm_momentum <= 1, "model.norm_momentum", "above 0 and at most 1", self.norm_momentum)


@dataclass(frozen=True, kw_only=True)
class TargetConfig:
    """Supervision made from labels."""

    sigma: float = 8.0
    """Standard deviation of the Gaussian around a centre, in input pixels (section 3.1)."""
    small_instance_area: int = 4096
    """Instances with fewer visible input pixels get `small_instance_weight` (section 4: 64 x 64)."""
    small_instance_weight: float = 3.0
    """Section 4, lambda_sem."""
    ignore_crowd_in_semantic: bool = True
    """Leave crowd regions out of the semantic loss (the original TensorFlow code did)."""

    def __post_init__(self) -> None:
        _check(self.sigma > 0, "target.sigma", "positive", self.sigma)
        _check(self.small_instance_area >= 0, "target.small_instance_area", "at least 0", self.small_instance_area)
        _check(self.small_instance_weight > 0, "target.small_instance_weight", "positive", self.small_instance_weight)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Section 4: L = lambda_sem L_sem + lambda_heatmap L_heatmap + lambda_offset L_offset."""

    semantic_lambda: float = 1.0
    heatmap_lambda: float = 200.0
    offset_lambda: float = 0.01
    top_k_fraction: float = 0.2
    """Bootstrapped cross entropy averages the hardest fraction of the valid pixels of each image; 1 = all. The paper
    does not state it; 0.2 is that of the public implementations."""

    def __post_init__(self) -> None:
        _check(0 < self.top_k_fraction <= 1, "loss.top_k_fraction", "above 0 and at most 1", self.top_k_fraction)
        for name in ("semantic_lambda", "heatmap_lambda", "offset_lambda"):
            _check(getattr(self, name) >= 0, f"loss.{name}", "at least 0", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class PostprocessConfig:
    """Sections 3.2 and 3.3. Kernel and areas in pixels of the network input."""

    center_threshold: float = 0.1
    """Heatmap values at or below it are no centre. Higher = fewer, surer instances."""
    nms_kernel: int = 7
    """Odd side of the max-pooling window; two centres in one window become one. Larger = fewer instances."""
    top_k: int = 200
    """At most so many centres an image, the strongest."""
    stuff_area_limit: int = 2048
    """Stuff classes with fewer pixels in the image become void (section 4: Cityscapes 2048, others 4096); 0 = off."""

    def __post_init__(self) -> None:
        _check(
            self.nms_kernel > 0 and self.nms_kernel % 2 == 1,
            "postprocess.nms_kernel",
            "a positive odd number",
            self.nms_kernel,
        )
        _check(self.top_k > 0, "postprocess.top_k", "positive", self.top_k)
        _check(self.stuff_area_limit >= 0, "postprocess.stuff_area_limit", "at least 0", self.stuff_area_limit)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The optimisation."""

    max_steps: int = 60_000
    """Section 4: 60K Cityscapes, 150K Mapillary Vistas, 200K COCO."""
    batch_size: int = 32
    """Images a step, over all processes and accumulation together."""
    accumulation_steps: int = 1
    """Forward and backward passes a step; the gradient is that of the whole batch."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam without weight decay (section 4), or SGD with momentum 0.9 (Table 1, first row)."""
    learning_rate: float = 1e-3
    backbone_learning_rate_factor: float = 1.0
    """Multiplies the learning rate of the backbone; 0 = its weights stay, which saves their backward pass (see also
    `batch_norm` frozen_backbone)."""
    weight_decay: float = 0.0
    """Not on BN and bias; decoupled with Adam (AdamW), an L2 penalty with SGD. The paper: none."""
    warmup_steps: int = 0
    """Linear warm-up."""
    poly_power: float = 0.9
    """learning_rate * (1 - step / max_steps) ** poly_power, the "poly" policy."""
    clip_gradient_norm: float | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 = autocast of the network; losses stay float32."""
    channels_last: bool = True
    """Memory format of images and weights: same numbers up to rounding, faster convolutions."""
    batch_norm: Literal["train", "frozen", "frozen_backbone", "sync"] = "train"
    """`frozen_backbone` keeps the statistics and affine parameters of the backbone's BN (small batches, pretrained
    weights), `frozen` those of every BN; `sync` shares statistics over processes (CUDA only; plain BN with one)."""
    ema_decay: float | None = None
    """Exponential moving average of the weights, used for validation and `best`."""
    log_every: int = 20
    """Steps."""
    validate_every: int = 1000
    """Steps; a checkpoint is written with each validation and at the end. 0 = only at the end."""
    keep_checkpoints: int = 2
    """How many step folders to keep, beside the one that `best` points to."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("max_steps", "batch_size", "accumulation_steps", "log_every", "keep_checkpoints"):
            _check(getattr(self, name) > 0, f"train.{name}", "positive", getattr(self, name))
        _check(self.learning_rate > 0, "train.learning_rate", "positive", self.learning_rate)
        for name in ("backbone_learning_rate_factor", "weight_decay", "poly_power"):
            _check(getattr(self, name) >= 0, f"train.{name}", "at least 0", getattr(self, name))
        clip = self.clip_gradient_norm
        _check(clip is None or clip > 0, "train.clip_gradient_norm", "positive", clip)
        _check(
            self.batch_size % self.accumulation_steps == 0,
            "train.batch_size",
            f"divisible by train.accumulation_steps {self.accumulation_steps}",
            self.batch_size,
        )
        _check(self.ema_decay is None or 0 < self.ema_decay < 1, "train.ema_decay", "between 0 and 1", self.ema_decay)
        _check(
            0 <= self.warmup_steps < self.max_steps,
            "train.warmup_steps",
            f"at least 0 and below train.max_steps {self.max_steps}",
            self.warmup_steps,
        )
        _check(self.seed >= 0, "train.seed", "at least 0", self.seed)
        _check(self.validate_every >= 0, "train.validate_every", "at least 0", self.validate_every)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What to measure."""

    metric: Literal["PQ", "mIoU", "AP"] = "PQ"
    """Chooses the `best` checkpoint."""
    max_detections: int = 100
    """Predicted instances of a class in an image that count for AP, the best first (COCO: 100)."""
    num_pictures: int = 8
    """Images in the mosaic of a validation."""

    def __post_init__(self) -> None:
        _check(self.max_detections > 0, "evaluation.max_detections", "positive", self.max_detections)
        _check(self.num_pictures >= 0, "evaluation.num_pictures", "at least 0", self.num_pictures)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that defines a run."""

    data: DataConfig = field(default_factory=DataConfig)
    input: InputConfig = field(default_factory=InputConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    target: TargetConfig = field(default_factory=TargetConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
