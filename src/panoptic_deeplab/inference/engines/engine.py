"""The contract between the predictor and what it holds: `Engine`, the images it takes and the answers it gives."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config, PostprocessConfig, Precision, TestTimeAugmentationConfig
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.images.intensity import Pixels
from panoptic_deeplab.images.prepare import PreparedImage, prepare_image
from panoptic_deeplab.maps import RawMaps, Size
from panoptic_deeplab.postprocess.dropped import Dropped
from panoptic_deeplab.results.panoptic_result import PanopticResult


class ReadyImage(NamedTuple):
    """An image before the network."""

    prepared: PreparedImage
    original_size: Size
    others: tuple[PreparedImage, ...] = ()
    """The image as the further models of an ensemble take it."""

    @property
    def group(self) -> tuple[object, ...]:
        """Images with an equal one can go through the network together.

        Several networks need images of one geometry, since their maps are brought to one grid.
        """
        if not self.others:
            return tuple(self.prepared.tensor.shape)
        return tuple((tuple(image.tensor.shape), image.content_size) for image in (self.prepared, *self.others))


class Answer(NamedTuple):
    """What an engine says of a batch."""

    results: list[PanopticResult]
    """One for each image, at the image's own size."""
    raw_maps: RawMaps | None
    """The maps of the batch, in float32; None where the engine keeps them to itself."""


class Engine(ABC):
    """Turns images of one size into results: a PyTorch network, an exported file, an ensemble, or one of your own.

    Args:
        config: `input` and `model` say how images become ready, `postprocess` how maps become results.
        categories: one entry for each class that the engine tells apart.
        device: where it works.
        precision: the one in which it computes, for reports.
        compile: whether it runs compiled code, for reports.
    """

    def __init__(
        self,
        config: Config,
        categories: CategoryTable,
        *,
        device: torch.device,
        precision: Precision = "float32",
        compile: bool = False,  # noqa: A002 - torch's name
    ) -> None:
        self.config = config
        self.categories = categories
        self.device = device
        self.precision: Precision = precision
        self.compile = compile

    def ready(self, image: Pixels) -> ReadyImage:
        """Prepare an image: resize, normalize and pad it as `config` says."""
        prepared = prepare_image(
            image,
            input_config=self.config.input,
            output_stride=self.config.model.output_stride,
            align_corners=self.config.model.align_corners,
        )
        return ReadyImage(prepared, (image.shape[0], image.shape[1]))

    def check_memory(self, size: Size, *, where: str) -> None:  # noqa: B027 - nothing to check by default
        """See that an image can be predicted, before its memory is taken.

        Args:
            size: `(height, width)` of the image as it is read.
            where: its name, for the message.

        Raises:
            ImageError: it needs more memory than is free; the message says how much.
        """

    @abstractmethod
    def predict(self, batch: Sequence[ReadyImage]) -> Answer:
        """Segment images.

        Args:
            batch: at least one image, all of one `group`.

        Raises:
            CheckpointError: the model predicts another number of classes than there are categories, or numbers that
                are not finite.
        """

    def raw_maps(self, batch: Sequence[ReadyImage]) -> RawMaps:
        """Run the network alone; finite maps in float32, on `device`.

        Raises:
            CheckpointError: as for `predict`.
            ConfigError: the engine keeps its maps to itself.
        """
        raise ConfigError(f"{type(self).__name__} gives no maps of the heads. Use the network itself.")

    def explain(self, image: ReadyImage) -> tuple[PanopticResult, Dropped]:
        """Segment one image and say what the result leaves out.

        Raises:
            CheckpointError: as for `predict`.
            ConfigError: the engine does not know what it leaves out.
        """
        raise ConfigError(f"{type(self).__name__} does not say what it drops. Use the network itself.")

    def results(self, raw_maps: RawMaps, batch: Sequence[ReadyImage]) -> list[PanopticResult]:
        """Turn maps into results at the sizes of the images.

        Args:
            raw_maps: one set of maps for each image, on `device`, in float32.
            batch: the images that they belong to; of their tensors only the sizes matter.

        Raises:
            CheckpointError: the maps hold numbers that are not finite.
            ConfigError: the engine keeps its maps to itself.
        """
        raise ConfigError(f"{type(self).__name__} makes no results of given maps. Use the network itself.")

    def changed(
        self, *, postprocess: PostprocessConfig, test_time_augmentation: TestTimeAugmentationConfig
    ) -> "Engine":
        """The same model with other settings; the weights are shared, not copied.

        Raises:
            ConfigError: the engine's settings are fixed, and others are asked for.
        """
        asked = replace(self.config, postprocess=postprocess, test_time_augmentation=test_time_augmentation)
        if asked != self.config:
            raise ConfigError(
                "The `postprocess` and `test_time_augmentation` settings of this model are fixed:"
                f" {self.config.postprocess}. Leave them out, or use the model folder or a file exported without"
                " --panoptic."
            )
        return self
