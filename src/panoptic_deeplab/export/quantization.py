"""INT8: post-training quantisation with NNCF, for OpenVINO and ONNX models.

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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np
from jaxtyping import UInt8

from panoptic_deeplab.data.transforms import prepare_image, resize_image
from panoptic_deeplab.errors import ExportError, require
from panoptic_deeplab.export.network_part import (
    cut_onnx,
    cut_openvino,
    find_roles,
    join_onnx,
    join_openvino,
    onnx_operators,
    openvino_operators,
)
from panoptic_deeplab.inference.model_file import ModelFileInfo


def quantize_openvino(model: Any, info: ModelFileInfo, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Any:
    """Quantise the network in an `openvino.Model`, which is changed.

    Args:
        model: the network or the whole pipeline.
        info: what the model is.
        images: calibration images, at least one; a few hundred are usual.

    Raises:
        ExportError: there are no images, or NNCF cannot quantise the model.
        MissingDependencyError: openvino or nncf is not installed.
    """
    network = cut_openvino(model)
    roles = find_roles(openvino_operators(network))
    return join_openvino(model, _quantize(network, info, images, roles.first | roles.last | roles.before))


def quantize_onnx(model: Any, info: ModelFileInfo, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Any:
    """Quantise the network in an `onnx.ModelProto`.

    Pairs of `QuantizeLinear` and `DequantizeLinear` are put around the convolutions; runtimes turn that into integer
    arithmetic.

    Args:
        model: the network or the whole pipeline.
        info: what the model is.
        images: calibration images, at least one; a few hundred are usual.

    Raises:
        ExportError: there are no images, or NNCF cannot quantise the model.
        MissingDependencyError: onnx or nncf is not installed.
    """
    network = cut_onnx(model)
    roles = find_roles(onnx_operators(network))
    return join_onnx(model, _quantize(network, info, images, roles.first | roles.last | roles.before))


def _quantize(
    network: Any, info: ModelFileInfo, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], kept_in_float: set[str]
) -> Any:
    if not images:
        raise ExportError("Quantisation needs at least one calibration image. Got none.")
    with _no_statistics(), _quiet():
        nncf = require("nncf", extra="openvino", purpose="quantising")
        nncf.set_log_level(logging.ERROR)
        try:
            return nncf.quantize(
                network,
                nncf.Dataset(list(_inputs(images, info))),
                subset_size=len(images),
                ignored_scope=nncf.IgnoredScope(names=sorted(kept_in_float), validate=False),
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    # One range a tensor: ONNX Runtime has no convolution with a zero point for each channel.
                    activations_quantization_params=nncf.quantization.advanced_parameters.QuantizationParameters(
                        per_channel=False
                    )
                ),
            )
        except Exception as error:  # NNCF raises many kinds
            raise ExportError(
                f"NNCF cannot quantise the model ({type(error).__name__}: {(str(error).splitlines() or [''])[0]})."
            ) from error


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
def _no_statistics() -> Iterator[None]:
    """NNCF sends statistics of its use over the network, unless it believes to run in its developers' tests."""
    name = "NNCF_CI"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _quiet() -> Iterator[None]:
    """Without NNCF's progress bars on stdout, which is for results, and remarks about CUDA."""
    logger = logging.getLogger("torch.utils.cpp_extension")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
