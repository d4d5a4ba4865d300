"""Files that are damaged, foreign, or hold more than a model should."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from panoptic_deeplab.errors import CheckpointError, ConfigError
from panoptic_deeplab.inference.exported.model_file import ModelFileInfo, read_model_file_info
from panoptic_deeplab.inference.exported.runtimes import ExportedPipeline, open_model_file
from panoptic_deeplab.inference.predictor import PanopticPredictor

SUFFIXES = (".onnx", ".xml", ".pt2")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_truncated_and_empty(exported: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    with pytest.raises(CheckpointError, match="There is no model file"):
        read_model_file_info(path)
    content = (exported / f"network{suffix}").read_bytes()
    for length in (len(content) // 2, 10):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_model_file_info(path)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"model\.(?:onnx|xml|pt2)"):
        read_model_file_info(path)


def test_foreign_files(tmp_path: Path) -> None:
    import onnx

    graph = onnx.helper.make_graph([], "empty", [], [])
    (tmp_path / "model.onnx").write_bytes(onnx.helper.make_model(graph).SerializeToString())
    (tmp_path / "model.xml").write_text("<net><layers/></net>")
    with zipfile.ZipFile(tmp_path / "model.pt2", "w") as archive:
        archive.writestr("archive/archive_version", "0")
    for suffix in SUFFIXES:
        with pytest.raises(CheckpointError, match="was not written by `panoptic-deeplab export`"):
            read_model_file_info(tmp_path / f"model{suffix}")


def test_document_of_another_version(exported: Path) -> None:
    text = read_model_file_info(exported / "network.onnx").to_json()
    for change in (
        {"kind": "video"},
        {"precision": "int4"},
        {"input": {}},
        {"config": {"mistake": {}}},
        {"categories": 3},
    ):
        with pytest.raises(CheckpointError, match=r"m\.onnx describes itself in a way that this version does not know"):
            ModelFileInfo.from_json(json.dumps(json.loads(text) | change), where="m.onnx")
    for broken in ("[]", "null", '"text"', text.replace('"size": null', '"size": [1e999, 1]')):
        assert broken != text
        with pytest.raises(CheckpointError, match="Export the model again"):
            ModelFileInfo.from_json(broken, where="m.onnx")
    for broken, said in (("", "is not valid JSON"), ("[" * 100_000, "is nested too deeply"), ("1" * 5000, "digits")):
        with pytest.raises(CheckpointError, match=rf"What m\.onnx says of itself .*{said}"):
            ModelFileInfo.from_json(broken, where="m.onnx")


def test_scores_that_are_not_finite(exported: Path) -> None:
    good = open_model_file(exported / "panoptic.onnx")
    image = torch.zeros(1, 40, 60, 3, dtype=torch.uint8)
    assert isinstance(good, ExportedPipeline)

    def broken(images: torch.Tensor) -> list[torch.Tensor]:
        outputs = good._run(images)
        outputs[4] = torch.full_like(outputs[4], np.nan)
        return outputs

    assert good(image)
    with pytest.raises(CheckpointError, match="not finite"):
        ExportedPipeline(good.path, good.info, broken)(image)


def test_whole_pipelines_are_not_averaged(exported: Path) -> None:
    predictor = PanopticPredictor.from_pretrained(exported / "panoptic.onnx")
    with pytest.raises(ConfigError, match=r"panoptic.onnx holds the whole pipeline.*averaged"):
        PanopticPredictor.ensemble([predictor, predictor])
