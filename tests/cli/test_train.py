import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from panoptic_deeplab.cli.option_values import COMMON_SETTINGS
from panoptic_deeplab.cli.train import default_run_folder
from panoptic_deeplab.config import Config
from panoptic_deeplab.config.io import load_config, recipe_names
from panoptic_deeplab.training import trainer
from panoptic_deeplab.weights.open import open_pretrained

Run = Callable[..., Any]


def test_recipe_with_overrides_ends_in_a_model_folder(run: Run, tiny_recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = ("--train.max-steps", "1", "--data.crop-size", "33", "65", "--device", "cpu")
    outcome = run("train", tiny_recipe, "--run-folder", folder, *options)
    assert (outcome.code, outcome.out) == (0, f"{folder / 'best'}\n")
    _, config, categories = open_pretrained(folder / "best")
    assert (config.train.max_steps, config.data.crop_size) == (1, (33, 65))
    assert categories.name == "synthetic"
    assert load_config(folder / "config.yaml") == config


def test_folder_in_use_is_refused_and_resume_goes_on(run: Run, tiny_recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = ("train", tiny_recipe, "--run-folder", folder, "--train.max-steps", "1", "--device", "cpu")
    assert run(*command).code == 0
    again = run(*command)
    assert again.code == 2
    assert again.err.startswith("ConfigError: ")
    assert "--resume" in again.err
    assert run(*command, "--resume").code == 0


def test_recipe_is_found_behind_options(run: Run, tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Any] = []

    def train(config: Config, **options: Any) -> Path:
        trained.append((config, options["resume"]))
        return Path("best")

    monkeypatch.setattr(trainer, "train", train)
    outcome = run("train", "--train.max-steps", "2", "--resume", tiny_recipe)
    assert (outcome.code, outcome.out) == (0, "best\n")
    assert trained == [(load_config(tiny_recipe, {"train.max_steps": 2}), True)]


def test_recipe_that_is_also_the_value_of_an_option_must_come_first(run: Run, tiny_recipe: Path) -> None:
    outcome = run("train", "--run-folder", tiny_recipe, tiny_recipe)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("ConfigError: Name the recipe first: panoptic-deeplab train ")


def test_help_lists_the_packaged_recipes(run: Run) -> None:
    text = run("train", "--help").out
    words = set(re.findall(r"\w+", text))  # the help breaks lines, and draws a frame around them
    assert set(recipe_names()) <= words


def test_help_has_the_common_settings_and_help_all_has_every_one(run: Run) -> None:
    common, everything = (run("train", "nuclei_lite0", option).out for option in ("--help", "--help-all"))
    shown = set(re.findall(r"^. (--[a-z]+\.[\w.-]+)", common, re.MULTILINE))
    assert shown == {
        f"--{section}.{name}".replace("_", "-") for section, names in COMMON_SETTINGS.items() for name in names
    }
    assert shown < set(re.findall(r"^. (--[a-z]+\.[\w.-]+)", everything, re.MULTILINE))
    assert "--loss.offset-lambda" in everything
    assert "(default: 257 257)" in common
    assert "--help-all" in common


def test_settings_that_the_help_leaves_out_are_options(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Config] = []
    monkeypatch.setattr(trainer, "train", lambda config, **_: trained.append(config))
    run("train", "demo", "--loss.offset-lambda", "0.5")
    assert trained == [load_config("demo", {"loss.offset_lambda": 0.5})]


def test_what_published_weights_need_comes_from_the_recipe_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Config] = []
    monkeypatch.setattr(trainer, "train", lambda config, **_: trained.append(config))
    run("train", "cityscapes_detectron2_resnet52", "--train.batch-size", "8")
    run("train", "--train.batch-size", "8", "cityscapes_detectron2_resnet52")
    expected = load_config("cityscapes_detectron2_resnet52", {"train.batch_size": 8})
    assert trained == [expected, expected]
    assert expected.model.compat.multi_grid == (1, 2, 4)
    assert "--model.compat" not in run("train", "cityscapes_detectron2_resnet52", "--help-all").out


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
