"""`input.channels` is one setting in training, prediction, tiles and exported files."""

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
from panoptic_deeplab.config.io import load_config
from panoptic_deeplab.data.dataset import PanopticDataset
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.data.sources import open_source
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.inference.exported.model_file import ModelFileInfo
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.folder import save_pretrained

tifffile = pytest.importorskip("tifffile", reason="needs the extra tiff")

Run = Callable[..., Any]
CHANNELS = (3, 0, 4)


@pytest.fixture
def scene() -> np.ndarray:
    """Five channels, of which three are a drawn street."""
    street = SyntheticSource(1, seed=3, size=(48, 64))[0].image
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 5), np.uint8)
    image[..., list(CHANNELS)] = street
    return image


@pytest.fixture
def file(tmp_path: Path, scene: np.ndarray) -> Path:
    tifffile.imwrite(tmp_path / "a.tif", scene, photometric="minisblack", planarconfig="contig")
    return tmp_path / "a.tif"


@pytest.fixture
def model(tmp_path: Path, tiny_config: Config) -> Path:
    torch.manual_seed(0)
    categories = CategoryTable.load("synthetic")
    config = replace(tiny_config, input=InputConfig(channels=CHANNELS))
    save_pretrained(
        tmp_path / "model", PanopticDeepLab(config.model, len(categories)), config=config, categories=categories
    )
    return tmp_path / "model"


@pytest.mark.parametrize("options", [[], ["--tile", "64", "--overlap", "32"]])
def test_prediction_sees_the_channels_of_the_model(
    run: Run, model: Path, file: Path, scene: np.ndarray, tmp_path: Path, options: list[str]
) -> None:
    save = ("--save", "overlay", "table", "--postprocess.stuff-area-limit", "0")
    outcome = run("predict", file, "--model", model, "--output", tmp_path / "out", *save, *options)
    assert (outcome.code, outcome.err) == (0, "")
    street = np.ascontiguousarray(scene[..., list(CHANNELS)])
    plain = PanopticPredictor.from_pretrained(
        model, input_config={"channels": None}, postprocess={"stuff_area_limit": 0}
    )
    expected = plain.predict(street)
    with (tmp_path / "out" / "table.csv").open(newline="", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    assert [(int(r["id"]), r["name"], int(r["area"])) for r in rows] == [
        (s.id, s.name, s.area) for s in expected.segments_info
    ]


def test_option_takes_the_place_of_the_setting(run: Run, model: Path, file: Path) -> None:
    outcome = run("predict", file, "--model", model, "--input.channels", "7", "0", "0", "--json")
    assert outcome.code == 2 or json.loads(outcome.out)["failed"]
    assert "has 5 channels, and `input.channels` asks for number 7" in outcome.err


def test_training_sees_what_prediction_sees(
    file: Path, model: Path, scene: np.ndarray, tmp_path: Path, tiny_config: Config
) -> None:
    root = tmp_path / "set"
    (root / "images" / "train").mkdir(parents=True)
    (root / "semantic" / "train").mkdir(parents=True)
    (root / "images" / "train" / "a.tif").write_bytes(file.read_bytes())
    Image.fromarray(np.ones((48, 64), np.uint8)).save(root / "semantic" / "train" / "a.png")
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
    config = replace(tiny_config, data=data, input=InputConfig(channels=CHANNELS))
    source = open_source(data, "train")
    assert source[0].image.shape == (48, 64, 3)
    example = PanopticDataset(source, config)[0]
    ready = PanopticPredictor.from_pretrained(model).ready(file)
    with pytest.raises(DatasetError, match=r"a has 5 channels that are no colors.*`input\.channels`"):
        PanopticDataset(source, replace(config, input=InputConfig()))[0]
    assert torch.equal(example.image[:, :48, :64], ready.prepared.tensor[:, :48, :64])


def test_setting_is_stored_with_the_model_and_in_the_words_of_exported_files(model: Path) -> None:
    stored = PanopticPredictor.from_pretrained(model).config
    assert stored.input.channels == CHANNELS
    assert load_config("demo", {"input": {"channels": [2, 0, 0]}}).input.channels == (2, 0, 0)
    info = ModelFileInfo(
        kind="network", config=stored, categories=CategoryTable.load("synthetic"), version="1", commit=None
    )
    document = json.loads(info.to_json())
    assert document["input"]["channels_before"]["channels"] == list(CHANNELS)
    assert ModelFileInfo.from_json(info.to_json(), where="it").config.input.channels == CHANNELS
