from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from panoptic_deeplab.cli.train import default_run_folder
from panoptic_deeplab.config_io import load_config
from panoptic_deeplab.model.weights import load_pretrained

Run = Callable[..., Any]


def test_recipe_with_overrides_ends_in_a_model_folder(run: Run, tiny_recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = ("--train.max-steps", "1", "--data.crop-size", "33", "65", "--device", "cpu")
    outcome = run("train", tiny_recipe, "--run", folder, *options)
    assert (outcome.code, outcome.out) == (0, f"{folder / 'best'}\n")
    _, config, categories = load_pretrained(folder / "best")
    assert (config.train.max_steps, config.data.crop_size) == (1, (33, 65))
    assert categories.name == "synthetic"
    assert load_config(folder / "config.yaml") == config


def test_folder_in_use_is_refused_and_resume_goes_on(run: Run, tiny_recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = ("train", tiny_recipe, "--run", folder, "--train.max-steps", "1", "--device", "cpu")
    assert run(*command).code == 0
    again = run(*command)
    assert again.code == 2
    assert again.err.startswith("ConfigError: ")
    assert "--resume" in again.err
    assert run(*command, "--resume").code == 0


@pytest.mark.parametrize(
    ("recipe", "folder"),
    [
        ("nuclei_lite0", "runs/nuclei_lite0"),
        ("my/street.yaml", "runs/street"),
        ("runs/street/config.yaml", "runs/street"),
    ],
)
def test_default_run_folder(recipe: str, folder: str) -> None:
    assert default_run_folder(recipe) == Path(folder)
