"""Options that `predict` and `evaluate` share: several models, scales and flip, output stride."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config, TestTimeAugmentationConfig
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.folder import save_pretrained

Run = Callable[..., Any]


@pytest.fixture
def second_model(tmp_path: Path, tiny_config: Config) -> Path:
    """Other weights, another output stride, other colors."""
    config = replace(
        tiny_config,
        model=replace(tiny_config.model, output_stride=32),
        input=replace(tiny_config.input, pixel_mean=(0.5, 0.5, 0.5)),
    )
    categories = CategoryTable.load("synthetic")
    torch.manual_seed(1)
    folder = tmp_path / "second"
    save_pretrained(folder, PanopticDeepLab(config.model, 10), config=config, categories=categories)
    return folder


def predicted(run: Run, photo: Path, folder: Path, *options: object) -> np.ndarray:
    """The semantic map, in which random weights show more than in the panoptic one."""
    outcome = run("predict", photo, "--output", folder, "--save", "semantic", *options)
    assert outcome.code == 0, outcome.err
    with Image.open(folder / f"{photo.stem}_semantic.png") as picture:
        return np.asarray(picture)


def test_scales_and_flip(run: Run, model_folder: Path, photo: Path, tmp_path: Path) -> None:
    options = ("--test-time-augmentation.scales", "0.5", "1", "--test-time-augmentation.flip")
    train_ids = predicted(run, photo, tmp_path / "out", "--model", model_folder, *options)
    asked = TestTimeAugmentationConfig(scales=(0.5, 1.0), flip=True)
    expected = PanopticPredictor.from_pretrained(model_folder, device="cpu", test_time_augmentation=asked)
    plain = PanopticPredictor.from_pretrained(model_folder, device="cpu")
    assert np.array_equal(train_ids, expected.predict(photo).semantic_map)
    assert not np.array_equal(train_ids, plain.predict(photo).semantic_map)


def test_output_stride(run: Run, model_folder: Path, photo: Path, tmp_path: Path) -> None:
    train_ids = predicted(run, photo, tmp_path / "out", "--model", model_folder, "--output-stride", "8")
    expected = PanopticPredictor.from_pretrained(model_folder, device="cpu", output_stride=8)
    plain = PanopticPredictor.from_pretrained(model_folder, device="cpu")
    assert np.array_equal(train_ids, expected.predict(photo).semantic_map)
    assert not np.array_equal(train_ids, plain.predict(photo).semantic_map)


def test_ensemble(run: Run, model_folder: Path, second_model: Path, photo: Path, tmp_path: Path) -> None:
    train_ids = predicted(run, photo, tmp_path / "out", "--model", model_folder, "--model", second_model)
    members = [PanopticPredictor.from_pretrained(folder, device="cpu") for folder in (model_folder, second_model)]
    assert np.array_equal(train_ids, PanopticPredictor.ensemble(members).predict(photo).semantic_map)
    assert not np.array_equal(train_ids, members[0].predict(photo).semantic_map)


def test_evaluation_names_all_models_and_what_was_asked_of_them(
    run: Run, model_folder: Path, second_model: Path
) -> None:
    options = ("--test-time-augmentation.flip", "--output-stride", "16", "--device", "cpu", "--json")
    outcome = run("evaluate", "--model", model_folder, f"--model={second_model}", *options)
    provenance = json.loads(outcome.out)["provenance"]
    assert provenance["models"] == [str(model_folder), str(second_model)]
    assert provenance["settings"]["output_stride"] == 16
    assert provenance["settings"]["test_time_augmentation"] == {"enabled": True, "scales": [1.0], "flip": True}
    assert provenance["settings"]["input"]["pixel_mean"] == [0.485, 0.456, 0.406]  # of the first


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--input.scale", "2"], "ConfigError: `input` and `object_size` cannot be set for an ensemble"),
        (["--test-time-augmentation.scales"], "`test_time_augmentation.scales` must be"),
        (["--test-time-augmentation.scales", "1", "0"], "`test_time_augmentation.scales` must be"),
        (["--output-stride", "4"], "--output-stride"),
    ],
)
def test_options_that_make_no_sense(
    run: Run, model_folder: Path, second_model: Path, photo: Path, options: list[str], words: str
) -> None:
    outcome = run("predict", photo, "--model", model_folder, "--model", second_model, *options)
    assert (outcome.code, outcome.out) == (2, "")
    assert words in outcome.err


def test_compiling_without_a_compiler(
    run: Run, model_folder: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    outcome = run("predict", photo, "--model", model_folder, "--device", "cpu", "--compile")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("ConfigError: `compile` needs a C++ compiler, the one in CXX, no-such-compiler.")


@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_no_model(run: Run, photo: Path, verb: str) -> None:
    outcome = run(verb, *([photo] if verb == "predict" else []))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("ConfigError: Name a model folder with --model")
