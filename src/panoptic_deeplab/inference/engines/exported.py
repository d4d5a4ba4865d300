"""Exported files as predictors: what `PanopticPredictor.from_pretrained("street.onnx")` returns.

A file with the network alone takes the place of the PyTorch model, and everything around it stays the same. A file with
the whole pipeline (`export --panoptic`) does its own normalisation, padding and post-processing: an image is resized by
the rule of the input before, and the result to the image's size after.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NoReturn

import torch
from torch import Tensor

from panoptic_deeplab.config import InputConfig, PostprocessConfig, Precision, TestTimeAugmentationConfig
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.images.prepare import PreparedImage, resize_image
from panoptic_deeplab.images.read import ImageLike, read_image
from panoptic_deeplab.inference.batching import ReadyImage
from panoptic_deeplab.inference.exported.runtimes import ExportedNetwork, ExportedPipeline
from panoptic_deeplab.inference.predictor import PanopticPredictor, UpsampledMaps
from panoptic_deeplab.maps import RawMaps
from panoptic_deeplab.postprocess.dropped import Dropped
from panoptic_deeplab.results.panoptic_result import PanopticResult


class PipelinePredictor(PanopticPredictor):
    """Predicts as `PanopticPredictor` does, with a file that holds the whole pipeline.

    Args:
        pipeline: of `open_model_file`.
        input_config: takes the place of the file's `input` section; all but the resizing must be the file's.
        precision: in which the pipeline was opened, for reports.

    Raises:
        ConfigError: something else than the resizing differs.
    """

    def __init__(
        self, pipeline: ExportedPipeline, *, input_config: InputConfig | None = None, precision: Precision = "float32"
    ) -> None:
        config = pipeline.info.config
        chosen = config.input if input_config is None else input_config
        if replace(config.input, longest_side=chosen.longest_side, scale=chosen.scale) != chosen:
            raise ConfigError(
                f"`input.pixel_mean`, `input.pixel_std` and `input.pad_to` are fixed inside of {pipeline.path}. Leave"
                " them out, or export the model with other ones."
            )
        config = replace(config, input=chosen, test_time_augmentation=TestTimeAugmentationConfig())
        super().__init__(_no_network, pipeline.info.categories, config, device="cpu", precision=precision)
        self.pipeline = pipeline

    def predict_with_maps(self, image: ImageLike) -> tuple[PanopticResult, UpsampledMaps]:
        """Not possible: the file keeps its maps to itself.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"{self.pipeline.path} holds the whole pipeline and gives no maps of the heads. Use the model folder, or a"
            " file exported without --panoptic."
        )

    def explain(self, image: ImageLike) -> tuple[PanopticResult, Dropped]:
        """Not possible: the file keeps to itself what its post-processing drops.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"{self.pipeline.path} holds the whole pipeline and does not say what it drops. Use the model folder, or a"
            " file exported without --panoptic."
        )

    def _ready(self, image: ImageLike) -> ReadyImage:
        pixels = read_image(image)
        resized = resize_image(pixels, input_config=self.config.input)
        # Whole numbers from 0 to 255: the file normalises and pads them itself.
        return ReadyImage(
            PreparedImage(resized.to(torch.float32), (resized.shape[1], resized.shape[2])),
            (pixels.shape[0], pixels.shape[1]),
        )

    def _predict_batch(self, batch: Sequence[ReadyImage]) -> tuple[list[PanopticResult], RawMaps]:
        images = torch.stack([item.prepared.tensor for item in batch]).to(torch.uint8)
        results = self.pipeline(images.permute(0, 2, 3, 1).contiguous())
        resized = [result.resized(item.original_size) for result, item in zip(results, batch, strict=True)]
        return resized, _NO_MAPS


_NO_MAPS = RawMaps(torch.zeros(1, 0, 1, 1), None, None)


def _no_network(images: Tensor) -> NoReturn:
    raise AssertionError("the pipeline's network is inside of its file")


def predictor_of(
    exported: ExportedNetwork | ExportedPipeline,
    *,
    device: str = "cpu",
    precision: Precision = "float32",
    output_stride: Literal[8, 16, 32] | None = None,
    input_config: InputConfig | None = None,
    test_time_augmentation: TestTimeAugmentationConfig | None = None,
    postprocess: PostprocessConfig | None = None,
) -> PanopticPredictor:
    """The predictor around an open file.

    Args:
        exported: of `open_model_file`, or of `export.compiled.load_compiled`.
        device: where it was opened.
        precision: in which it was opened.
        output_stride: may only be the file's.
        input_config: takes the place of the file's `input` section.
        test_time_augmentation: takes the place of the file's section; none in a file with the whole pipeline.
        postprocess: takes the place of the file's section; may only be the file's where it holds the whole pipeline.

    Raises:
        ConfigError: an option asks for what is fixed in the file.
    """
    path, config = exported.path, exported.info.config
    if output_stride not in (None, config.model.output_stride):
        raise ConfigError(
            f"`output_stride` is {config.model.output_stride} inside of {path}. Got {output_stride}; leave it out, or"
            " export the model folder."
        )
    if isinstance(exported, ExportedPipeline):
        if postprocess not in (None, config.postprocess):
            raise ConfigError(
                f"The `postprocess` settings are fixed inside of {path}: {config.postprocess}. Leave them out or export"
                " the model without --panoptic."
            )
        if test_time_augmentation is not None and not test_time_augmentation.is_plain:
            raise ConfigError(
                f"{path} holds the whole pipeline, so its maps cannot be averaged over scales and mirror images. Leave"
                " `test_time_augmentation` out, or export the model without --panoptic."
            )
        return PipelinePredictor(exported, input_config=input_config, precision=precision)
    config = replace(
        config,
        input=config.input if input_config is None else input_config,
        test_time_augmentation=test_time_augmentation or config.test_time_augmentation,
        postprocess=config.postprocess if postprocess is None else postprocess,
    )
    where = _device_of_maps(exported, device)
    return PanopticPredictor(exported, exported.info.categories, config, device=where, precision=precision)


def _device_of_maps(exported: ExportedNetwork, device: str) -> str:
    """Where post-processing goes on: with the program of torch; runtimes give their results on the processor."""
    return device if exported.path.suffix.lower() == ".pt2" else "cpu"
