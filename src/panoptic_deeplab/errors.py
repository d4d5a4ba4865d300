"""Every error a user can meet, and the helpers that make error messages useful.

    PanopticDeepLabError
    ├── ConfigError(ValueError)                a recipe, YAML file or command-line option is wrong
    ├── DatasetError(ValueError)               a file of a data set is missing, corrupt or contradicts another one
    ├── ImageError(ValueError)                 an image to predict cannot be read or has an unusable shape
    ├── CheckpointError(ValueError)            weights are missing, truncated or do not fit the model
    ├── TrainingError(RuntimeError)            training cannot go on (a loss is not finite)
    ├── ExportError(RuntimeError)              a model cannot be written for another runtime, or loses too much there
    ├── ClusterError(RuntimeError)             Ray, or what runs on it, gives up
    ├── OutputError(OSError)                   a file cannot be written: a full disk, a folder without permission
    └── MissingDependencyError(ImportError)    an optional package is not installed

    StoppedBySignal(KeyboardInterrupt)         no error: Ctrl+C or SIGTERM came, and what was done is kept

A message is one sentence (or a few short lines) that says what is wrong, where, what was expected and what to do.
Invariants of our own code are `assert`s, not errors.
"""

import importlib
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from types import ModuleType

_HIDDEN = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # control codes: escape sequences begin with one
    "\u2028\u2029"  # line and paragraph separators
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # order of letters
    "\ud800-\udfff"  # surrogates: bytes of a file name that are not UTF-8
    "]"
)
"""What a terminal would obey, or could not show."""


class PanopticDeepLabError(Exception):
    """Base class of all errors raised on purpose by this package."""


class ConfigError(PanopticDeepLabError, ValueError):
    """A recipe, YAML file or command-line option is wrong."""


class DatasetError(PanopticDeepLabError, ValueError):
    """A file of a data set is missing, corrupt or contradicts another one."""


class ImageError(PanopticDeepLabError, ValueError):
    """An image to predict cannot be read or has an unusable shape."""


class CheckpointError(PanopticDeepLabError, ValueError):
    """Weights are missing, truncated or do not fit the model."""


class TrainingError(PanopticDeepLabError, RuntimeError):
    """Training cannot go on."""


class ExportError(PanopticDeepLabError, RuntimeError):
    """A model cannot be written for another runtime, or loses too much there."""


class ClusterError(PanopticDeepLabError, RuntimeError):
    """Ray gives up, or what runs on it fails."""


class OutputError(PanopticDeepLabError, OSError):
    """A file cannot be written: the disk is full, or a folder is closed to this user."""


class MissingDependencyError(PanopticDeepLabError, ImportError):
    """An optional package is not installed."""


class StoppedBySignal(KeyboardInterrupt):
    """Ctrl+C or SIGTERM asked to stop, and what was done until then is on disk.

    Args:
        message: what is kept, and how to go on.
        number: what the system calls the signal.
    """

    def __init__(self, message: str, *, number: int) -> None:
        super().__init__(message)
        self.number = number


def first_line(error: BaseException) -> str:
    """The first line of what an error of another library says, for a message of ours; its type if it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def did_you_mean(name: str, choices: Iterable[str], *, see_all: str | None = None) -> str:
    """The tail of a message about an unknown name: a suggestion, or the list of what exists.

    Args:
        name: that does not exist.
        choices: those that do.
        see_all: the command that lists them, where they are too many for a message; up to three are suggested then.

    >>> did_you_mean("lerning_rate", ["learning_rate", "max_steps"])
    'Did you mean `learning_rate`?'
    """
    choices = sorted(choices)
    close = [f"`{choice}`" for choice in get_close_matches(name, choices, n=1 if see_all is None else 3)]
    listing = f"Choose from: {', '.join(choices)}." if see_all is None else f"See all with: {see_all}"
    if not close:
        return listing
    named = " or ".join(part for part in (", ".join(close[:-1]), close[-1]) if part)
    suggestion = f"Did you mean {named}?"
    return suggestion if see_all is None else f"{suggestion} {listing}"


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional module, or say how to install it.

    Args:
        module: dotted name to import.
        extra: name of the extra of this package that brings it.
        purpose: what it is needed for, as a gerund phrase ("writing ONNX").

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = (error.name or module).partition(".")[0]  # torch.utils.tensorboard is there without tensorboard
        raise MissingDependencyError(
            f'{purpose} needs the package {package}. Install it with: pip install "panoptic-deeplab[{extra}]"'
        ) from error


@contextmanager
def quiet(*loggers: str, level: int = logging.ERROR) -> Iterator[None]:
    """Within it, loggers of other libraries are silent below `level`: what they say is said in a sentence of ours."""
    levels = {name: logging.getLogger(name).level for name in loggers}
    for name in loggers:
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, before in levels.items():
            logging.getLogger(name).setLevel(before)


def visible(text: str, *, keep: str = "") -> str:
    r"""Show text that data bring, names of files and classes, as a person may be shown it.

    A name can hold what a terminal obeys (escape sequences, C1 codes), what turns the order of letters around, and what
    no encoding has. All of that becomes escapes as Python writes them; letters of every language stay.

    Args:
        text: anything.
        keep: characters to leave as they are, `"\n"` where the text has lines of our own.

    >>> visible("street\x1b[2J\n.png")
    'street\\x1b[2J\\n.png'
    """
    return _HIDDEN.sub(lambda hit: hit[0] if hit[0] in keep else hit[0].encode("unicode_escape").decode("ascii"), text)
