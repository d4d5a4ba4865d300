"""`panoptic-deeplab VERB ...`: the command line. Each verb has a file here; `terminal.py` alone prints.

Options are the fields of the verbs' dataclasses, and tyro parses them. `train` holds a whole `Config`, which
`config/io.py` reads from a recipe, so every setting of it is an option (`--train.max-steps 100`); verbs that use a
trained model hold the few settings of `option_values.py`, which are laid over the model's own when it opens.

Errors made by the user end with one message on stderr and exit code 2; `--debug` shows the traceback. What the system
refuses (a full disk, a folder without permission) is one message with exit code 2 too. Verbs that report numbers take
`--json` and then write one JSON document to stdout and nothing else.
"""

import inspect
import os
import select
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn, Union

import tyro

from panoptic_deeplab import __version__
from panoptic_deeplab.cli.batch import Batch
from panoptic_deeplab.cli.benchmark import Benchmark
from panoptic_deeplab.cli.convert import ConvertCheckpoint
from panoptic_deeplab.cli.data import CheckData, ConvertData, ShowData, TableOfData
from panoptic_deeplab.cli.data_init import InitData
from panoptic_deeplab.cli.demo import Demo
from panoptic_deeplab.cli.doctor import Doctor
from panoptic_deeplab.cli.evaluate import Evaluate
from panoptic_deeplab.cli.export import Export
from panoptic_deeplab.cli.models import Models
from panoptic_deeplab.cli.option_values import COMMON_OPTIONS, HELP_ALL, OPTION_TYPES, with_home
from panoptic_deeplab.cli.predict.command import Predict
from panoptic_deeplab.cli.serve import Serve
from panoptic_deeplab.cli.submission import Submission
from panoptic_deeplab.cli.terminal import parsed, prepare_terminal, say, say_error
from panoptic_deeplab.cli.train import Train
from panoptic_deeplab.cli.verb import Verb, is_main_process, leading_recipe
from panoptic_deeplab.errors import ConfigError, PanopticDeepLabError, StoppedBySignal

PROGRAM = "panoptic-deeplab"

VERBS: dict[str, type[Verb]] = {
    "train": Train,
    "evaluate": Evaluate,
    "predict": Predict,
    "batch": Batch,
    "submission": Submission,
    "data init": InitData,
    "data check": CheckData,
    "data show": ShowData,
    "data convert": ConvertData,
    "data table": TableOfData,
    "demo": Demo,
    "models": Models,
    "convert": ConvertCheckpoint,
    "export": Export,
    "serve": Serve,
    "benchmark": Benchmark,
    "doctor": Doctor,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command.

    Args:
        arguments: without the program's name; None = of this process.

    Raises:
        SystemExit: with code 2 after an error of the user or the system, 1 after a finding (of `data check`, `doctor`,
            or an image that cannot be predicted), 130 after Ctrl-C, 143 after SIGTERM in a training, 0 after `--help`.
    """
    arguments = with_home(sys.argv[1:] if arguments is None else arguments)
    prepare_terminal(is_main_process=is_main_process())
    if arguments == ["--version"]:
        say(f"{PROGRAM} {__version__}")
        return
    try:
        parse(arguments).execute()
        sys.stdout.flush()
    except (PanopticDeepLabError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _reader_has_left():
            return
        if "--debug" in arguments:
            raise
        say_error(f"{type(error).__name__}: {error}")
        raise SystemExit(2) from error
    except KeyboardInterrupt as interrupt:
        say_error(str(interrupt) or "Interrupted.")
        number = interrupt.number if isinstance(interrupt, StoppedBySignal) else signal.SIGINT
        raise SystemExit(128 + number) from interrupt  # as a shell tells of a signal


def _reader_has_left() -> bool:
    """Whether stdout is a pipe whose end is closed: `| head` has seen enough, which is no error."""
    if not hasattr(select, "poll"):  # Windows has no such pipes
        return False
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # an error is reported whatever is asked for
    if not poll.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python still flushes at exit
    return True


def parse(arguments: list[str]) -> Any:
    """Give the verb that the arguments name, with its options; nothing is read but a recipe, or a model for its help.

    Args:
        arguments: without the name of the program.

    Raises:
        ConfigError: a recipe does not exist, is wrong, or is named twice.
        SystemExit: with code 2 where tyro finds a mistake, and 0 after the help.
    """
    words = 2 if arguments[:1] == ["data"] else 1
    name, rest = " ".join(arguments[:words]), arguments[words:]
    if name not in VERBS:
        _overview(arguments)
    verb, prog, registry = VERBS[name], f"{PROGRAM} {name}", OPTION_TYPES
    if verb is Train:
        if not {"-h", "--help"}.isdisjoint(rest):
            registry = COMMON_OPTIONS
        rest = ["--help" if word == HELP_ALL else word for word in rest]
    default = verb.defaults(rest)
    if default is not None:
        return parsed(lambda: tyro.cli(verb, prog=prog, args=rest, default=default, registry=registry), rest, default)
    options = parsed(lambda: tyro.cli(verb, prog=prog, args=rest, registry=registry), rest)
    recipe = getattr(options, "recipe", None)
    if recipe is None:
        return options
    # The recipe stands behind an option, so its settings were not the defaults of this parse.
    assert leading_recipe(rest) is None
    if recipe.startswith("-"):  # tyro takes -1 for a value
        raise ConfigError(f"There is no recipe {recipe!r}. Expected a name or a YAML file: {prog} RECIPE ...")
    if rest.count(recipe) > 1:
        raise ConfigError(f"Name the recipe first: {prog} {recipe} ...")
    rest.remove(recipe)
    return parse([*arguments[:words], recipe, *rest])


def _overview(arguments: list[str]) -> NoReturn:
    """What there is to choose from: the help, or an error."""
    verbs = tuple(
        Annotated[verb, tyro.conf.subcommand(name, description=inspect.getdoc(verb).partition("\n")[0])]  # type: ignore
        for name, verb in VERBS.items()
    )
    description = f"Panoptic segmentation with Panoptic-DeepLab {__version__}. `VERB --help` explains a verb."
    choice: Any = Union[verbs]  # noqa: UP007 - the members are made at run time
    parsed(
        lambda: tyro.cli(choice, prog=PROGRAM, description=description, args=arguments, registry=OPTION_TYPES),
        arguments,
    )
    raise AssertionError("the arguments start with no verb, so tyro has exited")
