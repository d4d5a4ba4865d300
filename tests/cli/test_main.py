import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import panoptic_deeplab
from panoptic_deeplab.cli import VERBS, main
from panoptic_deeplab.errors import ConfigError

Run = Callable[..., Any]


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"panoptic-deeplab {panoptic_deeplab.__version__}\n", "")


def test_overview_lists_every_verb(run: Run) -> None:
    outcome = run("--help")
    assert outcome.code == 0
    for verb in VERBS:
        assert verb in outcome.out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(run: Run, verb: str) -> None:
    outcome = run(*verb.split(), "--help")
    assert outcome.code == 0
    assert f"panoptic-deeplab {verb}" in outcome.out
    assert "--debug" in outcome.out


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["data"], ["data", "nonsense"]])
def test_unknown_verb_lists_the_choices(run: Run, arguments: list[str]) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert "data check" in outcome.err


def test_user_error_is_one_message_without_traceback(run: Run) -> None:
    outcome = run("train", "no_such_recipe")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("ConfigError: There is no recipe and no YAML file 'no_such_recipe'.")
    assert "Traceback" not in outcome.err


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(ConfigError):
        main(["train", "no_such_recipe", "--debug"])


def test_misspelled_option_is_refused_with_a_suggestion(run: Run) -> None:
    outcome = run("train", "demo", "--train.bach-size", "3")
    assert outcome.code == 2
    assert "--train.batch-size" in outcome.err


def test_value_out_of_range_is_refused(run: Run) -> None:
    outcome = run("train", "demo", "--train.batch-size", "0")
    assert outcome.code == 2
    assert "`train.batch_size` must be positive. Got 0" in outcome.err


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied", "out"), OSError(28, "No space left")])
def test_what_the_system_refuses_is_one_message(run: Run, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    def execute(_: object) -> None:
        raise error

    monkeypatch.setattr(VERBS["doctor"], "execute", execute)
    outcome = run("doctor")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == f"{type(error).__name__}: {error}\n"
    with pytest.raises(OSError, match=str(error.strerror)):
        main(["doctor", "--debug"])


def test_overview_is_quick_and_loads_no_pytorch() -> None:
    code = (
        "import sys; from panoptic_deeplab.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'torchvision', 'timm', 'numpy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    before = os.times()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    assert seconds < 2  # about 0.35 on an idle core


def test_module_can_be_run() -> None:
    command = [sys.executable, "-m", "panoptic_deeplab", "--version"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == f"panoptic-deeplab {panoptic_deeplab.__version__}\n"


def test_options_do_not_collide_with_those_of_torchrun() -> None:
    """torchrun takes what could abbreviate an option of its own, as `--run`, for itself, wherever it stands."""
    from torch.distributed.run import get_args_parser

    script = ["-m", "panoptic_deeplab"]
    for verb in ("train", "evaluate"):
        options = [f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(VERBS[verb])]
        parsed = get_args_parser().parse_args([*script, verb, *options])
        assert parsed.training_script_args == [verb, *options]


def test_a_broken_pipe_that_is_not_stdout_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Such as that of a worker process."""

    def fail(verb: object) -> None:
        raise BrokenPipeError("the worker is gone")

    monkeypatch.setattr("panoptic_deeplab.cli.models.Models.execute", fail)
    with pytest.raises(SystemExit, match="2"):
        main(["models"])
    assert "the worker is gone" in capfd.readouterr().err


@pytest.mark.parametrize("verb", ["data check", "data show"])
def test_a_number_is_no_recipe(run: Callable[..., Any], verb: str) -> None:
    options = ("--output", "out") if verb == "data show" else ()
    outcome = run(*verb.split(), "-1", *options)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("ConfigError: There is no recipe '-1'.")
