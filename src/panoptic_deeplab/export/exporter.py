"""`export_model`: a model folder -> one file for another runtime, held against PyTorch before anybody uses it."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

import panoptic_deeplab
from panoptic_deeplab.config import Config, TestTimeAugmentationConfig
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.errors import ExportError
from panoptic_deeplab.export.agreement import Agreement, measure_agreement
from panoptic_deeplab.export.compiled import load_compiled, save_compiled
from panoptic_deeplab.export.program import network_size, trace
from panoptic_deeplab.export.staging import files_of, staged
from panoptic_deeplab.export.writers import (
    SUFFIX_OF_FORMAT,
    Format,
    onnx_model,
    openvino_model,
    save_onnx,
    save_openvino,
    save_torch,
)
from panoptic_deeplab.inference.engines.network_engine import NetworkEngine
from panoptic_deeplab.inference.engines.open import engine_of, open_engine
from panoptic_deeplab.inference.exported.model_file import Kind, ModelFileInfo
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.maps import Size
from panoptic_deeplab.provenance import source_commit

logger = logging.getLogger(__name__)

MAP_TOLERANCE = 1e-3
"""How far a raw map may deviate, in its standard deviations; float32 runtimes reach about 1e-5."""

PIXEL_TOLERANCE = 1e-3
"""Share of pixels that may differ: rounding turns close decisions, random weights make many of them."""

_TEST_SIZES: tuple[Size, ...] = ((203, 301), (240, 160))
"""Sizes of the drawn scenes on which a file for any size is held against PyTorch."""


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What has been written."""

    files: tuple[Path, ...]
    info: ModelFileInfo
    agreement: Agreement


def export_model(
    predictor: PanopticPredictor,
    path: str | Path,
    *,
    format: Format,  # noqa: A002 - the word of the command line
    kind: Kind = "network",
    size: Size | None = None,
    compiled: bool = False,
) -> ExportReport:
    """Write a model for another runtime, load the file, and compare its answers with those of PyTorch on drawn scenes.

    The file takes its name after that. If something is raised, an earlier file of this name stays.

    Args:
        predictor: a PyTorch model with its settings; it stays as it is.
        path: the file; its suffix must be that of the format.
        format: `onnx`, `openvino` or `torch`.
        kind: `network`: normalized images to raw maps; `panoptic`: uint8 images to panoptic maps and segments.
        size: size of the images that the file takes, after the resizing of the input and before padding; None = any.
        compiled: write machine code instead of a program (`compiled.py`); for the format `torch` with a `size`.

    Raises:
        ExportError: the model cannot be written in this form, or the file does not agree with PyTorch.
        MissingDependencyError: a package for the format is not installed.
    """
    path = Path(path)
    check_path(path, format)
    if compiled and format != "torch":
        raise ExportError(f"Compiled code is of the format torch. Got {format}; leave out --compile.")
    info = describe(predictor, kind=kind, size=size)
    program = trace(network_of(predictor), info.config, info.categories, kind=kind, size=size)
    with staged(path) as file:
        if compiled:
            save_compiled(program, file, info)
        elif format == "torch":
            save_torch(program, file, info)
        elif format == "onnx":
            save_onnx(onnx_model(program, info), file)
        else:
            save_openvino(openvino_model(onnx_model(program, info)), file, info)
        agreement = check_file(predictor, file, size=size, compiled=compiled)
    logger.info("%s", agreement.summary())
    return ExportReport(files=files_of(path), info=info, agreement=agreement)


def check_path(path: Path, format: Format) -> None:  # noqa: A002
    """The name has to say what is in the file; if it does not, that is an `ExportError`."""
    if path.suffix.lower() != SUFFIX_OF_FORMAT[format]:
        fitting = [name for name, suffix in SUFFIX_OF_FORMAT.items() if suffix == path.suffix.lower()]
        raise ExportError(
            f"`output` must end in {SUFFIX_OF_FORMAT[format]} for the format {format}. Got {path} instead; rename it"
            f"{''.join(f', or choose --format {name}' for name in fitting)}."
        )


def network_of(predictor: PanopticPredictor) -> nn.Module:
    """The PyTorch network; an exported file in its place is an `ExportError`."""
    if not isinstance(predictor.engine, NetworkEngine) or not isinstance(predictor.engine.model, nn.Module):
        raise ExportError(
            "Only a PyTorch model can be exported. Got an exported file; name the model folder that it was made from."
        )
    return predictor.engine.model


def describe(predictor: PanopticPredictor, *, kind: Kind, size: Size | None) -> ModelFileInfo:
    """What the file is going to say of itself."""
    config = predictor.config
    if kind == "panoptic":
        config = replace(config, test_time_augmentation=TestTimeAugmentationConfig())
    return ModelFileInfo(
        kind=kind,
        config=config,
        categories=predictor.categories,
        version=panoptic_deeplab.__version__,
        commit=source_commit(),
        input_size=network_size(size, config) if size is not None and kind == "network" else size,
    )


def check_file(predictor: PanopticPredictor, path: Path, *, size: Size | None, compiled: bool) -> Agreement:
    """Load the file and compare; an `ExportError` says that the difference is more than rounding."""
    reference = PanopticPredictor.from_network(
        network_of(predictor), predictor.categories, without_resizing(predictor.config), device=str(predictor.device)
    )
    sections = {name: getattr(reference.config, name) for name in ("input", "test_time_augmentation")}
    if compiled:
        exported = PanopticPredictor(engine_of(load_compiled(path), sections))
    else:
        exported = PanopticPredictor(open_engine(path, sections, device="cpu"))
    images = [SyntheticSource(1, seed=7, size=s)[0].image for s in ([size] if size else _TEST_SIZES)]
    agreement = measure_agreement(reference, exported, images)
    refusal = f"{path.name} was not written, since it does not compute what the model does"
    if agreement.differing_pixels > PIXEL_TOLERANCE * agreement.num_pixels:
        raise ExportError(f"{refusal}. {agreement.summary()}.")
    for name, difference in agreement.map_differences.items():
        if difference > MAP_TOLERANCE:
            raise ExportError(
                f"{refusal}: {name} differs by {difference:.1e} standard deviations; {MAP_TOLERANCE:.0e} is the limit."
            )
    return agreement


def without_resizing(config: Config) -> Config:
    """The configuration with which a file sees its images: as they are, and once."""
    plain = replace(config.input, range="type", channels=None, longest_side=None, scale=1.0)
    return replace(config, input=plain, test_time_augmentation=TestTimeAugmentationConfig())
