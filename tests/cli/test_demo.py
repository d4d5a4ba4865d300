import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from panoptic_deeplab.cli import demo
from panoptic_deeplab.config import Config
from panoptic_deeplab.config.io import load_config

Run = Callable[..., Any]


def test_json_is_the_only_output(
    run: Run, tmp_path: Path, tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = replace(load_config("demo").data, crop_size=(33, 65), num_workers=0)
    config = replace(tiny_config, data=data, train=replace(tiny_config.train, max_steps=1))
    whole_demo = demo.run_demo

    def quick_demo(folder: Path, **options: Any) -> demo.DemoResult:
        return whole_demo(folder, config=config, train_scenes=2, unseen_scenes=1, **options)

    monkeypatch.setattr(demo, "run_demo", quick_demo)
    outcome = run("demo", "--synthetic", "--output", tmp_path / "demo", "--json")
    assert outcome.code == 0
    document = json.loads(outcome.out)
    assert set(document) == {"report", "model", "evaluation", "packaged"}
    assert Path(document["report"]).is_file()
    assert (Path(document["model"]) / "config.json").is_file()
    assert document["evaluation"]["num_images"] == 1
    assert document["packaged"] is None


def test_folder_of_something_else(run: Run, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    outcome = run("demo", "--output", tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("ConfigError: ")
