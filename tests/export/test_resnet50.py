"""Every format for a ResNet-50 model of the paper's size."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config.io import load_config
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.export.agreement import measure_agreement
from panoptic_deeplab.inference.engines.pipeline_engine import PipelineEngine
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.folder import save_pretrained

SIZE = (129, 257)


def write_model(path: Path, *, any_size: bool) -> None:
    """Random weights, with maps of about the spread that those of a trained network have.

    For any size, the image pool is that of the whole image; the recipe's has a window, which needs to know the size.
    """
    torch.manual_seed(0)
    config = load_config(
        "cityscapes_resnet50", {"input.pad_to": None} | ({"model.image_pool_size": None} if any_size else {})
    )
    categories = CategoryTable.load(config.data.categories)
    model = PanopticDeepLab(config.model, categories.num_classes).eval()
    assert model.center_head is not None
    assert model.offset_head is not None
    with torch.inference_mode():
        raw_maps = model(torch.randn(1, 3, *SIZE))
    with torch.no_grad():
        for head, raw_map, spread in zip(
            (model.semantic_head, model.center_head, model.offset_head), raw_maps, (3.0, 0.2, 5.0), strict=True
        ):
            head.predict.weight *= spread / raw_map.std()
            head.predict.bias.zero_()
    save_pretrained(path, model, config=config, categories=categories)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return SyntheticSource(1, seed=5, size=SIZE)[0].image


@pytest.mark.slow
@pytest.mark.parametrize("size", [None, SIZE], ids=["any size", "one size"])
def test_every_format(image: np.ndarray, tmp_path: Path, size: tuple[int, int] | None) -> None:
    folder = tmp_path / "model"
    write_model(folder, any_size=size is None)
    options = [] if size is None else ["--size", *map(str, size)]
    ours = PanopticPredictor.from_pretrained(folder, device="cpu")
    images = [image] if size else [image, np.ascontiguousarray(image[:100, :200])]
    assert len(ours.predict(image).instances()) > 4
    for kind in ("network", "panoptic"):
        for suffix, format_ in ((".onnx", "onnx"), (".xml", "openvino"), (".pt2", "torch")):
            path = tmp_path / f"{kind}{suffix}"
            command = [sys.executable, "-m", "panoptic_deeplab", "export", "--model", folder, "--output", path]
            command += ["--format", format_, *options, *(["--panoptic"] if kind == "panoptic" else [])]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-3000:]
            theirs = PanopticPredictor.from_pretrained(path, device="cpu")
            assert isinstance(theirs.engine, PipelineEngine) == (kind == "panoptic")
            agreement = measure_agreement(ours, theirs, images)
            assert agreement.differing_pixels <= 1e-4 * agreement.num_pixels, (path.name, agreement)
            assert agreement.score_difference < 1e-4
            assert max(agreement.map_differences.values(), default=0) < 1e-4
