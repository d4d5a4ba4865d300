"""An image goes from `predict` to its overlay through few of our files, so that a reader can follow it."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import panoptic_deeplab

ROOT = str(Path(panoptic_deeplab.__file__).parent)
FILES, MOVES = 69, 295
"""With some slack: what is new on the way has to be worth it."""


def test_few_files_and_few_moves(run: Callable[..., Any], model_folder: Path, photo: Path, tmp_path: Path) -> None:
    command = ("predict", photo, "--model", model_folder, "--device", "cpu", "--output")
    assert run(*command, tmp_path / "first").code == 0
    files: set[str] = set()
    moves = 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal moves
        here = frame.f_code.co_filename
        if event == "call" and here.startswith(ROOT):
            files.add(here)
            before = frame.f_back.f_code.co_filename if frame.f_back else ""
            moves += before.startswith(ROOT) and before != here

    previous = sys.getprofile()
    sys.setprofile(count)
    try:
        outcome = run(*command, tmp_path / "second")
    finally:
        sys.setprofile(previous)
    assert outcome.code == 0
    assert 20 < len(files) <= FILES, sorted(files)
    assert 0 < moves <= MOVES
