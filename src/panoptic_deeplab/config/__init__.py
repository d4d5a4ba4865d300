"""All settings of a run as frozen dataclasses. `config/io.py` reads and writes them as YAML.

The defaults are the paper's where the paper states one; each field cites its section or table. Where the paper is
silent and public implementations disagree, the field says so. Sizes are `(height, width)` in pixels.
"""

from dataclasses import dataclass, field

from panoptic_deeplab.config.checks import check_fields
from panoptic_deeplab.config.data import DataConfig, InputConfig
from panoptic_deeplab.config.model import CompatConfig, ModelConfig
from panoptic_deeplab.config.predict import EvaluationConfig, PostprocessConfig, Precision, TestTimeAugmentationConfig
from panoptic_deeplab.config.train import LossConfig, TargetConfig, TrainConfig

__all__ = [
    "CompatConfig",
    "Config",
    "DataConfig",
    "EvaluationConfig",
    "InputConfig",
    "LossConfig",
    "ModelConfig",
    "PostprocessConfig",
    "Precision",
    "TargetConfig",
    "TestTimeAugmentationConfig",
    "TrainConfig",
]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that defines a run."""

    data: DataConfig = field(default_factory=DataConfig)
    input: InputConfig = field(default_factory=InputConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    target: TargetConfig = field(default_factory=TargetConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    test_time_augmentation: TestTimeAugmentationConfig = field(default_factory=TestTimeAugmentationConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        fits = self.loss.heatmap_loss == "mse" or self.model.heatmap_activation == "sigmoid"
        check_fields(self.loss, "loss", heatmap_loss=(fits, "mse unless model.heatmap_activation is sigmoid"))
