"""From a name, folder or exported file to its engine."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from panoptic_deeplab.config import Config, InputConfig, PostprocessConfig, Precision, TestTimeAugmentationConfig
from panoptic_deeplab.config.io import with_changes
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.files import user_path
from panoptic_deeplab.images.prepare import for_object_size
from panoptic_deeplab.inference.engines.engine import Engine
from panoptic_deeplab.inference.engines.network import NetworkEngine
from panoptic_deeplab.inference.engines.pipeline import PipelineEngine
from panoptic_deeplab.inference.exported.model_file import is_model_file
from panoptic_deeplab.inference.exported.runtimes import ExportedNetwork, ExportedPipeline, open_model_file

_Section = TypeVar("_Section", InputConfig, TestTimeAugmentationConfig, PostprocessConfig)


def open_engine(
    model: str | Path,
    *,
    device: str = "auto",
    precision: Precision = "float32",
    compile: bool = False,  # noqa: A002 - torch's name
    output_stride: Literal[8, 16, 32] | None = None,
    input_config: InputConfig | Mapping[str, Any] | None = None,
    object_size: float | None = None,
    test_time_augmentation: TestTimeAugmentationConfig | Mapping[str, Any] | None = None,
    postprocess: PostprocessConfig | Mapping[str, Any] | None = None,
) -> Engine:
    """Open a model; arguments and errors are those of `PanopticPredictor.from_pretrained`."""
    if is_model_file(model):
        if compile:
            raise ConfigError(f"`compile` is for PyTorch networks; {model} has its own runtime. Leave it out.")
        return engine_of(
            open_model_file(user_path(model), device=device, precision=precision),
            device=device,
            precision=precision,
            output_stride=output_stride,
            input_config=input_config,
            object_size=object_size,
            test_time_augmentation=test_time_augmentation,
            postprocess=postprocess,
        )
    from panoptic_deeplab.weights.open import open_pretrained  # brings timm, which no exported file needs

    network, config, categories = open_pretrained(model, output_stride=output_stride)
    config = _as_asked(config, input_config, object_size, test_time_augmentation, postprocess)
    return NetworkEngine(network, categories, config, device=device, precision=precision, compile=compile)


def engine_of(
    exported: ExportedNetwork | ExportedPipeline,
    *,
    device: str = "cpu",
    precision: Precision = "float32",
    output_stride: Literal[8, 16, 32] | None = None,
    input_config: InputConfig | Mapping[str, Any] | None = None,
    object_size: float | None = None,
    test_time_augmentation: TestTimeAugmentationConfig | Mapping[str, Any] | None = None,
    postprocess: PostprocessConfig | Mapping[str, Any] | None = None,
) -> Engine:
    """Give the engine of an open file.

    Args:
        exported: the file, from `open_model_file` or `export.compiled.load_compiled`.
        device: where it was opened.
        precision: the one in which it was opened.
        output_stride: may only be the file's.
        input_config: takes the place of the file's `input` section, or changes fields of it by their names.
        object_size: typical diameter of the objects in the images, in pixels.
        test_time_augmentation: likewise; none in a file with the whole pipeline.
        postprocess: likewise; may only be the file's where it holds the whole pipeline.

    Raises:
        ConfigError: an option asks for what is fixed in the file.
    """
    path, own = exported.path, exported.info.config
    config = _as_asked(own, input_config, object_size, test_time_augmentation, postprocess)
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
        if test_time_augmentation is not None and not config.test_time_augmentation.is_plain:
            raise ConfigError(
                f"{path} holds the whole pipeline, so its maps cannot be averaged over scales and mirror images. Leave"
                " `test_time_augmentation` out, or export the model without --panoptic."
            )
        return PipelineEngine(exported, input_config=config.input, precision=precision)
    # Post-processing goes on where the maps are: a program of torch leaves them on its device, runtimes on the CPU.
    where = device if path.suffix.lower() == ".pt2" else "cpu"
    return NetworkEngine(exported, exported.info.categories, config, device=where, precision=precision)


def _as_asked(
    config: Config,
    input_config: InputConfig | Mapping[str, Any] | None,
    object_size: float | None,
    test_time_augmentation: TestTimeAugmentationConfig | Mapping[str, Any] | None,
    postprocess: PostprocessConfig | Mapping[str, Any] | None,
) -> Config:
    asked = _section(config.input, input_config, "input")
    return replace(
        config,
        input=asked if object_size is None else for_object_size(asked, object_size),
        test_time_augmentation=_section(
            config.test_time_augmentation, test_time_augmentation, "test_time_augmentation"
        ),
        postprocess=_section(config.postprocess, postprocess, "postprocess"),
    )


def _section(own: _Section, asked: _Section | Mapping[str, Any] | None, name: str) -> _Section:
    if isinstance(asked, Mapping):
        return with_changes(own, asked, name=name) if asked else own
    return own if asked is None else asked
