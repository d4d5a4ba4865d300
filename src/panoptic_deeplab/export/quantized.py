"""`export_quantized`: an INT8 file, with what it loses measured on labeled images."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from panoptic_deeplab.config import EvaluationConfig
from panoptic_deeplab.data.sample import PanopticSource
from panoptic_deeplab.errors import DatasetError, ExportError
from panoptic_deeplab.evaluation.evaluate import EvaluationReport, check_same_categories, evaluate
from panoptic_deeplab.export.exporter import check_path, describe, network_of
from panoptic_deeplab.export.program import trace
from panoptic_deeplab.export.quantization import check_calibration, check_size, quantize_onnx, quantize_openvino
from panoptic_deeplab.export.staging import files_of, staged
from panoptic_deeplab.export.writers import Format, onnx_model, openvino_model, save_onnx, save_openvino
from panoptic_deeplab.inference.exported.model_file import Kind, ModelFileInfo
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.maps import Size

logger = logging.getLogger(__name__)

LARGEST_LOSS = 0.01
"""Loss of PQ that is accepted, in [0, 1]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizationReport:
    """What has been written, and what it cost."""

    files: tuple[Path, ...]
    info: ModelFileInfo
    before: EvaluationReport
    """Measures of the PyTorch model."""
    after: EvaluationReport
    """Measures of the file."""

    def summary(self) -> str:
        """One line for people."""
        before, after = 100 * _pq(self.before), 100 * _pq(self.after)
        return f"PQ {before:.2f} before, {after:.2f} after quantization ({self.after.num_images} images)"


def export_quantized(
    predictor: PanopticPredictor,
    path: str | Path,
    *,
    format: Format,  # noqa: A002 - the word of the command line
    calibration: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    labeled: PanopticSource,
    kind: Kind = "network",
    size: Size | None = None,
    on_image: Callable[[int, int], None] | None = None,
) -> QuantizationReport:
    """Write a model with 8-bit convolutions, and evaluate it beside the original.

    Args:
        predictor: as for `export_model`, like `path`, `kind` and `size`.
        path: the file.
        format: `onnx` or `openvino`.
        calibration: images like those that the model is going to see, none of `labeled`; 100 to 300 are usual.
        labeled: images with labels, on which PQ is measured.
        kind: what the file does.
        size: size of its images.
        on_image: called after each evaluated image with the number of images done and to do.

    Raises:
        ExportError: the format has no INT8 form; the model cannot be quantized; images are of another size; or more
            than one PQ point is lost.
        CheckpointError: the labels are of other classes.
        DatasetError: there are no labels.
        MissingDependencyError: a package for the format, or nncf, is not installed.
    """
    path = Path(path)
    check_path(path, format)
    if format == "torch":
        raise ExportError("INT8 is written in the formats onnx and openvino. Got torch; choose another --format.")
    info = replace(describe(predictor, kind=kind, size=size), precision="int8")
    network = network_of(predictor)
    check_calibration(calibration, info)
    _check_labeled(labeled, info)
    with staged(path) as file:
        proto = onnx_model(trace(network, info.config, info.categories, kind=kind, size=size), info)
        if format == "onnx":
            save_onnx(quantize_onnx(proto, info, calibration), file)
        else:
            save_openvino(quantize_openvino(openvino_model(proto), info, calibration), file, info)
        before, after = _measure(predictor, file, info, labeled, on_image)
        report = QuantizationReport(files=files_of(path), info=info, before=before, after=after)
        lost = _pq(before) - _pq(after)
        if lost > LARGEST_LOSS:
            raise ExportError(
                f"{path.name} was not written, since quantization costs {100 * lost:.2f} PQ points: {report.summary()};"
                f" at most {100 * LARGEST_LOSS:.0f} may be lost. Try more --calibration images, or keep float32."
            )
    logger.info("%s", report.summary())
    return report


def _check_labeled(labeled: PanopticSource, info: ModelFileInfo) -> None:
    """What the first image shows of the set: `evaluate` looks at all of them, but after minutes of other work."""
    check_same_categories(info.categories, labeled.categories)
    if not len(labeled):
        raise DatasetError("There are no labeled images to measure PQ on. Check data.root and data.val_split.")
    sample = labeled[0]
    if sample.panoptic_map is None:
        raise DatasetError(
            f"Image {sample.image_id} has no label, so PQ cannot be measured. Choose a labeled data.val_split."
        )
    check_size(sample.image, info, name=f"Image {sample.image_id}")
    averages = info.config.test_time_augmentation
    if info.input_size is not None and averages.enabled and averages.scales != (1.0,):
        raise ExportError(
            f"Scales are averaged in a file for images of any size only. Got {averages.scales}; leave out --size, or"
            " set test_time_augmentation.enabled to false."
        )


def _measure(
    predictor: PanopticPredictor,
    file: Path,
    info: ModelFileInfo,
    labeled: PanopticSource,
    on_image: Callable[[int, int], None] | None,
) -> tuple[EvaluationReport, EvaluationReport]:
    """Measures of the PyTorch model, and of the file."""
    plain = PanopticPredictor.from_network(
        network_of(predictor), predictor.categories, info.config, device=str(predictor.device)
    )
    reports: list[EvaluationReport] = []
    for model in (plain, PanopticPredictor.from_pretrained(file, device="cpu")):

        def progress(done: int, total: int, before: int = len(reports)) -> None:
            if on_image is not None:
                on_image(before * total + done, 2 * total)

        reports.append(evaluate(model, labeled, config=EvaluationConfig(num_pictures=0), on_image=progress))
    return reports[0], reports[1]


def _pq(report: EvaluationReport) -> float:
    return report.metric("PQ")
