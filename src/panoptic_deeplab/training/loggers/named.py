"""The loggers that `train.loggers` can name."""

from collections.abc import Sequence

from panoptic_deeplab.errors import require
from panoptic_deeplab.training.callbacks import Callback
from panoptic_deeplab.training.loggers.to_mlflow import MlflowLogger
from panoptic_deeplab.training.loggers.to_tensorboard import TensorBoardLogger
from panoptic_deeplab.training.loggers.to_wandb import WandbLogger

_LOGGERS: dict[str, type[Callback]] = {
    "tensorboard": TensorBoardLogger,
    "wandb": WandbLogger,
    "mlflow": MlflowLogger,
}
_PACKAGES = {
    "tensorboard": ("torch.utils.tensorboard", "train", "logging to TensorBoard"),
    "wandb": ("wandb", "wandb", "logging to Weights & Biases"),
    "mlflow": ("mlflow", "mlflow", "logging to MLflow"),
}


def named_loggers(names: Sequence[str]) -> list[Callback]:
    """A new logger for each name, in their order."""
    return [_LOGGERS[name]() for name in names]


def check_logger_packages(names: Sequence[str]) -> None:
    """See that what the loggers need is installed, or raise a `MissingDependencyError`."""
    for name in names:
        module, extra, purpose = _PACKAGES[name]
        require(module, extra=extra, purpose=purpose)
