"""INT8: post-training quantization with NNCF, for OpenVINO and ONNX models.

Weights and activations of the network's convolutions become 8-bit integers, with ranges measured on calibration images.
What stays in float32:

- the first convolution, which sees the image itself, and the last one of each head, whose output is the answer: class
  scores close to each other, a heatmap with narrow peaks, and offsets of up to hundreds of pixels;
- everything before and after the network. Grouping needs positions to a fraction of a pixel.

A model loses accuracy by that, which nothing but a measurement shows (`export_quantized` makes it).
"""

import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np
from jaxtyping import UInt8

from panoptic_deeplab.errors import ExportError, first_line, quiet, require
from panoptic_deeplab.export.network_part import (
    Operator,
    cut_onnx,
    cut_openvino,
    find_roles,
    join_onnx,
    join_openvino,
    onnx_operators,
    openvino_operators,
)
from panoptic_deeplab.export.program import network_size
from panoptic_deeplab.images.prepare import prepare_image, resize_image, resized_size
from panoptic_deeplab.inference.exported.model_file import ModelFileInfo

_QUANTIZERS = frozenset({"DequantizeLinear", "FakeQuantize"})
"""What an operator reads 8-bit numbers from, in ONNX and in OpenVINO."""


def quantize_openvino(model: Any, info: ModelFileInfo, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Any:
    """Quantize the network in an `openvino.Model`, which is changed.

    Args:
        model: the network or the whole pipeline.
        info: what the model is.
        images: calibration images, at least one; a few hundred are usual.

    Raises:
        ExportError: there are no images, or NNCF cannot quantize the model.
        MissingDependencyError: openvino or nncf is not installed.
    """
    return join_openvino(model, _quantize(cut_openvino(model), openvino_operators, info, images))


def quantize_onnx(model: Any, info: ModelFileInfo, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Any:
    """Quantize the network in an `onnx.ModelProto`; arguments and errors are those of `quantize_openvino`.

    Pairs of `QuantizeLinear` and `DequantizeLinear` are put around the convolutions; runtimes turn that into integer
    arithmetic.
    """
    return join_onnx(model, _quantize(cut_onnx(model), onnx_operators, info, images))


def check_calibration(images: Sequence[UInt8[np.ndarray, "_ _ 3"]], info: ModelFileInfo) -> None:
    """See that there are images, and that the model takes them; else that is an `ExportError`."""
    if not images:
        raise ExportError("Quantization needs at least one calibration image. Got none.")
    for index, image in enumerate(images):
        check_size(image, info, name=f"Calibration image {index}")


def check_size(image: UInt8[np.ndarray, "H W 3"], info: ModelFileInfo, *, name: str) -> None:
    """See that a model for one size takes this RGB image, as it is resized and padded; `name` is for the message.

    Raises:
        ExportError: it does not.
    """
    size = resized_size((image.shape[0], image.shape[1]), info.config.input)
    if info.kind == "network":
        size = network_size(size, info.config)
    if info.input_size not in (None, size):
        raise ExportError(
            f"{name} is {size[0]} x {size[1]} pixels at the input of a file that takes {info.input_size[0]} x"
            f" {info.input_size[1]} only. Use images of one size, or leave out --size."
        )


def _quantize(
    network: Any,
    operators_of: Callable[[Any], list[Operator]],
    info: ModelFileInfo,
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
) -> Any:
    check_calibration(images, info)
    roles = find_roles(operators_of(network))
    with _without_remarks():
        nncf = require("nncf", extra="openvino", purpose="quantizing")
        nncf.set_log_level(logging.ERROR)
        try:
            quantized = nncf.quantize(
                network,
                nncf.Dataset(list(_inputs(images, info))),
                subset_size=len(images),
                # Not validated: NNCF drops casts that change nothing, which may stand before the first convolution.
                # What matters is looked for in the result.
                ignored_scope=nncf.IgnoredScope(names=sorted(roles.first | roles.last | roles.before), validate=False),
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    # One range a tensor: ONNX Runtime has no convolution with a zero point for each channel.
                    activations_quantization_params=nncf.quantization.advanced_parameters.QuantizationParameters(
                        per_channel=False
                    )
                ),
            )
        except Exception as error:  # NNCF raises many kinds
            raise ExportError(
                f"NNCF cannot quantize the model ({type(error).__name__}: {first_line(error)})."
            ) from error
    _check_in_float(operators_of(quantized), convolutions=roles.first | roles.last, others=roles.before)
    return quantized


def _check_in_float(operators: Sequence[Operator], *, convolutions: set[str], others: set[str]) -> None:
    """NNCF knows operators by name alone; were they renamed on the way, it would quantize them without a word."""
    kinds = {operator.name: operator.kind for operator in operators}
    kept = {o.name for o in operators if not _QUANTIZERS & {kinds.get(name) for name in o.inputs}}
    lost = sorted((convolutions - kept) | ((others & kinds.keys()) - kept))
    if lost:
        raise ExportError(
            f"NNCF does not keep {', '.join(lost)} in float32, as the accuracy of the model needs it. Install another"
            " version of nncf, or keep float32."
        )


def _inputs(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]], info: ModelFileInfo
) -> Iterator[np.ndarray | dict[str, np.ndarray]]:
    """The images as the model takes them, in batches of one."""
    for image in images:
        if info.kind == "panoptic":
            resized = resize_image(image, input_config=info.config.input)
            array = resized.permute(1, 2, 0).contiguous().numpy()
        else:
            prepared = prepare_image(
                image,
                input_config=info.config.input,
                output_stride=info.config.model.output_stride,
                align_corners=info.config.model.align_corners,
            )
            array = prepared.tensor.numpy()
        yield {"images": array[None]}


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Keep NNCF quiet: progress bars on stdout, which is for results, and statistics of its use over the network.

    It sends none if it believes to run in its developers' tests.
    """
    name = "NNCF_CI"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        remarks = quiet("torch.utils.cpp_extension")  # about CUDA
        with remarks, redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
