"""`export`: what an option cannot change in the file is said, not ignored."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from panoptic_deeplab.errors import ExportError
from panoptic_deeplab.inference.predictor import PanopticPredictor


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--precision", "bfloat16"], "`precision` must be float32: an exported file is float32, or INT8 with --int8"),
        (["--int8", "--precision", "float16"], "`precision` must be float32"),
        (["--calibration", 100], "`calibration` and `data` are for --int8"),
        (["--data.val-split", "val:2"], "`calibration` and `data` are for --int8"),
        (["--panoptic", "--test-time-augmentation.flip"], "`test_time_augmentation` needs the raw maps"),
        (["--panoptic", "--test-time-augmentation.scales", 1, 2], "`test_time_augmentation` needs the raw maps"),
        (["--compile", "--int8"], "`compile` is for the format torch, which has no INT8 form"),
        (["--int8", "--calibration", 0], "`calibration` must be positive. Got 0"),
    ],
)
def test_options_without_an_effect(
    run: Callable[..., Any], model_folder: Path, tmp_path: Path, options: list[Any], message: str
) -> None:
    outcome = run("export", "--model", model_folder, "--output", tmp_path / "model.onnx", *options)
    assert outcome.code == 2
    assert message in outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [["--compile"], ["--panoptic", "--test-time-augmentation.no-enabled", "--test-time-augmentation.flip"]],
)
def test_the_model_itself_is_not_compiled(
    run: Callable[..., Any], model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    """--compile is about the file; the model is run only to be compared with it."""
    exported: list[tuple[PanopticPredictor, dict[str, Any]]] = []

    def export_model(predictor: PanopticPredictor, path: Path, **arguments: Any) -> None:
        exported.append((predictor, arguments))
        raise ExportError("stop")

    monkeypatch.setattr("panoptic_deeplab.export.exporter.export_model", export_model)
    path = tmp_path / "model.pt2"
    outcome = run("export", "--model", model_folder, "--output", path, "--format", "torch", *options)
    assert outcome.err.endswith("ExportError: stop\n")
    ((predictor, arguments),) = exported
    assert not predictor.engine.compile
    assert arguments["compiled"] == ("--compile" in options)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("file/x.onnx", "file cannot be made a folder"),
        ("folder.onnx", "`output` must be a file"),
        ("x.xml", "`output` must end in .onnx for the format onnx"),
    ],
)
def test_what_cannot_be_written_is_said_before_the_model_is_loaded(
    run: Callable[..., Any],
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    output: str,
    message: str,
) -> None:
    monkeypatch.delattr(PanopticPredictor, "from_pretrained")
    (tmp_path / "file").touch()
    (tmp_path / "folder.onnx").mkdir()
    outcome = run("export", "--model", model_folder, "--output", tmp_path / output)
    assert outcome.code == 2
    assert message in " ".join(outcome.err.split())
