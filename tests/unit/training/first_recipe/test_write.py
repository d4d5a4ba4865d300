"""The recipe says what it sets and why, and reads back."""

import math
from pathlib import Path

import pytest

from panoptic_deeplab.config.io import load_config
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.data.object_sizes import measured
from panoptic_deeplab.training.first_recipe import write
from panoptic_deeplab.training.first_recipe.advice import Advice, nested
from panoptic_deeplab.training.first_recipe.budget import Costs
from panoptic_deeplab.training.first_recipe.write import TEMPLATE, first_advice, recipe_text

SCENES = SyntheticSource(4, seed=1, size=(96, 160))
DATA = {"format": "synthetic", "categories": "synthetic", "train_split": "train", "val_split": "val"}


def advised(
    monkeypatch: pytest.MonkeyPatch, seconds: float, minutes: float = 30
) -> tuple[dict[str, object], list[int]]:
    """What is advised where a step at 100 x 100 pixels takes so many seconds; and the crops that were timed."""
    crops: list[int] = []

    def timed(*sources: object, device: str) -> Costs:
        config = sources[-1]
        crops.append(config.data.crop_size[0])
        step = seconds * (crops[-1] / 100) ** 2
        return Costs(step=step, reading=0, prediction=0, work=step)

    monkeypatch.setattr(write, "time_training", timed)
    advice, _ = first_advice(DATA, measured(SCENES), SCENES, SCENES, minutes=minutes)
    return {item.setting: item.value for item in advice}, crops


def test_the_steps_fill_the_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values, crops = advised(monkeypatch, 0.1)
    step = 0.1 * (crops[-1] / 100) ** 2
    assert values["train.max_minutes"] == round((0.97 * 1800 - 40) / 60, 2)
    assert values["train.max_steps"] == math.ceil(1.15 * 60 * values["train.max_minutes"] / step)
    template = load_config(TEMPLATE)
    assert values["model.backbone"] == template.model.backbone
    assert list(values["model.projections"]) == list(template.model.projections)


def test_a_slow_machine_gets_a_smaller_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    fast, _ = advised(monkeypatch, 0.01)
    slow, crops = advised(monkeypatch, 2.0)
    assert slow["data.crop_size"][0] <= fast["data.crop_size"][0]
    assert crops == sorted(crops, reverse=True)
    assert slow["train.max_steps"] >= 1


@pytest.mark.parametrize("seconds", [0.05, 0.119, 0.2, 2.0])
def test_hardly_any_time_makes_a_recipe_that_can_be_read(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    values, _ = advised(monkeypatch, seconds, minutes=0.5)
    assert values["train.max_steps"] >= 1
    assert values["train.max_minutes"] > 0


def test_the_text_reads_back_with_its_reasons(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values, _ = advised(monkeypatch, 0.1)
    advice = [Advice(setting, value, f"because of {setting}") for setting, value in values.items()]
    advice.append(Advice("train.seed", 3, "long " * 40))
    text = recipe_text(advice, header="first\nsecond")
    assert text.startswith("# first\n# second\n\ndata:\n  format: synthetic    # because of data.format\n")
    assert text.count("because of") == len(values)
    assert f"  # {('long ' * 40)}" in text
    assert "{" not in text
    path = tmp_path / "recipe.yaml"
    path.write_text(text, "utf-8")
    config = load_config(path)
    for section, settings in nested(advice).items():
        for name, value in settings.items():
            found = getattr(getattr(config, section), name)
            assert (list(found) if isinstance(found, tuple) else found) == value


def test_without_the_package_of_weights_they_are_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write.importlib.util, "find_spec", lambda name: None)
    values, _ = advised(monkeypatch, 0.1)
    assert values["model.backbone_weights"] == "imagenet"
