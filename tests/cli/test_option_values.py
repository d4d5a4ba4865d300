"""Values on the command line mean what they mean in recipes and shells."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from panoptic_deeplab.cli.option_values import with_home
from panoptic_deeplab.config import Config
from panoptic_deeplab.config.io import load_config
from panoptic_deeplab.training import trainer

Run = Callable[..., Any]


@pytest.mark.parametrize("null", ["null", "None", "none"])
def test_null_is_written_as_in_recipes(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, null: str) -> None:
    trained: list[Config] = []
    monkeypatch.setattr(trainer, "train", lambda config, **_: trained.append(config) or Path("best"))
    recipe = tmp_path / "my.yaml"
    recipe.write_text(
        "input: {longest_side: 65, pad_to: [65, 65]}\nmodel: {backbone_weights: imagenet, atrous_rates: [1, 2, 3]}\n"
        "train: {ema_decay: 0.9, clip_gradient_norm: 1}\nloss: {class_weights: [1, 2]}\n"
    )
    names = ["input.longest_side", "input.pad_to", "model.backbone_weights", "model.atrous_rates", "train.ema_decay"]
    names += ["train.clip_gradient_norm", "loss.class_weights"]
    options = [word for name in names for word in (f"--{name.replace('_', '-')}", null)]
    outcome = run("train", recipe, *options)
    assert outcome.code == 0, outcome.err
    assert trained == [load_config(recipe, dict.fromkeys(names))]
    assert trained[0].train.ema_decay is None


def test_the_help_says_null(run: Run, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("train: {ema_decay: 0.9}\n")
    text = run("train", tmp_path / "my.yaml", "--help-all").out
    assert "--train.ema-decay null|FLOAT" in text
    assert "(default: null)" in text
    assert "None|" not in text


def test_home_is_where_the_shell_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    written = ["predict", "~/a/*.png", "--model=~/best", "--output", "~", "a=~/b", "x~", "--y=~nobody-here/z"]
    meant = ["predict", "/home/me/a/*.png", "--model=/home/me/best", "--output", "/home/me", "a=~/b", "x~"]
    assert with_home(written) == [*meant, "--y=~nobody-here/z"]
