"""What a run writes while it trains: metrics.csv, TensorBoard events, environment.json, progress on the terminal."""

import csv
import importlib.metadata
import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from panoptic_deeplab.distributed import Process
from panoptic_deeplab.errors import require

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.csv"
ENVIRONMENT_FILE = "environment.json"

TRAINING_COLUMNS = (
    "learning_rate",
    "loss",
    "loss_semantic",
    "loss_center",
    "loss_offset",
    "images_per_second",
    "data_wait_share",
)
VALIDATION_COLUMNS = ("PQ", "SQ", "RQ", "PQ_thing", "PQ_stuff", "mIoU", "AP")
"""Empty in the rows of steps without a validation."""


class Tracker:
    """Writes in the main process; does nothing in the others.

    Args:
        run_folder: exists.
        process: this process.
        max_steps: end of the progress bar.
        start_step: steps made before, by the run that is resumed; later rows of metrics.csv are dropped.
        console: a bar is drawn there if it is a terminal; otherwise progress goes to the log, a line a log step.
    """

    def __init__(
        self, run_folder: Path, *, process: Process, max_steps: int, start_step: int, console: Console | None
    ) -> None:
        self._is_main = process.is_main
        self._max_steps = max_steps
        self._progress: Progress | None = None
        if not self._is_main:
            return
        tensorboard = require("torch.utils.tensorboard", extra="train", purpose="logging to TensorBoard")
        self._events = tensorboard.SummaryWriter(str(run_folder), purge_step=start_step + 1)
        self._csv_path = run_folder / METRICS_FILE
        _start_csv(self._csv_path, start_step)
        if console is not None and console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=console,
            )
            self._training_bar = self._progress.add_task("train", total=max_steps, completed=start_step, note="")
            self._validation_bar: TaskID | None = None

    def __enter__(self) -> "Tracker":
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
        if self._is_main:
            self._events.close()

    def advance(self, step: int) -> None:
        """Move the bar to `step` steps made."""
        if self._progress is not None:
            self._progress.update(self._training_bar, completed=step)

    def advance_validation(self, done: int, total: int) -> None:
        """Move the second bar, which is there while a validation runs."""
        if self._progress is None:
            return
        if self._validation_bar is None:
            self._validation_bar = self._progress.add_task("validate", total=total, note="")
        self._progress.update(self._validation_bar, completed=done, total=total)
        if done == total:
            self._progress.remove_task(self._validation_bar)
            self._validation_bar = None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write one row.

        Args:
            step: steps made.
            values: any of TRAINING_COLUMNS and VALIDATION_COLUMNS.
        """
        if not self._is_main:
            return
        with self._csv_path.open("a", newline="", encoding="utf-8") as file:
            row = [f"{values[c]:.8g}" if c in values else "" for c in (*TRAINING_COLUMNS, *VALIDATION_COLUMNS)]
            csv.writer(file, lineterminator="\n").writerow([step, *row])
        for name, value in values.items():
            section = "validation" if name in VALIDATION_COLUMNS else "training"
            self._events.add_scalar(f"{section}/{name}", value, step)
        self._events.flush()
        if self._progress is None:
            logger.info("%s", _line(step, self._max_steps, values))
        elif "loss" in values:
            note = f"loss {values['loss']:.3f}  {values['images_per_second']:.1f} images/s"
            self._progress.update(self._training_bar, note=note)


def write_environment(run_folder: Path, *, process: Process, seed: int, start_step: int) -> None:
    """Add this start of the run to environment.json: what a reader needs to repeat it."""
    path = run_folder / ENVIRONMENT_FILE
    starts = json.loads(path.read_text("utf-8")) if path.exists() else []
    starts.append(_environment(process) | {"seed": seed, "start_step": start_step})
    path.write_text(json.dumps(starts, indent=2) + "\n", "utf-8")


def read_metrics(run_folder: Path) -> list[dict[str, float]]:
    """The rows of metrics.csv, each with its non-empty columns."""
    with (run_folder / METRICS_FILE).open(newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def _start_csv(path: Path, start_step: int) -> None:
    """Write the header, and keep the rows up to `start_step` of the run that is resumed."""
    kept: list[list[str]] = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            kept = [row for row in list(csv.reader(file))[1:] if int(row[0]) <= start_step]
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([["step", *TRAINING_COLUMNS, *VALIDATION_COLUMNS], *kept])
    temporary.replace(path)


def _line(step: int, max_steps: int, values: Mapping[str, float]) -> str:
    parts = [f"step {step}/{max_steps}"]
    if "loss" in values:
        parts.append(
            f"loss {values['loss']:.4f} (semantic {values['loss_semantic']:.4f}, center {values['loss_center']:.4f},"
            f" offset {values['loss_offset']:.4f})  learning rate {values['learning_rate']:.3g}"
            f"  {values['images_per_second']:.2f} images/s  waiting for data {100 * values['data_wait_share']:.0f} %"
        )
    measured = [f"{name} {100 * values[name]:.2f}" for name in VALIDATION_COLUMNS if name in values]
    if measured:
        parts.append("validation: " + " ".join(measured))
    return "  ".join(parts)


def _environment(process: Process) -> dict[str, Any]:
    on_gpu = process.device.startswith("cuda")
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "commit": _git_commit(),
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in ("panoptic-deeplab", "torch", "torchvision", "timm", "numpy")},
        },
        "hardware": {
            "platform": platform.platform(),
            "cpus": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(process.device) if on_gpu else "cpu",
        },
        "world_size": process.world_size,
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The last commit that changed this package, where it was imported from a git checkout."""
    command = ["git", "-C", str(Path(__file__).parents[1]), "log", "-1", "--format=%H", "--", "."]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
