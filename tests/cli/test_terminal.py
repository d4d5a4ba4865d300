"""Names of files and classes reach the terminal as text, whatever they hold and whatever it can show."""

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.cli import terminal
from panoptic_deeplab.config import Config
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.results.text_table import text_table
from panoptic_deeplab.weights.folder import save_pretrained

Run = Callable[..., Any]

ESCAPE, CLASS_NAME = "\x1b[2J", "[red]汽\x1b[31m\u202e:car:\ud800 $x$ $y$\n<b>"
CLASS_SHOWN = "[red]汽\\x1b[31m\\u202e:car:\\ud800 $x$ $y$\\n<b>"


def unsafe(text: str) -> set[str]:
    """Characters that must not reach a terminal."""
    return {letter for letter in text if not letter.isprintable()} - {"\n"}


@pytest.fixture
def odd_model(tmp_path: Path, tiny_config: Config) -> Path:
    """A model one of whose classes has a name that is an attack on everything that shows it."""
    categories = CategoryTable.load("synthetic")
    rows = categories.to_json()
    for row in rows["categories"]:
        row["name"] = f"{row['name']} {CLASS_NAME}"
    folder = tmp_path / "odd_model"
    save_pretrained(folder, PanopticDeepLab(tiny_config.model, 10), config=tiny_config, categories=categories)
    (folder / "categories.json").write_text(json.dumps(rows), "utf-8")
    return folder


