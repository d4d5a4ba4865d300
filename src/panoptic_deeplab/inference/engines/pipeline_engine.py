"""`PipelineEngine`: an exported file that holds the whole pipeline (`export --panoptic`).

The file does its own normalization, padding and post-processing: an image gets range and size by the rules of the input
before, and the result the image's size after.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

import torch

from panoptic_deeplab.config import InputConfig, Precision, TestTimeAugmentationConfig
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.images.intensity import Pixels
from panoptic_deeplab.images.prepare import PreparedImage, resize_image
from panoptic_deeplab.inference.engines.engine import Answer, Engine, ReadyImage
from panoptic_deeplab.inference.exported.runtimes import ExportedPipeline


class PipelineEngine(Engine):
    """A file that goes from uint8 images to segments by itself.

    `input_config` takes the place of the file's `input` section; another mean, deviation
    or padding is a `ConfigError`.
    """

    def __init__(
        self, pipeline: ExportedPipeline, *, input_config: InputConfig | None = None, precision: Precision = "float32"
    ) -> None:
        config = pipeline.info.config
        chosen = config.input if input_config is None else input_config
        fixed = ("pixel_mean", "pixel_std", "pad_to")
        if any(getattr(chosen, name) != getattr(config.input, name) for name in fixed):
            raise ConfigError(
                f"`input.pixel_mean`, `input.pixel_std` and `input.pad_to` are fixed inside of {pipeline.path}. Leave"
                " them out, or export the model with other ones."
            )
        config = replace(config, input=chosen, test_time_augmentation=TestTimeAugmentationConfig())
        super().__init__(config, pipeline.info.categories, device=torch.device("cpu"), precision=precision)
        self.pipeline = pipeline

    def ready(self, image: Pixels) -> ReadyImage:
        """Resize an image; its numbers stay 0 to 255, since the file normalizes and pads it."""
        resized = resize_image(image, input_config=self.config.input)
        prepared = PreparedImage(resized.to(torch.float32), (resized.shape[1], resized.shape[2]))
        return ReadyImage(prepared, (image.shape[0], image.shape[1]))

    def predict(self, batch: Sequence[ReadyImage]) -> Answer:
        """Segment images; see `Engine.predict`."""
        images = torch.stack([item.prepared.tensor for item in batch]).to(torch.uint8)
        results = self.pipeline(images.permute(0, 2, 3, 1).contiguous())
        resized = [result.resized(item.original_size) for result, item in zip(results, batch, strict=True)]
        return Answer(resized, None)

    def raw_maps(self, batch: Sequence[ReadyImage]) -> NoReturn:
        """Refuse with a `ConfigError`: the file keeps its maps to itself."""
        raise ConfigError(
            f"{self.pipeline.path} holds the whole pipeline and gives no maps of the heads. Use the model folder, or a"
            " file exported without --panoptic."
        )

    def explain(self, image: ReadyImage) -> NoReturn:
        """Refuse with a `ConfigError`: the file keeps to itself what its post-processing drops."""
        raise ConfigError(
            f"{self.pipeline.path} holds the whole pipeline and does not say what it drops. Use the model folder, or a"
            " file exported without --panoptic."
        )
