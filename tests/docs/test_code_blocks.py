"""Every block of code in README and docs is tried: Python runs, settings are read, commands are parsed.

Commands are not run here, since they train and download: verb, options and values must be understood. A block that
cannot be tried has a comment in front of it, `<!-- not run: REASON -->`; the last test prints those.
"""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from panoptic_deeplab import CategoryTable, Config, PanopticDeepLab, VideoWriter, load_config, save_pretrained
from panoptic_deeplab.cli import parse
from panoptic_deeplab.config.yaml_text import parse_yaml

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
_BLOCK = re.compile(r"(?:^<!-- not run: (?P<reason>.+?) -->\n+)?^```(?P<language>\w+)\n(?P<code>.*?)^```", re.S | re.M)
_GENERATED = ("api", "commands.md", "settings.md", "python-api.md", "_build")


class Block(NamedTuple):
    page: Path
    language: str
    code: str
    reason: str | None


def _blocks() -> list[Block]:
    pages = [page for page in PAGES if not any(part in _GENERATED for part in page.relative_to(ROOT).parts)]
    return [
        Block(page, match["language"], match["code"], match["reason"])
        for page in sorted(pages)
        for match in _BLOCK.finditer(page.read_text("utf-8"))
    ]


BLOCKS = _blocks()


def _of(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language and block.reason is None]


def _name(block: Block) -> str:
    return f"{block.page.relative_to(ROOT)}:{block.code.strip().splitlines()[0][:40]}"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_config: Config) -> Path:
    """A folder with what the pages speak of: photographs, a video and a model."""
    generator = np.random.default_rng(0)
    for name in ("photo.jpg", "street.jpg"):
        Image.fromarray(generator.integers(0, 255, (64, 96, 3), np.uint8)).save(tmp_path / name)
    with VideoWriter(tmp_path / "movie.mp4", size=(64, 96), rate=10) as writer:
        for _ in range(2):
            writer.write(generator.integers(0, 255, (64, 96, 3), np.uint8))
    categories = CategoryTable.load(tiny_config.data.categories)
    network = PanopticDeepLab(tiny_config.model, len(categories)).eval()
    torch.nn.init.normal_(network.semantic_head.predict.weight)
    for folder in ("runs/demo/best", "runs/street/best"):
        save_pretrained(tmp_path / folder, network, config=tiny_config, categories=categories)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", sorted({block.page for block in _of("python")}), ids=lambda page: page.stem)
def test_python_runs(page: Path, world: Path) -> None:
    names: dict[str, object] = {}
    for block in _of("python"):
        if block.page == page:
            exec(compile(block.code, str(page), "exec"), names)


@pytest.mark.parametrize("block", [*_of("json"), *_of("yaml")], ids=_name)
def test_settings_are_read(block: Block, world: Path) -> None:
    if block.language == "json":
        assert CategoryTable.from_json(json.loads(block.code))
        return
    values, _ = parse_yaml(block.code, "block")
    assert isinstance(load_config(values.pop("base", "demo"), values), Config)


def _commands(block: Block) -> list[list[str]]:
    lines = re.sub(r"\\\n\s*", "", block.code).splitlines()
    return [shlex.split(line[2:], comments=True) for line in lines if line.startswith("$ ")]


@pytest.mark.parametrize("block", _of("console"), ids=_name)
def test_commands_are_understood(block: Block, world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = _commands(block)
    assert commands
    for words in commands:
        while re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # OMP_NUM_THREADS=1
            words = words[1:]
        if words[0] == "torchrun":
            words = ["panoptic-deeplab", *words[words.index("panoptic_deeplab") + 1 :]]
        program = Path(words[0]).name
        if program == "panoptic-deeplab":
            for word in words:
                if re.fullmatch(r"[\w./-]+\.yaml|[\w./-]+/config\.json", word):
                    (world / word).parent.mkdir(parents=True, exist_ok=True)
                    (world / word).write_text("base: demo\n")
            try:
                parse(words[1:])
            except SystemExit as error:
                if error.code:
                    pytest.fail(f"{' '.join(words)}\n{capsys.readouterr().err}")
        elif program == "python":
            assert (ROOT / words[1]).is_file()
        elif program == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text("utf-8"), re.M)
        else:
            assert program in {"pip", "source", "git", "cd", "curl"}, words


def test_only_blocks_with_a_reason_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    left_out = [block for block in BLOCKS if block.reason is not None]
    kinds = {"python", "json", "yaml", "console", "text", "toctree", "html", "javascript", "ini", "nginx", "dockerfile"}
    assert {block.language for block in BLOCKS} <= kinds
    lines = [f"{len(left_out)} of {len(BLOCKS)} blocks of code in README and docs are not run:"]
    lines += [f"  {_name(block)}: {block.reason}" for block in left_out]
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(lines) + "\n")
