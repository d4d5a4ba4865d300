"""What an exported file says of itself, in values that no export writes."""

import json
from typing import Any

import pytest

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config
from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.inference.exported.model_file import ModelFileInfo

INFO = ModelFileInfo(
    kind="network",
    config=Config(),
    categories=CategoryTable.load("synthetic"),
    version="1.0",
    commit=None,
    input_size=(65, 129),
)


def test_the_document_is_read_back() -> None:
    assert ModelFileInfo.from_json(INFO.to_json(), where="a.onnx") == INFO


@pytest.mark.parametrize(
    "size", ["65", ["65", "65"], 65, True, [True, 65], [65.5, 65], [65], [65, 65, 3], [0, 65], [-1, -1], [None, 1], {}]
)
def test_a_size_is_two_positive_integers(size: Any) -> None:
    document = json.loads(INFO.to_json())
    document["input"]["size"] = size
    with pytest.raises(CheckpointError, match=r"a\.onnx describes itself in a way"):
        ModelFileInfo.from_json(json.dumps(document), where="a.onnx")


@pytest.mark.parametrize(("key", "value"), [("version", None), ("version", 5), ("commit", 5), ("commit", [])])
def test_version_and_commit_are_text(key: str, value: Any) -> None:
    document = {**json.loads(INFO.to_json()), key: value}
    with pytest.raises(CheckpointError, match=rf"a\.onnx describes itself in a way .*{key}"):
        ModelFileInfo.from_json(json.dumps(document), where="a.onnx")
