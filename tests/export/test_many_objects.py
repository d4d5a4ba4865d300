"""Whole pipelines in ONNX Runtime, OpenVINO and torch with no, one and very many objects: tables of a fixed size."""

import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from panoptic_deeplab.inference.predictor import PanopticPredictor

FILE = Path(__file__).resolve().parents[1] / "reference" / "dots_network.py"
dots = SimpleNamespace(**runpy.run_path(str(FILE)))

EXPORT = """
import runpy
import sys
from pathlib import Path
from panoptic_deeplab.export.exporter import describe
from panoptic_deeplab.export.program import trace
from panoptic_deeplab.export.writers import onnx_model, openvino_model, save_onnx, save_openvino, save_torch

predictor, target = runpy.run_path(sys.argv[1])["predictor"](), Path(sys.argv[2])
info = describe(predictor, kind="panoptic", size=None)
program = trace(predictor.engine.model, info.config, info.categories, kind="panoptic")
save_torch(program, target / "dots.pt2", info)
proto = onnx_model(program, info)
save_onnx(proto, target / "dots.onnx")
save_openvino(openvino_model(proto), target / "dots.xml", info)
"""


def test_any_number_of_objects(tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    # In a process of its own, as in `conftest.py`.
    done = subprocess.run([sys.executable, "-c", EXPORT, FILE, tmp_path], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    for suffix in (".onnx", ".xml", ".pt2"):  # one test, so that the files are written once
        check(PanopticPredictor.from_pretrained(tmp_path / f"dots{suffix}", device="cpu"))


def check(theirs: PanopticPredictor) -> None:
    counts = (0, 1, 255, 256, 1000)
    images = [dots.image_with(count) for count in counts]
    results = theirs.predict_iter(images, batch_size=3)
    for count, expected, result in zip(counts, dots.predictor().predict(images), results, strict=True):
        assert len(result.instances()) == count
        assert np.array_equal(result.panoptic_map, expected.panoptic_map)
        for one, other in zip(result.segments_info, expected.segments_info, strict=True):
            assert replace(one, score=None, objectness_score=None) == replace(other, score=None, objectness_score=None)
            assert one.score == pytest.approx(other.score, abs=1e-4)
