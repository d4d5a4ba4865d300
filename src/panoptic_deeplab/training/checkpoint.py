"""The run folder, and checkpoints from which a run goes on as if it had never stopped.

    runs/street/
    ├── config.yaml              complete, resolved; `train runs/street/config.yaml --run-folder NEW` repeats the run
    ├── environment.json         command, versions, commit, hardware, world size: one entry a start
    ├── metrics.csv              one row per log step; events.out.tfevents... beside it
    ├── labels.png  train_batch.png            what the network is fed: look here first
    ├── validation/step_001000/  report.json, table.txt, mosaic.png, per_class_pq.png
    ├── curves.png
    ├── checkpoints/step_001000/ model.safetensors, ema.safetensors, config.json, categories.json, README.md (for users)
    │                            training_state.pt (for `resume`: optimizer, step, best metric before this step)
    │                            validation.json (metrics of these weights, once they are measured)
    ├── last -> checkpoints/step_001000
    └── best -> checkpoints/step_000800        a folder for `PanopticPredictor.from_pretrained`

On the CPU, with the same number of processes and threads, a resumed run gives the weights of an uninterrupted one bit
for bit; elsewhere up to rounding. No random state is stored, because there is none: the batch of a step and the seed of
its dropout are functions of the run's seed and the number of the step.

A run that is killed at any moment leaves a whole checkpoint to go on from: each is written into a temporary folder,
which is then renamed, and only then do `last` and `best` point to it. It is written before its validation, whose result
is added afterwards; where that is missing, a resumed run begins with the validation.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config
from panoptic_deeplab.config_io import config_to_dict
from panoptic_deeplab.errors import CheckpointError, ConfigError
from panoptic_deeplab.model.card import CARD_FILE
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.model.weights import (
    CONFIG_FILE,
    EMA_FILE,
    MODEL_FILE,
    load_weights,
    read_weights,
    save_pretrained,
    save_weights,
)
from panoptic_deeplab.training.ema import ExponentialMovingAverage

STATE_FILE = "training_state.pt"
VALIDATION_FILE = "validation.json"
CHECKPOINTS, LAST, BEST = "checkpoints", "last", "best"
_WRITING, _REPLACED = ".writing_", ".replaced_"

MAY_DIFFER_ON_RESUME = frozenset(
    {
        "data.root",
        "data.num_workers",
        "evaluation.num_pictures",
        "test_time_augmentation.enabled",
        "test_time_augmentation.flip",
        "test_time_augmentation.scales",
        "train.keep_checkpoints",
        "train.log_every",
        "train.validate_every",
    }
)
"""Settings without influence on the weights. Everything else has to stay, or the result would belong to no recipe."""


@dataclass(kw_only=True)
class TrainingState:
    """What changes while training, and is restored on resume."""

    model: PanopticDeepLab
    optimizer: torch.optim.Optimizer
    ema: ExponentialMovingAverage | None
    step: int = 0
    """Optimizer steps made."""
    best_metric: float | None = None
    """Of `evaluation.metric`, in [0, 1]; None before the first validation."""


def save_checkpoint(
    run_folder: Path, state: TrainingState, *, config: Config, categories: CategoryTable, model_card: str
) -> Path:
    """Write `checkpoints/step_NNNNNN`, let `last` point to it, and delete what retention gives up.

    Args:
        run_folder: the folder of the run.
        state: what to store.
        config: of the run. `keep_checkpoints` says how many of the newest are kept, beside the best.
        categories: of the classes that the model predicts.
        model_card: text of the README.md beside the weights.

    Returns:
        The new folder.
    """
    folder = run_folder / CHECKPOINTS / f"step_{state.step:06d}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=_WRITING, dir=folder.parent))
    temporary.chmod(0o755)  # mkdtemp's folders are closed to everybody else
    save_pretrained(temporary, state.model, config=config, categories=categories, card=model_card)
    if state.ema is not None:
        save_weights(temporary / EMA_FILE, state.ema.model.state_dict())
    torch.save(
        {"step": state.step, "best_metric": state.best_metric, "optimizer": state.optimizer.state_dict()},
        temporary / STATE_FILE,
    )
    if folder.exists():  # written before, by a run that was killed or whose `last` was set back
        folder.rename(folder.with_name(_REPLACED + folder.name))
    temporary.rename(folder)
    _point(run_folder / LAST, folder)
    _delete_old(run_folder, keep=config.train.keep_checkpoints)
    return folder


def add_validation(
    run_folder: Path, state: TrainingState, metrics: Mapping[str, float], *, metric: str, model_card: str
) -> None:
    """Add what was measured to the checkpoint that `last` points to; `best` points to it, too, if none was better.

    Args:
        run_folder: the folder of the run.
        state: of which that checkpoint was written; its `best_metric` is updated.
        metrics: by name, in [0, 1].
        metric: the one that chooses the best.
        model_card: text of the README.md, with the result.
    """
    folder = (run_folder / LAST).resolve()
    assert folder.name == f"step_{state.step:06d}"
    _write(folder / CARD_FILE, model_card)
    if state.best_metric is None or metrics[metric] > state.best_metric:
        state.best_metric = metrics[metric]
        _point(run_folder / BEST, folder)
    # Last: where a kill leaves this file out, the validation is repeated, with the same outcome.
    _write(folder / VALIDATION_FILE, json.dumps(dict(metrics), indent=2) + "\n")


def load_checkpoint(run_folder: Path, state: TrainingState, *, config: Config) -> bool:
    """Restore `state` from the checkpoint that `last` points to.

    Args:
        run_folder: the folder of the run.
        state: freshly built with `config`; filled in place.
        config: of this start; see `MAY_DIFFER_ON_RESUME`.

    Returns:
        Whether these weights have been validated.

    Raises:
        ConfigError: a setting differs from that of the run.
        CheckpointError: a file is missing, truncated, or does not fit the model.
    """
    folder = (run_folder / LAST).resolve()
    _check_same_config(folder, config)
    load_weights(state.model, read_weights(folder / MODEL_FILE), where=str(folder / MODEL_FILE))
    if state.ema is not None:
        load_weights(state.ema.model, read_weights(folder / EMA_FILE), where=str(folder / EMA_FILE))
    path = folder / STATE_FILE
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        state.step, state.best_metric = int(stored["step"]), stored["best_metric"]
        state.optimizer.load_state_dict(stored["optimizer"])
        path = folder / VALIDATION_FILE
        is_validated = path.exists()
        if is_validated:
            value = float(json.loads(path.read_text("utf-8"))[config.evaluation.metric])
            state.best_metric = value if state.best_metric is None else max(value, state.best_metric)
    except Exception as error:  # torch.load raises many kinds for a damaged file
        raise CheckpointError(
            f"{path} is missing or damaged ({type(error).__name__}). To go on from an older checkpoint of"
            f" {folder.parent}, make the link {run_folder / LAST} point to it."
        ) from error
    return is_validated


def finish_replacing(run_folder: Path) -> None:
    """Tidy up after a kill while a checkpoint was replaced by another one of its step: one of the two stays."""
    for replaced in (run_folder / CHECKPOINTS).glob(f"{_REPLACED}*"):
        folder = replaced.with_name(replaced.name.removeprefix(_REPLACED))
        if folder.exists():
            shutil.rmtree(replaced)
        else:
            replaced.rename(folder)


def has_checkpoint(run_folder: Path) -> bool:
    """Whether there is something to resume from."""
    return (run_folder / LAST).is_symlink()


def check_run_folder(run_folder: Path, *, resume: bool) -> None:
    """See that no run is overwritten. A folder `data` in it, as the demo has, is no run.

    Raises:
        ConfigError: the folder is in use and `resume` is false.
    """
    if resume or not run_folder.exists():
        return
    if not run_folder.is_dir() or any(entry.name != "data" for entry in run_folder.iterdir()):
        raise ConfigError(
            f"The run folder {run_folder} exists and is not empty. Go on with that run by --resume, or choose another"
            " --run-folder."
        )


def _point(link: Path, target: Path) -> None:
    """A relative symbolic link, so that the run folder can be moved; replaced in one step."""
    temporary = link.with_name(f".{link.name}_new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(target, link.parent), target_is_directory=True)
    temporary.replace(link)


def _delete_old(run_folder: Path, *, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints and the best, what was replaced, what kills left half-written."""
    folders = sorted((run_folder / CHECKPOINTS).glob("step_*"), key=lambda f: int(f.name.removeprefix("step_")))
    protected = {(run_folder / name).resolve() for name in (LAST, BEST)}
    for folder in folders[:-keep]:
        if folder.resolve() not in protected:
            shutil.rmtree(folder)
    for prefix in (_WRITING, _REPLACED):
        for folder in (run_folder / CHECKPOINTS).glob(f"{prefix}*"):
            shutil.rmtree(folder)


def _write(path: Path, text: str) -> None:
    """Replace a small file in one step."""
    temporary = path.with_name(f".{path.name}_new")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)


def _check_same_config(folder: Path, config: Config) -> None:
    try:
        stored = _flatten(json.loads((folder / CONFIG_FILE).read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG_FILE} is missing or damaged ({type(error).__name__}).") from error
    current = _flatten(config_to_dict(config))
    missing = "(not there)"
    differing = [
        f"{key} is {current.get(key, missing)!r} now, {stored.get(key, missing)!r} in the run"
        for key in sorted({*stored, *current} - MAY_DIFFER_ON_RESUME)
        if stored.get(key, missing) != current.get(key, missing)
    ]
    if differing:
        raise ConfigError(
            f"A run goes on only with its own settings. Different from {folder / CONFIG_FILE}:\n  "
            + "\n  ".join(differing)
            + f"\n  Resume with the config.yaml of the run folder (only {', '.join(sorted(MAY_DIFFER_ON_RESUME))} may"
            " change), or start a new run in another folder."
        )


def _flatten(data: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key."""
    if not isinstance(data, dict):
        return {prefix: data}
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= _flatten(value, f"{prefix}.{key}" if prefix else key)
    return flat
