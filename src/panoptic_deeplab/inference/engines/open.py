"""From a name, folder or exported file to its engine."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from panoptic_deeplab.config import Config, InputConfig, PostprocessConfig, Precision, TestTimeAugmentationConfig
from panoptic_deeplab.config.io import with_changes
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.files import user_path
from panoptic_deeplab.images.prepare import for_object_size
from panoptic_deeplab.inference.engines.engine import Engine
from panoptic_deeplab.inference.engines.network_engine import NetworkEngine
from panoptic_deeplab.inference.engines.pipeline_engine import PipelineEngine
from panoptic_deeplab.inference.exported.model_file import is_model_file
from panoptic_deeplab.inference.exported.runtimes import ExportedNetwork, ExportedPipeline, open_model_file

Changes = Mapping[str, InputConfig | TestTimeAugmentationConfig | PostprocessConfig | Mapping[str, Any] | None]
"""Section of the configuration -> what takes its place, or values for some of its fields; None = as it is."""


def open_engine(
    model: str | Path,
    changes: Changes,
    *,
    device: str = "auto",
    precision: Precision = "float32",
    compile: bool = False,  # noqa: A002 - torch's name
    output_stride: Literal[8, 16, 32] | None = None,
    object_size: float | None = None,
) -> Engine:
    """Open a model; arguments and errors are those of `PanopticPredictor.from_pretrained`."""
    if is_model_file(model):
        if compile:
            raise ConfigError(f"`compile` is for PyTorch networks; {model} has its own runtime. Leave it out.")
        exported = open_model_file(user_path(model), device=device, precision=precision)
        return engine_of(
            exported,
            changes,
            device=device,
            precision=precision,
            output_stride=output_stride,
            object_size=object_size,
        )
    from panoptic_deeplab.weights.open import open_pretrained  # brings timm, which no exported file needs

    network, config, categories = open_pretrained(model, output_stride=output_stride)
    config = _changed(config, changes, object_size)
    return NetworkEngine(network, categories, config, device=device, precision=precision, compile=compile)


def engine_of(
    exported: ExportedNetwork | ExportedPipeline,
    changes: Changes,
    *,
    device: str = "cpu",
    precision: Precision = "float32",
    output_stride: Literal[8, 16, 32] | None = None,
    object_size: float | None = None,
) -> Engine:
    """Give the engine of an open file.

    Args:
        exported: the file, from `open_model_file` or `export.compiled.load_compiled`.
        changes: none of the post-processing or to averages, where the file holds the whole pipeline.
        device: where it was opened.
        precision: the one in which it was opened.
        output_stride: may only be the file's.
        object_size: as for `PanopticPredictor.from_pretrained`.

    Raises:
        ConfigError: an option asks for what is fixed in the file.
    """
    path, own = exported.path, exported.info.config
    config = _changed(own, changes, object_size)
    if output_stride not in (None, config.model.output_stride):
        raise ConfigError(
            f"`output_stride` is {config.model.output_stride} inside of {path}. Got {output_stride}; leave it out, or"
            " export the model folder."
        )
    if isinstance(exported, ExportedPipeline):
        if config.postprocess != own.postprocess:
            raise ConfigError(
                f"The `postprocess` settings are fixed inside of {path}: {own.postprocess}. Leave them out or export"
                " the model without --panoptic."
            )
        if changes.get("test_time_augmentation") is not None and not config.test_time_augmentation.is_plain:
            raise ConfigError(
                f"{path} holds the whole pipeline, so its maps cannot be averaged over scales and mirror images. Leave"
                " `test_time_augmentation` out, or export the model without --panoptic."
            )
        return PipelineEngine(exported, input_config=config.input, precision=precision)
    # Post-processing goes on where the maps are: a program of torch leaves them on its device, runtimes on the CPU.
    where = device if path.suffix.lower() == ".pt2" else "cpu"
    return NetworkEngine(exported, exported.info.categories, config, device=where, precision=precision)


def _changed(config: Config, changes: Changes, object_size: float | None) -> Config:
    sections: dict[str, Any] = {}
    for name, asked in changes.items():
        if isinstance(asked, Mapping):
            asked = with_changes(getattr(config, name), asked, name=name) if asked else None
        if asked is not None:
            sections[name] = asked
    if object_size is not None:
        sections["input"] = for_object_size(sections.get("input", config.input), object_size)
    return replace(config, **sections) if sections else config
