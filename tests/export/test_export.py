"""Exported files: what is in them, and that they answer as PyTorch does."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config
from panoptic_deeplab.data.synthetic import SyntheticSource
from panoptic_deeplab.errors import ExportError
from panoptic_deeplab.export.exporter import export_model
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.model.weights import save_pretrained

for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
    pytest.importorskip(package)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_config: Config) -> Path:
    """A model with random weights whose maps are lively enough for instances."""
    torch.manual_seed(0)
    categories = CategoryTable.load("synthetic")
    model = PanopticDeepLab(tiny_config.model, categories.num_classes).eval()
    with torch.no_grad():
        for head in (model.semantic_head, model.center_head, model.offset_head):
            head.predict.weight.normal_(std=0.5)
        model.center_head.predict.bias.fill_(0.2)
    path = tmp_path_factory.mktemp("exported") / "model"
    save_pretrained(path, model, config=tiny_config, categories=categories)
    return path


FILES: dict[str, dict[str, Any]] = {
    "network.onnx": {"format": "onnx"},
    "panoptic.onnx": {"format": "onnx", "kind": "panoptic"},
    "panoptic.xml": {"format": "openvino", "kind": "panoptic", "size": (97, 130)},
    "network.pt2": {"format": "torch"},
}

EXPORT = """
import json, sys
from pathlib import Path
from panoptic_deeplab.export.exporter import export_model
from panoptic_deeplab.inference.predictor import PanopticPredictor
predictor = PanopticPredictor.from_pretrained(sys.argv[1], device="cpu")
for name, options in eval(sys.argv[3]).items():
    report = export_model(predictor, Path(sys.argv[2]) / name, **options)
    (Path(sys.argv[2]) / f"{name}.json").write_text(json.dumps(vars(report.agreement)))
"""


@pytest.fixture(scope="module")
def exported(folder: Path) -> Path:
    """All files, written by a process of its own: while a model is traced, sizes are symbols, no ints, and the type
    checks of the tests would refuse them."""
    target = folder.parent / "files"
    subprocess.run([sys.executable, "-c", EXPORT, folder, target, repr(FILES)], check=True, capture_output=True)
    return target


def test_files_answer_as_pytorch(folder: Path, exported: Path) -> None:
    for name in FILES:  # one test, so that parallel test processes write the files once
        check_file(folder, exported, name)


def check_file(folder: Path, exported: Path, name: str) -> None:
    agreement = json.loads((exported / f"{name}.json").read_text())
    assert agreement["differing_pixels"] <= 1e-4 * agreement["num_pixels"]
    assert agreement["score_difference"] < 1e-4
    assert all(difference < 1e-4 for difference in agreement["map_differences"].values())
    assert len(agreement["map_differences"]) == (3 if "network" in name else 0)

    predictor = PanopticPredictor.from_pretrained(folder, device="cpu")
    loaded = PanopticPredictor.from_pretrained(exported / name)
    assert loaded.categories == predictor.categories
    assert loaded.config.input == predictor.config.input
    image = SyntheticSource(1, seed=5, size=FILES[name].get("size", (90, 140)))[0].image
    ours, theirs = predictor.predict(image), loaded.predict(image)
    assert len(ours.segments_info) > 1
    assert np.mean(ours.panoptic_map == theirs.panoptic_map) > 0.9999
    assert [s.category_id for s in ours.segments_info] == [s.category_id for s in theirs.segments_info]


def test_name_of_the_file_has_to_say_what_is_in_it(folder: Path, tmp_path: Path) -> None:
    predictor = PanopticPredictor.from_pretrained(folder, device="cpu")
    with pytest.raises(ExportError, match=r"must end in \.onnx"):
        export_model(predictor, tmp_path / "model.pt2", format="onnx")


def test_command_line_from_export_to_prediction(folder: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> dict[str, Any]:
        command = [sys.executable, "-m", "panoptic_deeplab", *map(str, arguments), "--json"]
        document: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        return document

    path, photo = tmp_path / "street.onnx", tmp_path / "photo.png"
    Image.fromarray(SyntheticSource(1, seed=5, size=(65, 97))[0].image).save(photo)
    written = run("export", "--model", folder, "--output", path, "--panoptic", "--size", 65, 97)
    assert written["files"] == [str(path)]
    assert (written["kind"], written["input_size"]) == ("panoptic", [65, 97])
    (row,) = run("predict", photo, "--model", path)["images"]
    (expected,) = run("predict", photo, "--model", folder)["images"]
    assert [s["area"] for s in row["segments_info"]] == [s["area"] for s in expected["segments_info"]]
