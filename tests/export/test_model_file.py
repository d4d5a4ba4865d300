"""Files that are damaged, foreign, or hold more than a model should."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from panoptic_deeplab.errors import CheckpointError, ConfigError
from panoptic_deeplab.inference.ensemble import EnsemblePredictor
from panoptic_deeplab.inference.model_file import INFO_KEY, ModelFileInfo, read_model_file_info
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.inference.runtimes import ExportedPipeline, open_model_file

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
    for broken in ("", "[]", "null"):
        with pytest.raises(CheckpointError, match="Export the model again"):
            ModelFileInfo.from_json(broken, where="m.onnx")


# What could run code of the file's author. Each case changes the archive of a good file.


@pytest.fixture
def changed(exported: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of `panoptic.pt2` in which entries are changed or added, by the end of their names."""

    def change(entries: dict[str, Callable[[bytes], bytes]], new: dict[str, bytes] | None = None) -> Path:
        path, done = tmp_path / "changed.pt2", set()
        with zipfile.ZipFile(exported / "panoptic.pt2") as source, zipfile.ZipFile(path, "w") as target:
            names = source.namelist()
            for name in names:
                content = source.read(name)
                for end, function in entries.items():
                    if name.endswith(end):
                        content = function(content)
                        done.add(end)
                target.writestr(name, content)
            for end, content in (new or {}).items():
                target.writestr(f"{names[0].partition('/')[0]}/{end}", content)
        assert done == set(entries)
        return path

    return change


def replaced(old: str, new: str) -> Callable[[bytes], bytes]:
    def replace(content: bytes) -> bytes:
        assert old.encode() in content
        return content.replace(old.encode(), new.encode())

    return replace


def test_an_unchanged_copy_is_loaded(changed: Callable[..., Path]) -> None:
    path = changed({f"extra/{INFO_KEY}": lambda content: content})
    (result,) = open_model_file(path, device="cpu")(torch.zeros(1, 40, 60, 3, dtype=torch.uint8))
    assert result.size == (40, 60)


def first_formula(content: bytes) -> bytes:
    document = json.loads(content)
    assert set_first(document, "expr_str", "__import__('os').system('true')")
    return json.dumps(document).encode()


def set_first(document: Any, key: str, value: object) -> bool:
    """Replace the first value of a key, at any depth."""
    if isinstance(document, dict):
        if key in document:
            document[key] = value
            return True
        return any(set_first(inner, key, value) for inner in document.values())
    return isinstance(document, list) and any(set_first(inner, key, value) for inner in document)


def test_code_is_refused(changed: Callable[..., Path]) -> None:
    operator = "torch.ops.aten.amax.default"
    cases: list[tuple[dict[str, Callable[[bytes], bytes]], dict[str, bytes], str]] = [
        ({"models/model.json": first_formula}, {}, "never evaluated"),
        ({"models/model.json": replaced(operator, "torch.hub.load")}, {}, "'torch.hub.load' in place of an operator"),
        ({"models/model.json": replaced(operator, "_operator.call")}, {}, "never evaluated"),
        ({"models/model.json": replaced(operator, "torch.ops.aten.from_file.default")}, {}, "never evaluated"),
        ({"weights_config.json": replaced('"use_pickle": false', '"use_pickle": true')}, {}, "pickled object"),
        ({"data/sample_inputs/model.pt": lambda _: b"cos\nsystem\n(S'true'\ntR."}, {}, "pickled object"),
        ({}, {"data/aotinductor/model/code.so": b"ELF"}, "holds compiled code"),
        ({}, {"data/code.cpp": b"int main() {}"}, "holds compiled code"),
    ]
    for entries, new, message in cases:
        with pytest.raises(CheckpointError, match=message):
            open_model_file(changed(entries, new), device="cpu")


def test_broken_program(changed: Callable[..., Path]) -> None:
    path = changed({"models/model.json": lambda content: content[: len(content) // 2]})
    with pytest.raises(CheckpointError):
        open_model_file(path, device="cpu")


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
        EnsemblePredictor([predictor, predictor])
