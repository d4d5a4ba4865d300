"""INT8: what becomes 8-bit, what stays, and that a file which loses too much is refused."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import TestTimeAugmentationConfig
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.data.sample import Sample
from panoptic_deeplab.errors import ExportError, PanopticDeepLabError
from panoptic_deeplab.export.network_part import Roles
from panoptic_deeplab.export.quantization import quantize_onnx, quantize_openvino
from panoptic_deeplab.export.quantized import export_quantized
from panoptic_deeplab.inference.exported.model_file import read_model_file_info
from panoptic_deeplab.inference.predictor import PanopticPredictor

SIZE = (65, 97)


def command(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "panoptic_deeplab", "export", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(("format_", "suffix"), [("onnx", ".onnx"), ("openvino", ".xml")])
def test_int8_on_the_command_line(folder: Path, tmp_path: Path, format_: str, suffix: str) -> None:
    pytest.importorskip("nncf")
    path = tmp_path / f"small{suffix}"
    options = ["--format", format_, "--panoptic", "--int8", "--calibration", 2, "--data.val-split", "val:1"]
    done = command("--model", folder, "--output", path, *options, "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    document = json.loads(done.stdout)
    assert (document["kind"], document["precision"], document["agreement"]) == ("panoptic", "int8", None)
    assert set(document["quantization"]) == {"pq_before", "pq_after", "num_images"}
    assert document["quantization"]["num_images"] == 1
    assert read_model_file_info(path).precision == "int8"

    ours, theirs = PanopticPredictor.from_pretrained(folder, device="cpu"), PanopticPredictor.from_pretrained(path)
    image = SyntheticSource(1, seed=5, size=SIZE)[0].image
    assert np.mean(ours.predict(image).semantic_map == theirs.predict(image).semantic_map) > 0.9
    quantized, in_float = convolutions(path)
    assert len(quantized) > 10
    assert in_float == 4  # the first one, and the last one of each of three heads


def convolutions(path: Path) -> tuple[set[str], int]:
    """Names of those with 8-bit weights and input; how many have float ones."""
    operators, constant_type = (onnx_graph if path.suffix == ".onnx" else openvino_graph)(path)

    def is_low(name: str) -> bool:
        kind, inputs = operators.get(name, ("", []))
        if kind in ("Concat", "MaxPool"):  # they only move numbers
            return all(map(is_low, inputs))
        return kind in ("DequantizeLinear", "FakeQuantize")

    quantized, in_float = set(), 0
    for name, (kind, inputs) in operators.items():
        if kind in ("Conv", "Convolution", "GroupConvolution"):
            is_quantized = is_low(inputs[0]) and constant_type(inputs[1]) == "int8"
            quantized |= {name} if is_quantized else set()
            in_float += not is_quantized
    return quantized, in_float


Graph = dict[str, tuple[str, list[str]]]


def onnx_graph(path: Path) -> tuple[Graph, Any]:
    """Operators by name: kind, and names of the operators or constants that they read; type of a constant."""
    import onnx

    model = onnx.load(path).graph
    writer = {output: node.name for node in model.node for output in node.output}
    types = {tensor.name: tensor.data_type for tensor in model.initializer}
    operators = {node.name: (node.op_type, [writer.get(name, name) for name in node.input]) for node in model.node}

    def constant_type(name: str) -> str:
        while name in operators:
            name = operators[name][1][0]
        return {onnx.TensorProto.INT8: "int8"}.get(types[name], "float")

    return operators, constant_type


def openvino_graph(path: Path) -> tuple[Graph, Any]:
    """The same of OpenVINO IR."""
    root = ElementTree.parse(path).getroot()
    layers = {layer.get("id"): layer for layer in root.findall("./layers/layer")}
    inputs: dict[str | None, list[str]] = {name: [] for name in layers}
    for edge in root.findall("./edges/edge"):
        inputs[edge.get("to-layer")].append(str(edge.get("from-layer")))
    operators = {str(name): (str(layer.get("type")), inputs[name]) for name, layer in layers.items()}

    def constant_type(name: str) -> str:
        while inputs[name]:
            name = inputs[name][0]
        element = layers[name].find("data")
        return {"i8": "int8"}.get(str(element is not None and element.get("element_type")), "float")

    return operators, constant_type


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "torch", "--output", "a.pt2"], "INT8 is written in the formats onnx and openvino. Got torch"),
        (
            ["--format", "torch", "--output", "a.pt2", "--compile"],
            "`compile` is for the format torch, which has no INT8",
        ),
        (["--output", "a.onnx", "--calibration", "0"], "`calibration` must be positive. Got 0"),
        (
            ["--output", "a.xml"],
            "must end in .onnx for the format onnx. Got a.xml instead; rename it, or choose --format openvino.",
        ),
    ],
)
def test_what_int8_does_not_go_with(folder: Path, options: list[str], message: str) -> None:
    done = command("--model", folder, "--int8", *options)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())


class OwnResults(Sequence[Sample]):
    """Drawn scenes, labeled by a model with what it sees in them."""

    def __init__(self, predictor: PanopticPredictor) -> None:
        self.categories = predictor.categories
        self.image_ids = ["0"]
        image = SyntheticSource(1, seed=5, size=SIZE)[0].image
        result = predictor.predict(image)
        self.samples = [
            Sample(
                image_id="0",
                image=image,
                panoptic_map=result.panoptic_map,
                segments_info=[replace(segment, score=None, objectness_score=None) for segment in result.segments_info],
            )
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: Any) -> Any:
        return self.samples[index]


IMAGE = SyntheticSource(1, seed=5, size=SIZE)[0].image
WIDER = SyntheticSource(1, seed=5, size=(65, 98))[0].image


@pytest.mark.parametrize(
    ("calibration", "change", "options", "message"),
    [
        ([IMAGE], {"categories": CategoryTable.load("cityscapes")}, {}, "The model predicts 10 classes"),
        ([IMAGE], {"samples": []}, {}, r"no labeled images .* Check data\.root and data\.val_split"),
        ([IMAGE], {"panoptic_map": None}, {}, "Image 0 has no label"),
        ([], {}, {}, "at least one calibration image. Got none"),
        ([IMAGE, WIDER], {}, {"size": SIZE}, "Calibration image 1 is 65 x 113 pixels .* takes 65 x 97 only"),
        ([IMAGE, WIDER], {}, {"size": SIZE, "kind": "panoptic"}, "Calibration image 1 is 65 x 98 pixels"),
        (
            [IMAGE],
            {"image": WIDER, "panoptic_map": np.ones((65, 98), np.int32)},
            {"size": SIZE},
            "Image 0 is 65 x 113 pixels",
        ),
        ([IMAGE], {"scales": (1.0, 2.0)}, {"size": SIZE}, "Scales are averaged"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_any_work(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    calibration: list[np.ndarray],
    change: dict[str, Any],
    options: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.setattr("panoptic_deeplab.export.quantized.trace", lambda *_, **__: pytest.fail("work was done"))
    averages = TestTimeAugmentationConfig(scales=change.get("scales", (1.0,)))
    predictor = PanopticPredictor.from_pretrained(folder, device="cpu", test_time_augmentation=averages)
    labeled = OwnResults(PanopticPredictor.from_pretrained(folder, device="cpu"))
    labeled.categories = change.get("categories", labeled.categories)
    sample_changes = {name: value for name, value in change.items() if name in ("image", "panoptic_map")}
    labeled.samples = change.get("samples", [replace(labeled.samples[0], **sample_changes)])
    with pytest.raises(PanopticDeepLabError, match=message):
        export_quantized(
            predictor, tmp_path / "a.onnx", format="onnx", calibration=calibration, labeled=labeled, **options
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format_", ["onnx", "openvino"])
def test_what_must_stay_float_is_looked_for(exported: Path, monkeypatch: pytest.MonkeyPatch, format_: str) -> None:
    """A name that is not that of NNCF would be ignored, and the convolution be quantized."""
    pytest.importorskip("nncf")
    module = "panoptic_deeplab.export.quantization"
    info = read_model_file_info(exported / "network.onnx")
    if format_ == "onnx":
        import onnx

        model, quantize = onnx.load(exported / "network.onnx"), quantize_onnx
    else:
        import openvino

        model, quantize = openvino.Core().read_model(exported / "network.xml"), quantize_openvino
    roles = Roles(first={"renamed"}, last=set(), before=set())
    monkeypatch.setattr(f"{module}.find_roles", lambda operators: roles)
    with pytest.raises(ExportError, match=r"does not keep renamed in float32"):
        quantize(model, info, [IMAGE])


def test_a_file_that_loses_too_much_is_not_written(
    folder: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = PanopticPredictor.from_pretrained(folder, device="cpu")
    assert isinstance(predictor.engine.model, torch.nn.Module)

    def write(model: object, path: Path) -> None:
        shutil.copy(exported / "network.onnx", path)

    module = "panoptic_deeplab.export.quantized"
    for name in ("trace", "onnx_model", "quantize_onnx"):
        monkeypatch.setattr(f"{module}.{name}", lambda *arguments, **options: None)
    monkeypatch.setattr(f"{module}.save_onnx", write)
    path = tmp_path / "model.onnx"
    calls: list[tuple[int, int]] = []
    arguments: dict[str, Any] = {"format": "onnx", "calibration": [IMAGE], "on_image": lambda *call: calls.append(call)}

    report = export_quantized(predictor, path, labeled=OwnResults(predictor), **arguments)
    assert report.summary() == "PQ 100.00 before, 100.00 after quantization (1 images)"
    assert report.files == (path,)
    assert calls[-1] == (2, 2)

    path.write_text("earlier")
    with torch.no_grad():
        predictor.engine.model.semantic_head.predict.weight.neg_()
    with pytest.raises(
        ExportError,
        match=r"^model\.onnx was not written, since quantization costs \d+\.\d+ PQ points: PQ 100\.00 before",
    ):
        export_quantized(predictor, path, labeled=OwnResults(predictor), **arguments)

    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"{module}.evaluate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_quantized(predictor, path, labeled=OwnResults(predictor), **arguments)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("model.onnx", "earlier")]
