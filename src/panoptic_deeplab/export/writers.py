"""Programs of torch.export -> files: `.pt2`, ONNX, OpenVINO IR.

Each file describes itself (`inference/exported/model_file.py`). They are written in place; `staging.py` keeps half a
file from taking the place of a good one.

ONNX is written at opset 18, the newest that the exporter makes without conversion; every operator is of the standard
set. OpenVINO reads the ONNX form; its weights are kept in float32.
"""

import warnings
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import torch
from torch.export import ExportedProgram

from panoptic_deeplab.errors import ExportError, OutputError, first_line, quiet, require
from panoptic_deeplab.export.program import INPUT_NAME, output_names
from panoptic_deeplab.inference.exported.model_file import INFO_KEY, ModelFileInfo

ONNX_OPSET = 18

Format = Literal["onnx", "openvino", "torch"]

SUFFIX_OF_FORMAT: dict[Format, str] = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}

_LOGGERS = ("torch.onnx", "torch._export", "onnxscript", "onnx_ir")
"""What the exporters remark concerns their developers."""


def save_torch(program: ExportedProgram, path: Path, info: ModelFileInfo) -> None:
    """Write what `trace` gave as a `.pt2` that `torch.export.load` reads, with its description."""
    program.example_inputs = None  # would be pickled into the file
    # Not to the file: torch names the folder in the archive after it, and ends the process where the disk is full.
    content = BytesIO()
    with quiet(*_LOGGERS), warnings.catch_warnings(action="ignore"):
        torch.export.save(program, content, extra_files={INFO_KEY: info.to_json()})
    path.write_bytes(content.getbuffer())


def onnx_model(program: ExportedProgram, info: ModelFileInfo) -> Any:
    """The program as `onnx.ModelProto`, checked by the ONNX checker.

    Args:
        program: what `trace` gave; torch 2.14 cannot convert the same one twice.
        info: goes into the model.

    Raises:
        ExportError: an operator has no ONNX form, or the checker refuses the model.
        MissingDependencyError: onnx or onnxscript is not installed.
    """
    onnx = require("onnx", extra="onnx", purpose="writing ONNX")
    require("onnxscript", extra="onnx", purpose="writing ONNX")
    names = output_names(info.kind, info.config)
    try:
        with quiet(*_LOGGERS), warnings.catch_warnings(action="ignore"):
            written = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=ONNX_OPSET,
                input_names=[INPUT_NAME],
                output_names=names,
                verbose=False,
            )
            assert written is not None
            _forget_source(written.model)
            written.model.metadata_props[INFO_KEY] = info.to_json()
            written.model.producer_name, written.model.producer_version = "panoptic_deeplab", info.version
            proto = written.model_proto
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:  # torch and onnx raise many kinds for what they cannot convert
        raise ExportError(
            f"The model cannot be written as ONNX opset {ONNX_OPSET} ({type(error).__name__}:"
            f" {first_line(error)}). Try a fixed size (--size HEIGHT WIDTH) or --format torch."
        ) from error
    return proto


def save_onnx(proto: Any, path: Path) -> None:
    """Write an `onnx.ModelProto`, weights inside."""
    path.write_bytes(proto.SerializeToString())


def openvino_model(proto: Any) -> Any:
    """An `onnx.ModelProto` as `openvino.Model`.

    Raises:
        ExportError: OpenVINO cannot read it.
        MissingDependencyError: openvino is not installed.
    """
    openvino = require("openvino", extra="openvino", purpose="writing OpenVINO IR")
    try:
        return openvino.Core().read_model(proto.SerializeToString())
    except RuntimeError as error:
        raise ExportError(f"OpenVINO cannot read the model ({first_line(error)}).") from error


def save_openvino(model: Any, path: Path, info: ModelFileInfo) -> None:
    """Write an `openvino.Model` as IR: `.xml`, and the weights in a `.bin` beside it.

    Raises:
        OutputError: the disk is full, or the folder is closed to this user.
    """
    openvino = require("openvino", extra="openvino", purpose="writing OpenVINO IR")
    model.set_rt_info(info.to_json(), [INFO_KEY])
    try:
        openvino.save_model(model, str(path), compress_to_fp16=False)
    except RuntimeError as error:  # also for a full disk
        raise OutputError(
            f"OpenVINO cannot write {path} ({first_line(error)}). Make room, or choose another folder."
        ) from error


def _forget_source(model: Any) -> None:
    """Remove what the exporter notes of each operator: names and lines of source files on this machine."""
    for graph in (model.graph, *model.graph.subgraphs()):
        graph.metadata_props.clear()
        for value in (*graph.inputs, *graph.outputs):
            value.metadata_props.clear()
        for node in graph:
            node.metadata_props.clear()
            for value in node.outputs:
                value.metadata_props.clear()
