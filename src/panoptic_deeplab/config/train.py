"""Learning: targets, losses and optimization."""

from dataclasses import dataclass
from typing import Literal

from panoptic_deeplab.config.checks import check_fields

Logger = Literal["tensorboard", "wandb", "mlflow"]


@dataclass(frozen=True, kw_only=True)
class TargetConfig:
    """Supervision made from labels."""

    sigma: float = 8.0
    """Standard deviation of the Gaussian around a center, in input pixels (section 3.1)."""
    small_instance_area: int = 4096
    """Instances with fewer visible input pixels get `small_instance_weight` (section 4: 64 x 64)."""
    small_instance_weight: float = 3.0
    """Section 4, lambda_sem."""
    ignore_crowd_in_semantic: bool = True
    """Leave crowd regions out of the semantic loss (the original TensorFlow code did)."""

    def __post_init__(self) -> None:
        check_fields(self, "target", positive="sigma small_instance_weight", at_least_0="small_instance_area")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Section 4: L = lambda_sem L_sem + lambda_heatmap L_heatmap + lambda_offset L_offset."""

    semantic_lambda: float = 1.0
    heatmap_lambda: float = 200.0
    heatmap_loss: Literal["mse", "cross_entropy"] = "mse"
    """Table 1, "MSE"; `cross_entropy` = sigmoid cross entropy, its first rows (with `model.heatmap_activation`)."""
    offset_lambda: float = 0.01
    top_k_fraction: float = 0.2
    """Bootstrapped cross entropy averages the hardest fraction of the valid pixels of each image; 1 = all. The paper
    does not state it; 0.2 is that of the public implementations."""
    class_weights: tuple[float, ...] | None = None
    """Weight of each class in the cross entropy, in the order of the category table; None = all 1, as in the paper.
    For sets where some classes are rare, such as 1 / sqrt(share of the pixels), scaled to a mean of 1 over pixels."""

    def __post_init__(self) -> None:
        weights = self.class_weights
        check_fields(
            self,
            "loss",
            at_least_0="semantic_lambda heatmap_lambda offset_lambda",
            top_k_fraction=(0 < self.top_k_fraction <= 1, "above 0 and at most 1"),
            class_weights=(weights is None or min(weights, default=-1) >= 0, "numbers of at least 0"),
        )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The optimization."""

    max_steps: int = 60_000
    """Section 4: 60K Cityscapes, 150K Mapillary Vistas, 200K COCO."""
    max_minutes: float | None = None
    """Time budget: training and validating end after so many minutes, if not with `max_steps` before, and so does the
    schedule of the learning rate. Starts of a resumed run add up; the validation at the end comes on top."""
    early_stopping: int | None = None
    """End after so many validations in a row without a better `evaluation.metric`; None = never."""
    batch_size: int = 32
    """Images a step, over all processes together."""
    images_at_once: int | None = None
    """Largest number of images that a process sends through the network together, to save memory; None = its whole
    share of the batch. The gradient stays that of the whole batch; batch normalization sees the images at once only."""
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
    """learning_rate * (1 - step / max_steps) ** poly_power, the "poly" policy; with `max_minutes`, the part of the time
    that is spent takes the place of step / max_steps where it is larger."""
    clip_gradient_norm: float | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """bfloat16 = autocast of the network; losses stay float32. auto = bfloat16 where the GPU or x86 processor has
    instructions for it (a processor is asked by torch 2.12 or newer); the run folder's config.yaml says which it was.
    """
    channels_last: bool = True
    """Memory format of images and weights: same numbers up to rounding, faster convolutions."""
    batch_norm: Literal["train", "frozen", "frozen_backbone", "sync"] = "train"
    """`frozen_backbone` keeps the statistics and affine parameters of the backbone's BN (small batches, pretrained
    weights), `frozen` those of every BN; `sync` shares statistics over processes (CUDA only; plain BN with one)."""
    ema_decay: float | None = None
    """Exponential moving average of the weights, used for validation and `best`."""
    log_every: int = 20
    """Steps."""
    loggers: tuple[Logger, ...] = ("tensorboard",)
    """Where curves and validation images go beside the run folder's own files; `wandb` and `mlflow` are extras."""
    validate_every: int = 1000
    """Steps; a checkpoint is written with each validation and at the end. 0 = only at the end."""
    keep_checkpoints: int = 2
    """How many step folders to keep; `best` has files of its own."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(
            self,
            "train",
            positive="max_steps max_minutes early_stopping batch_size log_every keep_checkpoints learning_rate"
            " images_at_once clip_gradient_norm",
            at_least_0="backbone_learning_rate_factor weight_decay poly_power seed validate_every",
            ema_decay=(self.ema_decay is None or 0 < self.ema_decay < 1, "between 0 and 1"),
            early_stopping=(
                self.early_stopping is None or self.validate_every > 0,
                "null where train.validate_every is 0, since it counts validations",
            ),
            loggers=(len({*self.loggers}) == len(self.loggers), "different names"),
            warmup_steps=(
                0 <= self.warmup_steps < self.max_steps,
                f"at least 0 and below train.max_steps {self.max_steps} (set both for a short run)",
            ),
        )

    def passes(self, num_images: int) -> int:
        """Number of passes, as equal as can be, in which `num_images` images go through the network."""
        return 1 if self.images_at_once is None else -(-num_images // self.images_at_once)
