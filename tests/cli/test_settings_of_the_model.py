"""Options that are not named keep the model's settings, which are read when the model is opened and not before."""

from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from panoptic_deeplab.cli import parse
from panoptic_deeplab.config import Config
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.inference.predictor import PanopticPredictor

Run = Callable[..., Any]


@pytest.mark.parametrize(
    "verb",
    [
        ("predict", "a.png"),
        ("evaluate",),
        ("submission", "--output", "out"),
        ("export", "--output", "a.onnx"),
        ("benchmark",),
    ],
)
@pytest.mark.parametrize("name", ["bowenc0221/R50_os32_cityscapes", "somebody/something", "{folder}"])
def test_parsing_opens_no_model(
    verb: tuple[str, ...], name: str, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*_: object, **__: object) -> None:
        pytest.fail("a model is looked for while arguments are parsed")

    monkeypatch.setattr("panoptic_deeplab.weights.locations.model_folder", opened)
    monkeypatch.setattr("panoptic_deeplab.files.read_text", opened)
    options = parse([*verb, "--model", name.format(folder=model_folder)])
    assert options.model == (name.format(folder=model_folder),)


def test_only_what_is_named_is_changed() -> None:
    named = ("--postprocess.top-k", "300", "--test-time-augmentation.no-flip", "--input.longest-side", "null")
    options = parse(["evaluate", "--model", "a/b", *named, "--data.root", "~"])
    assert options.postprocess == {"top_k": 300}
    assert options.test_time_augmentation == {"flip": False}
    assert options.input == {"longest_side": None}
    assert (set(options.data), options.evaluation) == ({"root"}, {})


@pytest.mark.parametrize("options", [("--help",), ()])
def test_damaged_settings_are_an_error_also_for_the_help(
    run: Run, model_folder: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    folder = copytree(model_folder, tmp_path / "damaged")
    (folder / "config.json").write_text('{"train": {"max_stebs": 3}}')
    outcome = run("evaluate", "--model", folder, *options)
    assert (outcome.code, outcome.out) == (2, "")
    assert "unknown key `train.max_stebs`" in outcome.err
    assert str(folder) in outcome.err


def test_one_field_of_a_section_in_python(model_folder: Path, tiny_config: Config) -> None:
    predictor = PanopticPredictor.from_pretrained(model_folder, device="cpu", postprocess={"top_k": 3})
    assert predictor.config.postprocess.top_k == 3
    assert predictor.config.postprocess.nms_kernel == tiny_config.postprocess.nms_kernel
    with pytest.raises(ConfigError, match=r"unknown key `postprocess\.topk`"):
        PanopticPredictor.from_pretrained(model_folder, device="cpu", postprocess={"topk": 3})
