"""A small model, and the files it is exported to."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.folder import save_pretrained

EXPORT = """
import sys
from pathlib import Path
from panoptic_deeplab.export.exporter import describe
from panoptic_deeplab.export.program import trace
from panoptic_deeplab.export.writers import onnx_model, openvino_model, save_onnx, save_openvino, save_torch
from panoptic_deeplab.inference.predictor import PanopticPredictor

predictor, target = PanopticPredictor.from_pretrained(sys.argv[1], device="cpu"), Path(sys.argv[2])
for kind in ("network", "panoptic"):
    info = describe(predictor, kind=kind, size=None)
    program = trace(predictor.engine.model, info.config, info.categories, kind=kind)
    save_torch(program, target / f"{kind}.pt2", info)
    proto = onnx_model(program, info)
    save_onnx(proto, target / f"{kind}.onnx")
    save_openvino(openvino_model(proto), target / f"{kind}.xml", info)
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_config: Config) -> Path:
    """A model with random weights whose maps are lively enough for instances."""
    torch.manual_seed(0)
    categories = CategoryTable.load("synthetic")
    model = PanopticDeepLab(tiny_config.model, categories.num_classes).eval()
    assert model.center_head is not None
    assert model.offset_head is not None
    with torch.no_grad():
        for head in (model.semantic_head, model.center_head, model.offset_head):
            head.predict.weight.normal_(std=0.5)
        assert model.center_head.predict.bias is not None
        model.center_head.predict.bias.fill_(0.2)
    path = tmp_path_factory.mktemp("exported") / "model"
    limits = replace(tiny_config.postprocess, instance_area_limit=8, join_border_fraction=0.2)
    config = replace(tiny_config, postprocess=limits)
    save_pretrained(path, model, config=config, categories=categories)
    return path


@pytest.fixture(scope="session")
def exported(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All formats of the network and of the whole pipeline, for images of any size; written once, whatever the number
    of test processes.

    They are written by a process of its own: while a model is traced, sizes are symbols, no ints, and the type checks
    of the tests would refuse them.
    """
    for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    base = tmp_path_factory.getbasetemp()
    if base.name.startswith("popen-"):  # of one of several test processes
        base = base.parent
    target = base / "exported-files"
    with FileLock(base / "exported-files.lock"):
        if not (target / "done").exists():
            target.mkdir(exist_ok=True)
            done = subprocess.run(
                [sys.executable, "-c", EXPORT, folder, target], check=False, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr[-3000:]
            (target / "done").touch()
    return target
