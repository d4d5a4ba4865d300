"""Writing a checkpoint, from which a run goes on as if it had never stopped (`read.py` reads it).

    checkpoints/step_001000/
    ├── model.safetensors, ema.safetensors, config.json, categories.json, README.md     for users
    ├── dataset.json         what identifies the data (`data/identity.py`), so that no other set is taken for it
    ├── training_state.pt    for `resume`: step, time, optimizer, best metric before this step
    ├── checksums.json       SHA-256 of all files but README.md; written last
    └── validation.json      metrics of these weights, once they are measured

On the CPU, with the same number of processes and threads, a resumed run gives the weights of an uninterrupted one bit
for bit; elsewhere up to rounding. No random state is stored, because there is none: the batch of a step and the seed of
its dropout are functions of the run's seed and the number of the step.

A run that is killed at any moment leaves a whole checkpoint to go on from: each is written into a temporary folder,
which is then renamed, and only then does `last` point to it. It is written before its validation, whose result
is added afterwards; where that is missing, a resumed run begins with the validation. So does a full disk: what could
not be written whole is removed, and the checkpoint before it stays.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config
from panoptic_deeplab.data.identity import DATASET_FILE
from panoptic_deeplab.errors import OutputError, TrainingError
from panoptic_deeplab.files import write_json, write_text, written_whole
from panoptic_deeplab.training.checkpoints.best import write_best
from panoptic_deeplab.training.checkpoints.finite import not_finite
from panoptic_deeplab.training.checkpoints.optimizer_state import optimizer_state
from panoptic_deeplab.training.checkpoints.run_folder import (
    BEST,
    CHECKPOINTS,
    LAST,
    REPLACED,
    STATE_FILE,
    VALIDATION_FILE,
    WRITING,
    checkpoints,
    newest_checkpoint,
    tidy,
)
from panoptic_deeplab.training.state import TrainingState
from panoptic_deeplab.weights.card import CARD_FILE
from panoptic_deeplab.weights.checksums import write_checksums
from panoptic_deeplab.weights.folder import EMA_FILE, save_weights, write_folder


def save_checkpoint(
    run_folder: Path,
    state: TrainingState,
    *,
    config: Config,
    categories: CategoryTable,
    dataset: Mapping[str, Any],
    model_card: str,
) -> Path:
    """Write `checkpoints/step_NNNNNN`, let `last` point to it, and delete what retention gives up.

    Args:
        run_folder: the folder of the run.
        state: what to store.
        config: configuration of the run. `keep_checkpoints` says how many of the newest are kept.
        categories: table of the classes that the model predicts.
        dataset: what identifies the data, as `data.identity.identify` returns it.
        model_card: text of the README.md beside the weights.

    Returns:
        The new folder.

    Raises:
        TrainingError: there are numbers that are not finite; nothing is written.
        OutputError: the system refuses to write; the checkpoints before this one stay.
    """
    _check_finite(run_folder, state)
    folder = run_folder / CHECKPOINTS / f"step_{state.step:06d}"
    with _undone_on_error(run_folder, folder) as temporary:
        write_folder(temporary, state.model, config=config, categories=categories, card=model_card)
        if state.ema is not None:
            save_weights(temporary / EMA_FILE, state.ema.model.state_dict())
        write_json(temporary / DATASET_FILE, dataset, indent=2)
        content = {
            "step": state.step,
            "seconds": state.seconds,
            "best_metric": state.best_metric,
            "validations_since_best": state.validations_since_best,
            "optimizer": optimizer_state(state.model, state.optimizer),
        }
        with written_whole(temporary / STATE_FILE) as path:
            torch.save(content, path)
        write_checksums(temporary, {path.name: path for path in temporary.iterdir() if path.name != CARD_FILE})
        if folder.exists():  # written before, by a run that was killed or went back to an older checkpoint
            folder.rename(folder.with_name(REPLACED + folder.name))
        temporary.rename(folder)
        _point(run_folder / LAST, folder)
    _delete_old(run_folder, keep=config.train.keep_checkpoints)
    return folder


def add_validation(
    run_folder: Path, state: TrainingState, metrics: Mapping[str, float], *, metric: str, model_card: str
) -> None:
    """Add what was measured to the checkpoint that `last` points to; it becomes `best`, too, if none was better.

    Args:
        run_folder: the folder of the run.
        state: the one with which that checkpoint was written; its `best_metric` and `validations_since_best` are
            updated.
        metrics: by name, in [0, 1].
        metric: the one that chooses the best.
        model_card: text of the README.md, with the result.

    Raises:
        OutputError: the system refuses to write; the validation is repeated on resume.
    """
    folder = newest_checkpoint(run_folder)
    assert folder is not None
    assert folder.name == f"step_{state.step:06d}"
    write_text(folder / CARD_FILE, model_card)
    is_best = state.best_metric is None or metrics[metric] > state.best_metric
    if is_best or not (run_folder / BEST).exists():  # somebody has removed it
        write_best(run_folder, folder, metrics)
    if is_best:
        state.best_metric = metrics[metric]
    state.validations_since_best = 0 if is_best else state.validations_since_best + 1
    # Last: where a kill leaves this file out, the validation is repeated, with the same outcome.
    with written_whole(folder / VALIDATION_FILE) as path:
        path.write_text(json.dumps(dict(metrics), indent=2) + "\n", "utf-8")
        write_checksums(folder, {VALIDATION_FILE: path})


@contextmanager
def _undone_on_error(run_folder: Path, folder: Path) -> Iterator[Path]:
    """Give a folder to write a checkpoint to; it is removed if that fails, and unfinished ones make room before."""
    temporary = folder.with_name(f"{WRITING}{folder.name}")
    try:
        tidy(run_folder)
        temporary.mkdir(parents=True)
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)  # where it was renamed, there is nothing to remove
    except OSError as error:
        before = [f for f in checkpoints(run_folder) if f.name != folder.name]
        go_on = f" Then --resume goes on from {before[-1]}." if before else ""
        said = str(error) if isinstance(error, OutputError) else f"{folder} cannot be written: {error}. Make room."
        raise OutputError(f"{said.replace(temporary.name, folder.name)}{go_on}") from error


def _check_finite(run_folder: Path, state: TrainingState) -> None:
    names = not_finite(state)
    if names is None:
        return
    last = newest_checkpoint(run_folder)
    begin = f", from scratch or with --model.weights {last}, which is finite" if last is not None else ""
    raise TrainingError(
        f"Step {state.step} has made weights that are not finite ({names}), so they do not become a checkpoint. Begin a"
        f" new run{begin}, with a lower train.learning_rate, more train.warmup_steps or train.clip_gradient_norm (10,"
        " say)."
    )


def _point(link: Path, target: Path) -> None:
    """A relative symbolic link, so that the run folder can be moved; replaced in one step."""
    temporary = link.with_name(f".{link.name}_new")
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(os.path.relpath(target, link.parent), target_is_directory=True)
        temporary.replace(link)
    except OSError as error:  # somebody has put a folder there, for example
        raise OutputError(
            f"The link {link} cannot be written: {error.strerror or error}. Remove what is there."
        ) from error


def _delete_old(run_folder: Path, *, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints and the last, and what was replaced; `best` has its own files."""
    protected = (run_folder / LAST).resolve()
    for folder in checkpoints(run_folder)[:-keep]:
        if folder.resolve() != protected:
            shutil.rmtree(folder)
    tidy(run_folder)
