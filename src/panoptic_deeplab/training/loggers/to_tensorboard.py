"""TensorBoard: `tensorboard --logdir runs` shows curves, and validation images as they get better."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from panoptic_deeplab.config import Config
from panoptic_deeplab.errors import OutputError, require
from panoptic_deeplab.evaluation.evaluate import EvaluationReport
from panoptic_deeplab.training.callbacks import Callback
from panoptic_deeplab.training.loggers.logger import (
    PICTURE,
    training_values,
    validation_picture,
    validation_values,
)


class TensorBoardLogger(Callback):
    """Writes events into the run folder; a run that is resumed hides the events of steps that it makes again."""

    def on_start(self, run_folder: Path, config: Config, start_step: int) -> None:
        """Open a file of events."""
        tensorboard = require("torch.utils.tensorboard", extra="train", purpose="logging to TensorBoard")
        self._run_folder = run_folder
        self._events = tensorboard.SummaryWriter(str(run_folder), purge_step=start_step + 1)

    def on_log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write losses, learning rate and speed."""
        self._write(step, training_values(metrics))

    def on_validation(self, step: int, report: EvaluationReport) -> None:
        """Write metrics and the page of images."""
        path = validation_picture(self._run_folder, step)
        self._write(step, validation_values(report), None if path is None else np.asarray(Image.open(path)))

    def on_close(self) -> None:
        """Close the file."""
        if hasattr(self, "_events"):
            self._events.close()

    def _write(self, step: int, values: Mapping[str, float], picture: Any = None) -> None:
        try:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)
            if picture is not None:
                self._events.add_image(PICTURE, picture, step, dataformats="HWC")
            self._events.flush()
        except OSError as error:
            said = error.strerror or str(error)
            raise OutputError(f"The events for TensorBoard in {self._run_folder} cannot be written: {said}.") from error
