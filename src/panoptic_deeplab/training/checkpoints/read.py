"""Reading a checkpoint (`write.py` writes it): whole, unchanged, and of this very run, or not at all.

Nothing is passed over in silence: where the newest checkpoint is damaged, the message names the one before it that is
whole, and how to go on from that. Which of the two it is to be is a decision for a person, because the second costs
hours.
"""

import logging
import math
import reprlib
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

from panoptic_deeplab.config import Config
from panoptic_deeplab.config.io import config_to_dict
from panoptic_deeplab.data.identity import DATASET_FILE, difference
from panoptic_deeplab.errors import CheckpointError, ConfigError
from panoptic_deeplab.files import read_json
from panoptic_deeplab.training.checkpoints.finite import not_finite
from panoptic_deeplab.training.checkpoints.optimizer_state import restore_optimizer
from panoptic_deeplab.training.checkpoints.run_folder import (
    CHECKPOINTS,
    LAST,
    STATE_FILE,
    VALIDATION_FILE,
    checkpoints,
    newest_checkpoint,
    step_of,
)
from panoptic_deeplab.training.optimizer import learning_rate
from panoptic_deeplab.training.state import TrainingState
from panoptic_deeplab.weights.checksums import check_files, read_checksums
from panoptic_deeplab.weights.folder import (
    CATEGORIES_FILE,
    CONFIG_FILE,
    EMA_FILE,
    MODEL_FILE,
    load_weights,
    read_weights,
)
from panoptic_deeplab.weights.reading.tensors import read_content

logger = logging.getLogger(__name__)

MAY_DIFFER_ON_RESUME = frozenset(
    {
        "data.root",
        "data.num_workers",
        "evaluation.num_pictures",
        "test_time_augmentation.enabled",
        "test_time_augmentation.flip",
        "test_time_augmentation.scales",
        "train.early_stopping",
        "train.keep_checkpoints",
        "train.log_every",
        "train.loggers",
        "train.max_minutes",
        "train.validate_every",
    }
)
"""Settings without influence on the weights, or on their number of steps alone. Everything else has to stay, or the
result would belong to no recipe."""

_LENGTH = "train.max_steps"
"""May grow: the run is made longer, and its learning rate goes on as that of a run of the new length at this step."""

_FILES = (MODEL_FILE, CONFIG_FILE, CATEGORIES_FILE, DATASET_FILE, STATE_FILE)

_STATE = {"step", "seconds", "best_metric", "validations_since_best", "optimizer"}
"""What the file of the state holds."""


def load_checkpoint(run_folder: Path, state: TrainingState, *, config: Config, dataset: Mapping[str, Any]) -> bool:
    """Restore `state`, freshly built with `config`, from the newest checkpoint; gives whether it has been validated.

    Raises:
        ConfigError: a setting (see `MAY_DIFFER_ON_RESUME`), or the data, differ from those of the run.
        CheckpointError: a file is missing or damaged, or does not fit the model; the message names the newest
            checkpoint that is whole.
    """
    folder = newest_checkpoint(run_folder)
    assert folder is not None
    try:
        sums = _check_whole(folder)
        _check_same_config(folder, config)
        _check_same_data(folder, dataset)
        _read(folder, sums, state, config)
        _tell_of_length(folder, state, config)
        return _read_validation(folder, state, metric=config.evaluation.metric)
    except CheckpointError as error:
        raise CheckpointError(f"{error} {_how_to_go_on(run_folder, folder)}") from error


def _check_whole(folder: Path) -> dict[str, str]:
    """Compare all files with their checksums, which are returned."""
    sums = read_checksums(folder)
    later = [VALIDATION_FILE] if (folder / VALIDATION_FILE).exists() else []
    average = [EMA_FILE] if EMA_FILE in sums else []
    check_files(folder, [*_FILES, *average, *later], sums)
    return sums


def _read(folder: Path, sums: Mapping[str, str], state: TrainingState, config: Config) -> None:
    load_weights(state.model, read_weights(folder / MODEL_FILE), where=str(folder / MODEL_FILE))
    if state.ema is not None:
        if EMA_FILE not in sums:
            raise CheckpointError(f"{folder / EMA_FILE} is missing.")
        load_weights(state.ema.model, read_weights(folder / EMA_FILE), where=str(folder / EMA_FILE))
    path = folder / STATE_FILE
    stored = read_content(path)
    if not isinstance(stored, dict) or stored.keys() != _STATE:
        raise CheckpointError(f"{path} is no state of a training. Expected {', '.join(sorted(_STATE))}.")
    step, best = stored["step"], stored["best_metric"]
    if type(step) is not int or step != step_of(folder) or not 0 < step <= config.train.max_steps:
        raise CheckpointError(
            f"{path} says that {reprlib.repr(step)} steps were made. Expected the number in the name of its folder,"
            f" from 1 to train.max_steps {config.train.max_steps}."
        )
    if best is not None and not _is_fraction(best):
        raise CheckpointError(f"{path} has the best metric {reprlib.repr(best)}. Expected a number from 0 to 1.")
    seconds, since_best = stored["seconds"], stored["validations_since_best"]
    if type(seconds) is not float or not 0 <= seconds < math.inf or type(since_best) is not int or since_best < 0:
        raise CheckpointError(
            f"{path} has {reprlib.repr(seconds)} seconds and {reprlib.repr(since_best)} validations since the best."
            " Expected numbers of at least 0."
        )
    restore_optimizer(state.model, state.optimizer, stored["optimizer"], step=step, where=str(path))
    state.step, state.best_metric = step, best
    state.seconds, state.validations_since_best = seconds, since_best
    names = not_finite(state)
    if names is not None:
        raise CheckpointError(f"{folder} holds numbers that are not finite ({names}).")


