"""MLflow. MLFLOW_TRACKING_URI says where to: a server, or a file such as sqlite:///mlflow.db, which is its default."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from panoptic_deeplab.config import Config
from panoptic_deeplab.config.io import config_to_dict
from panoptic_deeplab.errors import ConfigError, first_line, require
from panoptic_deeplab.evaluation.evaluate import EvaluationReport
from panoptic_deeplab.training.callbacks import Callback
from panoptic_deeplab.training.loggers.logger import (
    PROJECT,
    store_id,
    stored_id,
    training_values,
    validation_picture,
    validation_values,
)

logger = logging.getLogger(__name__)

_TOGETHER = 100
"""So many parameters does a server take at once."""
_LONGEST = 500
"""Characters of a parameter that every version takes."""


class MlflowLogger(Callback):
    """Logs to MLflow: settings as parameters, numbers, and the page of images of each validation.

    A server that cannot be reached while the training goes on costs a warning and those numbers, not the training.

    Args:
        experiment: where the run is put; None = MLFLOW_EXPERIMENT_NAME, or `panoptic-deeplab`.
        tracking_uri: where to log; None = as MLflow is set.
    """

    def __init__(self, experiment: str | None = None, *, tracking_uri: str | None = None) -> None:
        self._experiment = experiment
        self._tracking_uri = tracking_uri
        self._client: Any = None
        self._status = "FAILED"

    def on_start(self, run_folder: Path, config: Config, start_step: int) -> None:
        """Begin a run, or go on with the one that this run folder has begun.

        Raises:
            ConfigError: MLflow refuses, or its server cannot be reached.
            MissingDependencyError: it is not installed.
        """
        self._entities = require("mlflow.entities", extra="mlflow", purpose="logging to MLflow")
        tracking = require("mlflow.tracking", extra="mlflow", purpose="logging to MLflow")
        self._run_folder = run_folder
        run_id = stored_id(run_folder, "mlflow") if start_step > 0 else None
        try:
            client = tracking.MlflowClient(tracking_uri=self._tracking_uri)
            if run_id is None:
                run_id = self._new_run(client, run_folder, config)
            else:
                client.update_run(run_id, status="RUNNING")
        except Exception as error:  # of MLflow, its database or its connection
            raise ConfigError(
                f"MLflow cannot begin a run: {first_line(error)} See MLFLOW_TRACKING_URI, which names a server or a"
                " file such as sqlite:///mlflow.db."
            ) from error
        self._client, self._run_id = client, run_id
        store_id(run_folder, "mlflow", run_id)

    def on_log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log losses, learning rate and speed."""
        self._log(step, training_values(metrics))

    def on_validation(self, step: int, report: EvaluationReport) -> None:
        """Log metrics, and the page of images as an artifact."""
        self._log(step, validation_values(report))
        path = validation_picture(self._run_folder, step)
        if path is not None:
            self._try(lambda: self._client.log_artifact(self._run_id, str(path), f"validation/step_{step:06d}"))

    def on_end(self, best: Path) -> None:
        """Note that the run has come to its end."""
        self._status = "FINISHED"

    def on_close(self) -> None:
        """End the run: as failed, where it did not come to its end."""
        if self._client is not None:
            self._try(lambda: self._client.set_terminated(self._run_id, self._status))

    def _new_run(self, client: Any, run_folder: Path, config: Config) -> str:
        name = self._experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = client.get_experiment_by_name(name)
        experiment_id = client.create_experiment(name) if experiment is None else experiment.experiment_id
        run_id = str(client.create_run(experiment_id, run_name=run_folder.resolve().name).info.run_id)
        settings = [
            self._entities.Param(f"{section}.{setting}", str(value)[:_LONGEST])
            for section, values in config_to_dict(config).items()
            for setting, value in values.items()
        ]
        for start in range(0, len(settings), _TOGETHER):
            client.log_batch(run_id, params=settings[start : start + _TOGETHER])
        return run_id

    def _log(self, step: int, values: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        metrics = [self._entities.Metric(name, value, now, step) for name, value in values.items()]
        self._try(lambda: self._client.log_batch(self._run_id, metrics=metrics))

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:  # of MLflow, its database or its connection
            logger.warning("MLflow does not take what happens, and the training goes on: %s", first_line(error))
