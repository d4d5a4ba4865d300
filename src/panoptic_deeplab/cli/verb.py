"""What all verbs of the command line share: options, output, the recipe or model folder they start from."""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.progress import Progress, TextColumn

from panoptic_deeplab.cli.terminal import error_console
from panoptic_deeplab.config.io import recipe_names
from panoptic_deeplab.errors import ConfigError

Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]
"""An option that is off unless named."""

Device = Annotated[str, tyro.conf.arg(metavar="DEVICE")]
"""`cpu`, `cuda`, `cuda:1`, or `auto` = CUDA where there is one."""

Folder = Annotated[Path, tyro.conf.arg(metavar="FOLDER")]

OptionalFolder = Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")]

PACKAGED_RECIPES = ", ".join(recipe_names())
"""For the help."""


@dataclass(frozen=True, kw_only=True)
class Verb(ABC):
    """One verb: its fields are its options, its docstring the help."""

    debug: Flag = False
    """Show the traceback of an error."""

    @classmethod
    def defaults(cls, arguments: Sequence[str]) -> "Verb | None":
        """The values that options not named keep, where they depend on the recipe, or for the help on the model.

        Args:
            arguments: the command line after the verb.
        """
        return None

    @abstractmethod
    def execute(self) -> None:
        """Do it."""


def make_folder(folder: Path) -> None:
    """Make the folder of `--output`, before the work whose result goes there.

    Raises:
        ConfigError: it is a URL, or cannot be made or written to.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", folder.as_posix()):  # a path has lost one of the two slashes
        raise ConfigError(
            f"`output` {folder.as_posix().replace(':/', '://', 1)} is a URL, and results are written to folders only."
            " Name a folder, and copy it there afterwards."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"`output` {folder} cannot be made a folder ({error.strerror}). Choose another one."
        ) from error
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"`output` {folder} is not writable for this user. Choose another folder.")


@contextmanager
def progress_bar(description: str, *, enabled: bool = True) -> Iterator[Callable[..., None]]:
    """A bar on a terminal, in the first process; gives the function to call with (done, total), or (done, total, note).

    A total of None means that nobody knows it.

    Args:
        description: stands before the bar.
        enabled: False where results are printed meanwhile, which would break the bar.
    """
    hidden = not (enabled and error_console().is_terminal and is_main_process())
    columns = (*Progress.get_default_columns(), TextColumn("{task.fields[note]}", markup=False))
    with Progress(*columns, console=error_console(), transient=True, disable=hidden) as progress:
        bar = progress.add_task(description, total=None, note="")
        yield lambda done, total, note="": progress.update(bar, completed=done, total=total, note=note)


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(42), duration(100), duration(100_000)
    ('42 s', '1 min 40 s', '27 h 46 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def is_main_process() -> bool:
    """False in the processes of torchrun that leave printing to the first one."""
    return int(os.environ.get("RANK", 0)) == 0


def leading_recipe(arguments: Sequence[str]) -> str | None:
    """The recipe or YAML file, if the arguments start with one."""
    return arguments[0] if arguments and not arguments[0].startswith("-") else None
