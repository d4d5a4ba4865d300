"""`input.range` as two numbers is one setting in training, prediction, tiles, evaluation, the service and files."""

import csv
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
from panoptic_deeplab.config import Config, DataConfig, InputConfig
from panoptic_deeplab.config.io import load_config, save_config
from panoptic_deeplab.data.dataset import PanopticDataset
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.data.sources import open_source
from panoptic_deeplab.export.exporter import without_resizing
from panoptic_deeplab.images.encoded import read_encoded
from panoptic_deeplab.images.prepare import read_for, reading
from panoptic_deeplab.inference.exported.model_file import ModelFileInfo
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.folder import save_pretrained

Run = Callable[..., Any]
LEVELS = (100.0, 100.0 + 255 * 12)
"""Black and white of a camera of 12 bits, so that each color of `street` is a number of its own."""


@pytest.fixture
def street() -> np.ndarray:
    gray = SyntheticSource(1, seed=3, size=(48, 64))[0].image[..., :1]
    return np.repeat(gray, 3, axis=2)


@pytest.fixture(params=["png", "float.tif"])
def file(request: pytest.FixtureRequest, tmp_path: Path, street: np.ndarray) -> Path:
    """The street as a camera gives it: 12 bits in 16, or floats."""
    values = street[..., 0].astype(np.uint16) * 12 + 100
    path = tmp_path / f"a.{request.param}"
    Image.fromarray(values if request.param == "png" else values.astype(np.float32)).save(path)
    return path


@pytest.fixture
def model(tmp_path: Path, tiny_config: Config) -> Path:
    torch.manual_seed(0)
    categories = CategoryTable.load("synthetic")
    config = replace(tiny_config, input=InputConfig(range=LEVELS))
    save_pretrained(
        tmp_path / "model", PanopticDeepLab(config.model, len(categories)), config=config, categories=categories
    )
    return tmp_path / "model"


def labeled_set(root: Path, images: dict[str, np.ndarray]) -> Path:
    """A folder set whose images are all of class 1."""
    for folder in ("images", "semantic"):
        (root / folder / "train").mkdir(parents=True)
    for name, pixels in images.items():
        Image.fromarray(pixels).save(root / "images" / "train" / f"{name}.tif")
        Image.fromarray(np.ones(pixels.shape, np.uint8)).save(root / "semantic" / "train" / f"{name}.png")
    return root


@pytest.mark.parametrize("options", [[], ["--tile", "64", "--overlap", "32"]])
def test_prediction_sees_the_numbers_of_the_model(
    run: Run, model: Path, file: Path, street: np.ndarray, tmp_path: Path, options: list[str]
) -> None:
    save = ("--save", "overlay", "table", "--postprocess.stuff-area-limit", "0")
    outcome = run("predict", file, "--model", model, "--output", tmp_path / "out", *save, *options)
    assert (outcome.code, outcome.err) == (0, "")
    plain = PanopticPredictor.from_pretrained(
        model, input_config={"range": "type"}, postprocess={"stuff_area_limit": 0}
    )
    expected = plain.predict(street)
    with (tmp_path / "out" / "table.csv").open(newline="", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    assert [(int(r["id"]), r["name"], int(r["area"])) for r in rows] == [
        (s.id, s.name, s.area) for s in expected.segments_info
    ]


def test_options_take_the_place_of_the_setting(run: Run, model: Path, file: Path) -> None:
    alone = run("predict", file, "--model", model, "--input.range", "percentile", "--json")
    assert (alone.code, alone.err) == (0, "")
    dark = run("predict", file, "--model", model, "--input.range", "0", "65535", "--json")
    assert "so little of `input.range` 0 65535 that it is read as nearly one color" in dark.err
    wrong = run("predict", file, "--model", model, "--input.range", "9", "3", "--json")
    assert wrong.code == 2
    assert "`input.range` must be type, percentile or two rising numbers. Got (9.0, 3.0) instead" in wrong.err


def test_training_and_service_see_what_prediction_sees(
    file: Path, model: Path, street: np.ndarray, tmp_path: Path, tiny_config: Config
) -> None:
    root = labeled_set(tmp_path / "set", {"a": np.asarray(Image.open(file))})
    data = DataConfig(
        format="folder",
        root=str(root),
        categories="synthetic",
        crop_size=(49, 65),
        flip_probability=0.0,
        min_scale=1.0,
        max_scale=1.0,
        padding="bottom_right",
    )
    config = replace(tiny_config, data=data, input=InputConfig(range=LEVELS))
    example = PanopticDataset(open_source(data, "train"), config)[0]
    predictor = PanopticPredictor.from_pretrained(model)
    seen = predictor.ready(file).prepared.tensor[:, :48, :64]
    assert torch.equal(example.image[:, :48, :64], seen)
    plain = PanopticPredictor.from_pretrained(model, input_config={"range": "type"})
    assert torch.equal(plain.ready(street).prepared.tensor[:, :48, :64], seen)
    sent = read_encoded(file.read_bytes(), max_pixels=10_000, **reading(config.input))
    assert np.array_equal(sent, read_for(file, config.input))


def test_setting_is_stored_with_the_model_and_in_the_words_of_exported_files(model: Path, tmp_path: Path) -> None:
    stored = PanopticPredictor.from_pretrained(model).config
    assert stored.input.range == LEVELS
    save_config(stored, tmp_path / "again.yaml")
    assert load_config(tmp_path / "again.yaml").input.range == LEVELS
    assert load_config("demo", {"input": {"range": [0, 4095]}}).input.range == (0.0, 4095.0)
    info = ModelFileInfo(
        kind="panoptic", config=stored, categories=CategoryTable.load("synthetic"), version="1", commit=None
    )
    assert json.loads(info.to_json())["input"]["range_before"]["range"] == list(LEVELS)
    assert ModelFileInfo.from_json(info.to_json(), where="it").config.input.range == LEVELS


def test_drawn_images_of_the_check_of_a_file_are_no_files_of_the_set() -> None:
    config = Config(input=InputConfig(range=LEVELS, channels=(4, 0, 0), scale=2.0))
    assert without_resizing(config).input == InputConfig()


def test_data_check_measures_the_set_and_knows_the_range(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = {name: rng.integers(102, 3912, (40, 50), np.uint16) for name in "ab"}
    root = labeled_set(tmp_path / "set", images)
    command = ("data", "check", "--data.format", "folder", "--data.root", root, "--data.categories", "synthetic")
    document = json.loads(run(*command, "--json").out)
    low, high = document["levels"]
    ranks = np.sort(np.stack(list(images.values())), axis=None)
    assert (low, high) == (ranks[int(0.001 * (ranks.size - 1))], ranks[int(0.999 * (ranks.size - 1))])
    narrow = [f["message"] for f in document["findings"] if "16 bits" in f["message"]]
    assert len(narrow) == 1
    assert "set `input.range` to 0 4095, or to percentile" in narrow[0]
    for range_ in (("percentile",), (str(low), str(high))):
        outcome = run(*command, "--input.range", *range_)
        assert "is read as" not in outcome.out
        assert f"percentiles 0.1 and 99.9 are {low:g} and {high:g}" in outcome.out
    assert "so little of `input.range` 0 60000" in run(*command, "--input.range", "0", "60000").out
    missing = run(*command, "--input.channels", "5", "0", "0")
    assert missing.code == 1
    assert "asks for number 5" in missing.out
