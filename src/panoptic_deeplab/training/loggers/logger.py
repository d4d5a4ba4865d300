"""What the loggers share: names of numbers, the picture of a validation, and which run of another program is ours."""

from collections.abc import Mapping
from pathlib import Path

from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.evaluation.evaluate import EvaluationReport
from panoptic_deeplab.files import read_json, write_json
from panoptic_deeplab.training.checkpoints.run_folder import validation_folder
from panoptic_deeplab.training.tracking import VALIDATION_COLUMNS

PROJECT = "panoptic-deeplab"
"""Where runs are collected, unless the user names another place."""
PICTURE = "validation/pictures"

_IDS_FILE = "loggers.json"


def training_values(metrics: Mapping[str, float]) -> dict[str, float]:
    """The numbers of a log line, `training/loss` and so on."""
    return {f"training/{name}": value for name, value in metrics.items()}


def validation_values(report: EvaluationReport) -> dict[str, float]:
    """What a validation could measure, `validation/PQ` and so on, in [0, 1]."""
    values = report.values()
    measured = {name: values.get(name) for name in VALIDATION_COLUMNS}
    return {f"validation/{name}": value for name, value in measured.items() if value is not None}


def validation_picture(run_folder: Path, step: int) -> Path | None:
    """The page with a few validation images, their truth, prediction and errors; None with `num_pictures` 0."""
    path = validation_folder(run_folder, step) / "mosaic.png"
    return path if path.is_file() else None


def stored_id(run_folder: Path, logger: str) -> str | None:
    """What a logger calls this run, if it has begun it before.

    Raises:
        CheckpointError: the file is damaged.
    """
    return _read_ids(run_folder).get(logger)


def store_id(run_folder: Path, logger: str, run_id: str) -> None:
    """Keep what a logger calls this run, so that `--resume` goes on there."""
    write_json(run_folder / _IDS_FILE, _read_ids(run_folder) | {logger: run_id}, indent=2)


def _read_ids(run_folder: Path) -> dict[str, str]:
    path = run_folder / _IDS_FILE
    if not path.exists():
        return {}
    ids = read_json(path, what="names of this run for loggers", error=CheckpointError)
    if not isinstance(ids, dict) or not all(isinstance(value, str) for value in ids.values()):
        raise CheckpointError(f"{path} is damaged. Delete it: loggers begin a new run then.")
    return ids