def _read_validation(folder: Path, state: TrainingState, *, metric: str) -> bool:
    path = folder / VALIDATION_FILE
    if not path.exists():
        return False
    metrics = read_json(path, what="validation", error=CheckpointError)
    value = metrics.get(metric) if isinstance(metrics, dict) else None
    if not _is_fraction(value):
        raise CheckpointError(f"{path} has {value!r:.40} for {metric}. Expected a number from 0 to 1.")
    is_best = state.best_metric is None or value > state.best_metric
    state.best_metric = value if is_best else state.best_metric
    state.validations_since_best = 0 if is_best else state.validations_since_best + 1
    return True


def _is_fraction(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float) and math.isfinite(value) and 0 <= value <= 1


def _how_to_go_on(run_folder: Path, damaged: Path) -> str:
    """Names the newest older checkpoint that is whole, and what a person does to go on from it."""
    step = step_of(damaged) or 0
    for folder in reversed([f for f in checkpoints(run_folder) if (step_of(f) or 0) < step]):
        try:
            _check_whole(folder)
        except CheckpointError:
            continue
        command = shlex.join(["ln", "-sfn", f"{CHECKPOINTS}/{folder.name}", str(run_folder / LAST)])
        return (
            f"The newest checkpoint before it that is whole is {folder}: to go on from there, let `{LAST}` point to it"
            f" and use --resume again:  {command}"
        )
    return f"No older checkpoint in {run_folder} is whole. Copy this one again if you have it, or begin a new run."


def _check_same_config(folder: Path, config: Config) -> None:
    document = read_json(folder / CONFIG_FILE, what="configuration", error=CheckpointError)
    if not isinstance(document, dict):
        raise CheckpointError(f"{folder / CONFIG_FILE} is no configuration.")
    stored, current = _flatten(document), _flatten(config_to_dict(config))
    missing = "(not there)"
    differing = [
        f"{key} is {current.get(key, missing)!r} now, {stored.get(key, missing)!r} in the run"
        for key in sorted({*stored, *current} - MAY_DIFFER_ON_RESUME)
        if stored.get(key, missing) != current.get(key, missing) and not (key == _LENGTH and _grows(stored, config))
    ]
    if differing:
        raise ConfigError(
            f"A run goes on only with its own settings. Different from {folder / CONFIG_FILE}:\n  "
            + "\n  ".join(differing)
            + f"\n  Resume with the config.yaml of the run folder (only {', '.join(sorted(MAY_DIFFER_ON_RESUME))} may"
            f" change, and {_LENGTH} may grow), or start a new run in another folder."
        )


def _grows(stored: Mapping[str, Any], config: Config) -> bool:
    before = stored.get(_LENGTH)
    return type(before) is int and before < config.train.max_steps


def _tell_of_length(folder: Path, state: TrainingState, config: Config) -> None:
    """Say what the learning rate does where a run is made longer."""
    stored = _flatten(read_json(folder / CONFIG_FILE, what="configuration", error=CheckpointError))
    if not _grows(stored, config):
        return
    shorter = replace(config.train, max_steps=stored[_LENGTH])
    before, now = (learning_rate(state.step, train, seconds=state.seconds) for train in (shorter, config.train))
    logger.info(
        "The run is made longer, from %d to %d steps: after step %d the learning rate is %.3g, as in a run of that"
        " length, where it was %.3g.",
        *(shorter.max_steps, config.train.max_steps, state.step, now, before),
    )


def _check_same_data(folder: Path, dataset: Mapping[str, Any]) -> None:
    stored = read_json(folder / DATASET_FILE, what="description of the data", error=CheckpointError)
    found = difference(stored, dataset)
    if found is not None:
        raise ConfigError(
            f"A run goes on only with its own data, and data.root holds other images than in {folder / DATASET_FILE}:"
            f" {found}. Set data.root to the folder of the run's data, or start a new run in another folder."
        )


def _flatten(data: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key."""
    if not isinstance(data, dict):
        return {prefix: data}
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= _flatten(value, f"{prefix}.{key}" if prefix else key)
    return flat