class Console:
    """stdout and stderr of one encoding."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
        self.bytes = {name: io.BytesIO() for name in ("stdout", "stderr")}
        for name, written in self.bytes.items():
            monkeypatch.setattr(sys, name, io.TextIOWrapper(written, encoding=encoding, write_through=True))
        self.encoding = encoding

    def text(self, name: str = "stdout") -> str:
        return self.bytes[name].getvalue().decode(self.encoding)


def test_only_one_file_of_the_command_line_prints() -> None:
    folder = Path(terminal.__file__).parent
    words = ("print(", "Console(", "sys.stdout.write", "sys.stderr")
    others = [path for path in folder.glob("*.py") if path.name != "terminal.py"]
    assert len(others) > 10
    for path in others:
        for line in path.read_text("utf-8").splitlines():
            assert not any(word in line for word in words), f"{path.name}: {line}"


def test_lines_messages_and_tables(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say(f"a{ESCAPE}\nb")
    terminal.say_lines(f"a{ESCAPE}\nb")
    terminal.say_error(f"a{ESCAPE}\nImageError: b\n")
    terminal.say_lines(text_table([("[red]x[/red]", ":car:", ESCAPE)]))
    out, err = capsys.readouterr()
    assert out.startswith("a\\x1b[2J\\nb\na\\x1b[2J\nb\n")
    assert err == "a\\x1b[2J\n  ImageError: b\n"
    for word in ("[red]x[/red]", ":car:", "\\x1b[2J"):
        assert word in out


def test_the_log_and_its_tracebacks() -> None:
    try:
        raise ValueError(f"bad {ESCAPE}\nname")
    except ValueError:
        record = logging.makeLogRecord({"msg": "read %s", "args": (ESCAPE,), "exc_info": sys.exc_info()})
    text = terminal._VisibleFormatter("%(message)s").format(record)
    assert text.startswith("read \\x1b[2J\n  Traceback")
    assert "bad \\x1b[2J\n  name" in text


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_no_console_is_too_small_for_a_name(
    monkeypatch: pytest.MonkeyPatch, run: Run, odd_model: Path, photo: Path, tmp_path: Path, encoding: str
) -> None:
    photo.rename(tmp_path / f"ü汽{ESCAPE}.jpg")
    console = Console(monkeypatch, encoding)
    model = ("--model", odd_model, "--postprocess.stuff-area-limit", "0")
    check = ("data", "check", "--data.format", "synthetic", "--data.categories", odd_model / "categories.json")
    for arguments in (
        ("predict", tmp_path / f"ü汽{ESCAPE}.jpg", *model),
        ("predict", tmp_path / f"ü汽{ESCAPE}.jpg", *model, "--json"),
        ("predict", tmp_path / f"ü汽{ESCAPE}.jpg", *model, "--output", tmp_path / f"ö{ESCAPE}"),
        ("predict", tmp_path / f"absent{ESCAPE}汽.jpg", *model),
        ("evaluate", *model, "--per-class", "--output", tmp_path / "report"),
        ("evaluate", *model),
        ("evaluate", *model, "--json"),
        (*check, "--split", "train:1"),
        (*check, "--split", "train:1", "--json"),
        ("evaluate", *model, "--help"),
    ):
        assert run(*arguments).code == (2 if "absent" in str(arguments) else 0), (arguments, console.text("stderr"))
    assert not unsafe(console.text()), unsafe(console.text())
    assert not unsafe(console.text("stderr"))
    name = CLASS_SHOWN if encoding == "utf-8" else CLASS_SHOWN.replace("汽", "\\u6c7d")
    assert name in console.text().replace("\n", "")
    assert CLASS_SHOWN in (tmp_path / "report" / "table.txt").read_text("utf-8")


def test_json_is_ascii(run: Run, odd_model: Path, photo: Path) -> None:
    outcome = run("predict", photo, "--model", odd_model, "--json", "--postprocess.stuff-area-limit", "0")
    assert outcome.out.isascii()
    names = {segment["name"] for segment in json.loads(outcome.out)["images"][0]["segments_info"]}
    assert names
    assert all(name.endswith(CLASS_NAME) for name in names)


def test_a_file_name_that_is_not_utf8_comes_back_from_the_json(
    run: Run, model_folder: Path, photo: Path, tmp_path: Path
) -> None:
    name = os.fsencode(tmp_path / "stra") + b"\xdfe.png"
    try:
        with Image.open(photo) as picture, open(name, "wb") as file:  # noqa: PTH123 - a path in bytes
            picture.save(file, "PNG")
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such name")
    output = tmp_path / "out"
    options = ("--model", model_folder, "--output", output, "--save", "overlay", "panoptic", "instances")
    outcome = run("predict", os.fsdecode(name), *options, "--json")
    assert outcome.code == 0
    document = json.loads(outcome.out)
    assert os.fsencode(document["images"][0]["image"]) == name
    assert all(Path(file).exists() for file in document["files"])
    listed = json.loads((output / "panoptic.json").read_text("ascii"))["images"]
    assert os.fsencode(listed[0]["file_name"]) == name
    printed = run("predict", os.fsdecode(name), "--model", model_folder)
    assert printed.code == 0
    assert "stra\\udcdfe.png" in printed.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "a.jpg", "--model", "m", "--save", ESCAPE),
        ("predict", "a.jpg", "--model", "m", f"--{ESCAPE}.jpg"),
        ("predict", "a.jpg", "--model", ESCAPE),
        (ESCAPE,),
        ("train", ESCAPE),
        ("data", "check", ESCAPE),
        ("data", f"x{ESCAPE}"),
        ("export", "--model", ESCAPE, "--output", "a.onnx"),
        ("benchmark", "--recipes", ESCAPE),
        ("convert", ESCAPE, "--from", ESCAPE, "--output", "out"),
    ],
)
def test_arguments_come_back_visible(run: Run, arguments: tuple[str, ...]) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2
    assert not unsafe(outcome.out + outcome.err)
    assert outcome.err


def test_defaults_of_a_model_are_shown_visible(run: Run, odd_model: Path) -> None:
    config = json.loads((odd_model / "config.json").read_text("utf-8"))
    config["data"]["root"] = f"data{ESCAPE}"
    (odd_model / "config.json").write_text(json.dumps(config), "utf-8")
    outcome = run("evaluate", "--model", odd_model, "--help")
    assert not unsafe(outcome.out + outcome.err)


def test_a_traceback_is_made_visible() -> None:
    command = [sys.executable, "-m", "panoptic_deeplab", "train", f"absent{ESCAPE}", "--debug"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ConfigError" in done.stderr
    assert not unsafe(done.stderr)


def test_a_warning_is_made_visible(tmp_path: Path) -> None:
    code = (
        "import warnings\n"
        "from panoptic_deeplab.cli.terminal import prepare_terminal\n"
        "prepare_terminal(is_main_process=True)\n"
        f"warnings.warn({f'odd {ESCAPE}'!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "odd \\x1b[2J" in done.stderr
    assert not unsafe(done.stderr)


def test_json_has_no_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        terminal.print_json({"pq": float("nan")})


def test_twelve_bits_in_sixteen_are_named_once(run: Run, model_folder: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 50), 4000, np.uint16)).save(tmp_path / "dark.png")
    Image.fromarray(np.full((40, 50), 40000, np.uint16)).save(tmp_path / "light.png")
    outcome = run("predict", tmp_path, "--model", model_folder)
    assert outcome.code == 0
    assert outcome.err.count("dark.png has 16 bits a channel") == 1
    assert "light.png" not in outcome.err
    document = json.loads(run("predict", tmp_path, "--model", model_folder, "--json").out)
    (warning,) = document["warnings"]
    assert warning["image"] == str(tmp_path / "dark.png")
    assert "16 bits a channel" in warning["warning"]
