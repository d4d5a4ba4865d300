"""What a run writes while it trains: metrics.csv, and progress on the terminal."""

import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from rich.console import Console

from panoptic_deeplab.distributed import Process
from panoptic_deeplab.training.metrics_file import MetricsFile
from panoptic_deeplab.training.progress import Bars, bars

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.csv"

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
_COLUMNS = ("step", *TRAINING_COLUMNS, *VALIDATION_COLUMNS)


class Tracker:
    """Writes in the main process; does nothing in the others.

    Args:
        run_folder: exists.
        process: this process.
        max_steps: end of the progress bar.
        start_step: steps made before, by the run that is resumed; later rows of metrics.csv are dropped.
        console: bars are drawn there if it is a terminal or a notebook; else progress goes to the log, a line a log
            step.
    """

    def __init__(
        self, run_folder: Path, *, process: Process, max_steps: int, start_step: int, console: Console
    ) -> None:
        self._is_main = process.is_main
        self._max_steps = max_steps
        self._bars: Bars | None = None
        if self._is_main:
            self._metrics = MetricsFile(run_folder / METRICS_FILE, columns=_COLUMNS, start_step=start_step)
            self._bars = bars(console, total=max_steps, done=start_step)

    def __enter__(self) -> "Tracker":
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def advance(self, step: int) -> None:
        """Move the bar to `step` steps made."""
        if self._bars is not None:
            self._bars.steps(step)

    def advance_validation(self, done: int, total: int) -> None:
        """Move the second bar, which is there while a validation runs."""
        if self._bars is not None:
            self._bars.images(done, total)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write values of a step; it has one row, to which a second call adds (a validation takes its time).

        `values` are any of TRAINING_COLUMNS and VALIDATION_COLUMNS.
        """
        if not self._is_main:
            return
        self._metrics.write({"step": str(step), **{name: f"{value:.8g}" for name, value in values.items()}})
        if self._bars is None:
            logger.info("%s", _line(step, self._max_steps, values))
        elif "loss" in values:
            self._bars.note(f"loss {values['loss']:.3f}  {values['images_per_second']:.1f} images/s")


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
