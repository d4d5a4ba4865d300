"""Weights & Biases. `WANDB_MODE=offline` writes into the run folder alone, and `wandb sync` sends it later."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from panoptic_deeplab.config import Config
from panoptic_deeplab.config.io import config_to_dict
from panoptic_deeplab.errors import ConfigError, first_line, require
from panoptic_deeplab.evaluation.evaluate import EvaluationReport
from panoptic_deeplab.training.callbacks import Callback
from panoptic_deeplab.training.loggers.logger import (
    PICTURE,
    PROJECT,
    store_id,
    stored_id,
    training_values,
    validation_picture,
    validation_values,
)


class WandbLogger(Callback):
    """Logs to Weights & Biases: settings, numbers, and the page of images of each validation.

    Args:
        options: arguments of `wandb.init`, such as `project`, `entity` or `tags`. Its environment variables
            (WANDB_PROJECT, WANDB_MODE, ...) count too.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._run: Any = None
        self._exit_code = 1

    def on_start(self, run_folder: Path, config: Config, start_step: int) -> None:
        """Begin a run, or go on with the one that this run folder has begun.

        Raises:
            ConfigError: wandb refuses, for example since nobody is logged in.
            MissingDependencyError: it is not installed.
        """
        self._wandb = require("wandb", extra="wandb", purpose="logging to Weights & Biases")
        self._run_folder = run_folder
        options = {
            "project": os.environ.get("WANDB_PROJECT", PROJECT),
            "name": run_folder.resolve().name,
            "dir": str(run_folder),
            "config": config_to_dict(config),
            "id": stored_id(run_folder, "wandb") if start_step > 0 else None,
            "resume": "allow",
            **self._options,
        }
        try:
            self._run = self._wandb.init(**options)
        except Exception as error:  # its errors have no common class
            raise ConfigError(
                f"Weights & Biases cannot begin a run: {first_line(error)} Use `wandb login`, or set WANDB_MODE=offline"
                " to log into the run folder alone."
            ) from error
        store_id(run_folder, "wandb", self._run.id)

    def on_log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log losses, learning rate and speed."""
        self._run.log(training_values(metrics), step=step)

    def on_validation(self, step: int, report: EvaluationReport) -> None:
        """Log metrics and the page of images."""
        values: dict[str, Any] = dict(validation_values(report))
        path = validation_picture(self._run_folder, step)
        if path is not None:
            values[PICTURE] = self._wandb.Image(str(path))
        self._run.log(values, step=step)

    def on_end(self, best: Path) -> None:
        """Note that the run has come to its end."""
        self._exit_code = 0

    def on_close(self) -> None:
        """Finish the run: as failed, where it did not come to its end."""
        if self._run is not None:
            self._run.finish(exit_code=self._exit_code)
