"""A model is measured on the set that it belongs to, unless the command line names another."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from panoptic_deeplab.config import Config
from panoptic_deeplab.config.io import save_config
from panoptic_deeplab.data.convert import write_coco_panoptic
from panoptic_deeplab.data.formats.synthetic import SyntheticSource

Run = Callable[..., Any]


@pytest.fixture
def model(tmp_path: Path, tiny_config: Config, run: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model trained from the folder `here` on `set`; `elsewhere/set` is another one, with the same names."""
    for seed, folder in enumerate(("here", "elsewhere")):
        for split in ("train", "val"):
            write_coco_panoptic(SyntheticSource(2, seed=seed, size=(48, 64)), tmp_path / folder / "set", split)
    config = replace(
        tiny_config,
        data=replace(tiny_config.data, format="coco_panoptic", root="set", train_split="train", val_split="val"),
        train=replace(tiny_config.train, max_steps=1),
    )
    save_config(config, tmp_path / "tiny.yaml")
    monkeypatch.chdir(tmp_path / "here")
    outcome = run("train", tmp_path / "tiny.yaml", "--run-folder", tmp_path / "run", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    return tmp_path / "run" / "best"


def test_another_set_under_the_same_root_is_refused(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = ("evaluate", "--model", model, "--device", "cpu")
    assert run(*evaluate).code == 0
    monkeypatch.chdir(tmp_path / "elsewhere")
    outcomes = [
        run(*evaluate),
        run("submission", "--model", model, "--device", "cpu", "--split", "val", "--output", tmp_path / "files"),
        run("export", "--model", model, "--output", tmp_path / "model.onnx", "--int8"),
    ]
    for outcome in outcomes:
        assert (outcome.code, outcome.out) == (2, "")
        assert f"data.root 'set' is {tmp_path / 'elsewhere' / 'set'} here" in outcome.err
        assert "Traceback" not in outcome.err
    assert not (tmp_path / "files").exists()
    assert run(*evaluate, "--data.root", "set").code == 0
    assert run(*evaluate, f"--data.root={tmp_path / 'here' / 'set'}").code == 0


def test_one_flipped_bit_is_refused(run: Run, model: Path) -> None:
    path = model / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    outcome = run("evaluate", "--model", model, "--device", "cpu")
    assert outcome.code == 2
    assert "model.safetensors is damaged" in outcome.err
