"""The one way to the terminal: results, tables, messages, the log and tracebacks.

No other file of the command line prints. What passes here is made `visible`, so that a name of a file or class can
neither steer the terminal nor fake a line, and characters that its encoding lacks become escapes instead of an error.
"""

import io
import json
import logging
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from types import TracebackType
from typing import Any, TypeVar

from rich.console import Console
from rich.logging import RichHandler

from panoptic_deeplab.errors import visible

_T = TypeVar("_T")


def prepare_terminal(*, is_main_process: bool) -> None:
    """Make the streams take every character, and show what the library logs, warnings and tracebacks on stderr.

    Args:
        is_main_process: False in the processes of torchrun that leave their progress to the first one.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if error_console().is_terminal:  # shares the console with the progress bar
        handler = RichHandler(console=error_console(), show_time=False, show_level=False, show_path=False)
    handler.setFormatter(_VisibleFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("panoptic_deeplab").setLevel(logging.INFO if is_main_process else logging.WARNING)
    logging.captureWarnings(True)
    sys.excepthook = _show_traceback


def prints_on_stderr() -> redirect_stdout[Any]:
    """Send what a library prints to stdout to stderr instead, in a `with` block: stdout is for results."""
    return redirect_stdout(sys.stderr)


def say(text: object) -> None:
    """Print one line to stdout."""
    print(visible(str(text)))


def say_lines(text: str) -> None:
    """Print text of several lines to stdout; names in it have been made visible before, or a newline breaks a line."""
    print(visible(text, keep="\n"))


def say_error(text: str) -> None:
    """Print a message to stderr; further lines of it are indented, so that none looks like another message."""
    print(_message(text), file=sys.stderr)


def print_json(document: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write one JSON document to stdout, in ASCII; infinity and NaN are no JSON and would be a fault here."""
    print(json.dumps(document, indent=2, allow_nan=False))


@cache
def error_console() -> Console:
    """Where progress and messages go: stdout is for results. One for all, so that lines do not break a bar."""
    return Console(stderr=True, markup=False, emoji=False)


def parsed(parse: Callable[[], _T], *given: object) -> _T:
    """Run tyro, which prints by itself: help with the defaults, and errors with the arguments.

    Args:
        parse: the call.
        given: what it may repeat. Where that holds something to hide, tyro's text is caught and made visible; else it
            keeps its colors.
    """
    if not re.search(r"\\[nrtxuU]", repr(given)):  # repr escapes all that is not printable
        return parse()
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            return parse()
    finally:
        for caught, stream in ((out, sys.stdout), (err, sys.stderr)):
            print(visible(caught.getvalue(), keep="\n"), file=stream, end="")


class _VisibleFormatter(logging.Formatter):
    """The log, as `say_error` shows messages."""

    def format(self, record: logging.LogRecord) -> str:
        return _message(super().format(record))


def _message(text: str) -> str:
    return visible(text.rstrip("\n"), keep="\n").replace("\n", "\n  ")


def _show_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What the interpreter would print at its end."""
    print(visible("".join(traceback.format_exception(kind, error, trace)), keep="\n"), end="", file=sys.stderr)
