"""Progress of a training for whoever watches: bars on a terminal, or in a notebook; nothing elsewhere."""

import time
from html import escape
from typing import Any, Protocol, runtime_checkable

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

from panoptic_deeplab.errors import require

_SECONDS_BETWEEN = 0.2
"""A notebook is drawn anew at most so often."""


@runtime_checkable
class Bars(Protocol):
    """A bar of steps, and one of images while a validation runs."""

    def start(self) -> None:
        """Show them."""

    def stop(self) -> None:
        """Show the last state, and leave it there."""

    def steps(self, done: int) -> None:
        """Move the first bar to `done` steps made."""

    def note(self, text: str) -> None:
        """Write something behind the first bar."""

    def images(self, done: int, total: int) -> None:
        """Move the second bar; it is there until all are done."""


def bars(console: Console, *, total: int, done: int) -> Bars | None:
    """What can be drawn where a console writes to; None if that is neither a terminal nor a notebook.

    Args:
        console: where to.
        total: steps of the whole run.
        done: steps made before.
    """
    if console.is_jupyter:  # where it says that it is no terminal
        return _NotebookBars(total=total, done=done)
    return _TerminalBars(console, total=total, done=done) if console.is_terminal else None


class _TerminalBars:
    def __init__(self, console: Console, *, total: int, done: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._training = self._progress.add_task("train", total=total, completed=done, note="")
        self._validation: TaskID | None = None

    def start(self) -> None:
        self._progress.start()

    def stop(self) -> None:
        self._progress.stop()

    def steps(self, done: int) -> None:
        self._progress.update(self._training, completed=done)

    def note(self, text: str) -> None:
        self._progress.update(self._training, note=text)

    def images(self, done: int, total: int) -> None:
        if self._validation is None:
            self._validation = self._progress.add_task("validate", total=total, note="")
        self._progress.update(self._validation, completed=done, total=total)
        if done == total:
            self._progress.remove_task(self._validation)
            self._validation = None


class _NotebookBars:
    """HTML that IPython replaces in place: unlike widgets, it needs no further package, and stays in the saved file."""

    def __init__(self, *, total: int, done: int) -> None:
        self._total, self._done, self._text = total, done, ""
        self._images: tuple[int, int] | None = None
        self._handle: Any = None
        self._began_at = done
        self._drawn = 0.0

    def start(self) -> None:
        display = require("IPython.display", extra="train", purpose="progress in a notebook")
        self._display = display
        self._begin = time.monotonic()
        self._handle = display.display(display.HTML(self._html()), display_id=True)

    def stop(self) -> None:
        self._draw()

    def steps(self, done: int) -> None:
        self._done = done
        self._draw_sometimes()

    def note(self, text: str) -> None:
        self._text = text
        self._draw_sometimes()

    def images(self, done: int, total: int) -> None:
        self._images = None if done == total else (done, total)
        self._draw_sometimes()

    def _draw_sometimes(self) -> None:
        if time.monotonic() - self._drawn >= _SECONDS_BETWEEN:
            self._draw()

    def _draw(self) -> None:
        if self._handle is not None:  # None outside of a kernel
            self._handle.update(self._display.HTML(self._html()))
        self._drawn = time.monotonic()

    def _html(self) -> str:
        rows = [_row("train", self._done, self._total, f"{self._times()} {self._text}")]
        if self._images is not None:
            rows.append(_row("validate", *self._images, ""))
        return "".join(rows)

    def _times(self) -> str:
        spent, made = time.monotonic() - self._begin, self._done - self._began_at
        left = _clock(spent / made * (self._total - self._done)) if made else "?"
        return f"{_clock(spent)}, {left} left"


def _row(name: str, done: int, total: int, text: str) -> str:
    bar = f'<progress value="{done}" max="{total}"></progress>'
    return f"<div><code>{name}</code> {bar} {done}/{total} {escape(text)}</div>"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
