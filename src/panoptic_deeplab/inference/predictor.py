"""`PanopticPredictor`: from an image to a `PanopticResult` at the image's own size.

Command line, validation, demo and timing all predict with it.

    read_image ─▶ prepare_image ─▶ model ─▶ PanopticPostprocessor ─▶ PanopticResult.resized
    RGB uint8     resize, normalize,  RawMaps   at the size of the        nearest, to the
    (H, W, 3)     pad to whole strides          network's input, cut      original (H, W)
                                                to the content

What differs between a PyTorch network, an exported file and an ensemble stands behind an `Engine` (`engines/`): how an
image is prepared, and how a batch of prepared images becomes results. A file with the whole pipeline has
post-processing of its own in its graph; `export/agreement.py` measures how far its results agree.

Grouping happens at the size of the network's input, where offsets have their unit; only the finished map of ids is
resized. (Resizing raw offsets to the image without rescaling their values is a known fault of a public version.)
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config, InputConfig, PostprocessConfig, Precision, TestTimeAugmentationConfig
from panoptic_deeplab.images.prepare import read_for, reading
from panoptic_deeplab.images.read import ImageLike
from panoptic_deeplab.images.regions import Regions, open_regions
from panoptic_deeplab.inference.batching import in_batches
from panoptic_deeplab.inference.engines.engine import Engine, ReadyImage
from panoptic_deeplab.inference.engines.ensemble_engine import EnsembleEngine
from panoptic_deeplab.inference.engines.network_engine import NetworkEngine
from panoptic_deeplab.inference.engines.open import open_engine
from panoptic_deeplab.inference.tiles.predict import Progress, predict_tiled
from panoptic_deeplab.maps import RawMaps, Size, size_of, upsample, upsample_offset
from panoptic_deeplab.postprocess.dropped import Dropped
from panoptic_deeplab.results.large_result import LargeResult
from panoptic_deeplab.results.panoptic_result import PanopticResult
from panoptic_deeplab.results.stored import Scratch


class UpsampledMaps(NamedTuple):
    """The instance maps of one image at its original size, for pictures. None for a semantic-only model."""

    center_heatmap: Float32[np.ndarray, "H W"] | None
    """About 1 at centers."""
    offset: Float32[np.ndarray, "2 H W"] | None
    """`(dy, dx)` to the center, in pixels of the original image."""


class PanopticPredictor:
    """A model with everything around it that turns images into results.

    Several threads may share one and get what each would get alone. Where an image takes the model for itself, they
    wait for one another: for averages over scales or mirror images, for `compile` on a GPU, and for OpenVINO files. On
    a processor, one thread keeps all cores busy, so more of them save time at reading and writing images only. What
    must not go on meanwhile is a change of the model: training, or loading weights.

    Args:
        engine: what it predicts with; `from_pretrained`, `from_network` and `ensemble` make the usual ones.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def config(self) -> Config:
        """The settings that it predicts with."""
        return self.engine.config

    @property
    def categories(self) -> CategoryTable:
        """The classes that it tells apart."""
        return self.engine.categories

    @property
    def device(self) -> torch.device:
        """Where it works."""
        return self.engine.device

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        device: str = "auto",
        precision: Precision = "float32",
        compile: bool = False,  # noqa: A002 - torch's name
        output_stride: Literal[8, 16, 32] | None = None,
        input_config: InputConfig | Mapping[str, Any] | None = None,
        object_size: float | None = None,
        test_time_augmentation: TestTimeAugmentationConfig | Mapping[str, Any] | None = None,
        postprocess: PostprocessConfig | Mapping[str, Any] | None = None,
    ) -> "PanopticPredictor":
        """Load a folder that `save_pretrained` or a training run wrote (`runs/street/best`), or a model by its name.

        Args:
            folder: a model's folder; or the name of a bundled model, or of one of the zoo (`panoptic-deeplab models`
                lists both) or a repository on the hub, `owner/name`, which are downloaded the first time
                (`weights/locations.py`); or an exported file, `.onnx`, `.xml` or `.pt2`.
            device: `cpu`, `cuda`, `cuda:1`, or `auto` = CUDA where there is one.
            precision: as for `from_network`.
            compile: as for `from_network`; not for exported files.
            output_stride: run the same weights at another stride than in training: 8 instead of 16 puts atrous
                convolution of rates 2 and 4 into the last two blocks, as the paper's test entry does (section 4.2);
                finer and slower.
            input_config: takes the place of the model's `input` section, or changes fields of it by their names.
            object_size: typical diameter of the objects in the images, in pixels; they are scaled so that objects look
                as large as in training. For models that know that size (`input.object_size`).
            test_time_augmentation: takes the place of the model's section, or changes fields of it.
            postprocess: takes the place of the model's section, or changes fields of it: `{"top_k": 300}`.

        Raises:
            CheckpointError: a file is missing or does not fit.
            ConfigError: there is no such device, the network does not exist at this output stride, or an option is
                not for this model or device.
        """
        changes = {"input": input_config, "test_time_augmentation": test_time_augmentation, "postprocess": postprocess}
        return cls(
            open_engine(
                folder,
                changes,
                device=device,
                precision=precision,
                compile=compile,
                output_stride=output_stride,
                object_size=object_size,
            )
        )

    @classmethod
    def from_network(
        cls,
        model: Callable[[Tensor], RawMaps],
        categories: CategoryTable,
        config: Config,
        *,
        device: str = "auto",
        precision: Precision = "float32",
        compile: bool = False,  # noqa: A002 - torch's name
    ) -> "PanopticPredictor":
        """Predict with a network of yours; arguments and errors are those of `engines.network_engine.NetworkEngine`."""
        return cls(NetworkEngine(model, categories, config, device=device, precision=precision, compile=compile))

    @classmethod
    def ensemble(cls, members: Sequence["PanopticPredictor"]) -> "PanopticPredictor":
        """Predict from the mean of the maps of several models; members and errors are those of `EnsembleEngine`."""
        return cls(EnsembleEngine([member.engine for member in members]))

    @overload
    def predict(self, image: ImageLike) -> PanopticResult: ...  # type: ignore[overload-overlap]  # str is a Sequence

    @overload
    def predict(self, image: Sequence[ImageLike]) -> list[PanopticResult]: ...

    def predict(self, image: ImageLike | Sequence[ImageLike]) -> PanopticResult | list[PanopticResult]:
        """Segment one image, or each of a list (one at a time; `predict_iter` has batches).

        Args:
            image: path, PIL image, array `(H, W, 3)` or tensor `(3, H, W)`, as `read_image` takes them; or a
                list of such.

        Returns:
            A result at the size of the image (after EXIF rotation), or a list of them.

        Raises:
            ImageError: an image cannot be read, or needs more memory than there is.
            CheckpointError: the model predicts another number of classes than there are categories, or numbers that
                are not finite.
        """
        if isinstance(image, Sequence) and not isinstance(image, str):
            return list(self.predict_iter(image))
        return self.engine.predict([self.ready(image)]).results[0]

    def predict_iter(self, images: Iterable[ImageLike], *, batch_size: int = 1) -> Iterator[PanopticResult]:
        """Segment a stream of images in bounded memory.

        Args:
            images: as for `predict`; read as needed.
            batch_size: images that go through the network together, if their prepared sizes are equal. Images of
                other sizes within the next few batches are set aside for their own batch.

        Yields:
            One result an image, in the order of `images`.

        Raises:
            ImageError: an image cannot be read. All errors, also those of `images` itself, come after the results of
                all images before.
            CheckpointError: as for `predict`.
        """
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1. Got {batch_size} instead.")
        return in_batches(
            images, batch_size=batch_size, prepare=self.ready, predict=lambda batch: self.engine.predict(batch).results
        )

    def predict_tiled(
        self,
        image: ImageLike | Regions,
        *,
        tile: int = 1024,
        overlap: int = 128,
        scratch: Scratch | None = None,
        output: str | Path | None = None,
        on_progress: Progress = lambda what, done, total: None,
    ) -> LargeResult:
        """Segment one image of any size in bounded memory (`inference/tiles/`).

        The network sees tiles; its maps are blended into those of the whole image, and centers, grouping and votes are
        the whole image's. Where no sample depends on more than `overlap / 4` pixels around it, the answer is that of
        `predict`, but for `top_k`, which counts for each square of `tile` pixels. An image pool over the whole map
        (`model.image_pool_size` is null) sees the tile in place of the image: there, take tiles as large as the images
        of the training.

        Args:
            image: what `predict` takes; a TIFF file of any size, also OME-TIFF and GeoTIFF; or the folder of a Zarr
                array or OME-Zarr image.
            tile: side of a tile in pixels of the network's input, rounded up to what the network takes.
            overlap: width that two neighboring tiles share, likewise; at most half of a tile.
            scratch: where maps that are larger than memory are kept; None = in temporary files, and the result is read
                into memory.
            output: a new folder for the result's maps, as Zarr arrays `panoptic_map` and `semantic_map`.
            on_progress: is called with what is being done, how much of it is done, and how much there is.

        Returns:
            The result; its `in_memory()` is a `PanopticResult`.

        Raises:
            ImageError: the image cannot be read.
            CheckpointError: as for `predict`.
            ConfigError: the tile or the overlap cannot be, the model is an ensemble or a file with the whole pipeline,
                or `output` is there already.
            MissingDependencyError: a file, or what is larger than memory, needs the extra `large`.
        """
        path = None if output is None else Path(output)
        how: dict[str, Any] = {"tile": tile, "overlap": overlap, "output": path, "on_progress": on_progress}
        with open_regions(image, **reading(self.config.input)) as regions:
            if scratch is not None:
                return predict_tiled(self.engine, regions, scratch=scratch, **how)
            with Scratch() as temporary:
                result = predict_tiled(self.engine, regions, scratch=temporary, **how)
                if output is not None:
                    return result
                panoptic_map, semantic_map = np.asarray(result.panoptic_map[:]), np.asarray(result.semantic_map[:])
                return replace(result, panoptic_map=panoptic_map, semantic_map=semantic_map)

    def predict_with_maps(self, image: ImageLike) -> tuple[PanopticResult, UpsampledMaps]:
        """Segment one image and keep what the instance heads said, for pictures.

        The maps have the same (original) size as the result. Argument and errors are those of `predict`.
        """
        ready = self.ready(image)
        answer = self.engine.predict([ready])
        raw_maps = self.engine.raw_maps([ready]) if answer.raw_maps is None else answer.raw_maps
        return answer.results[0], self.upsampled_maps(raw_maps, ready)

    def raw_maps(self, image: ImageLike) -> RawMaps:
        """Run the network alone on one image: what its heads say at stride 4, before post-processing.

        Returns:
            Maps of a batch of one, in float32 on `device`, of the prepared image with its padding.

        Raises:
            ImageError, CheckpointError: as for `predict`.
            ConfigError: the model is a file with the whole pipeline, which keeps its maps to itself.
        """
        return self.engine.raw_maps([self.ready(image)])

    def explain(self, image: ImageLike) -> tuple[PanopticResult, Dropped]:
        """Segment one image and say what the result leaves out: why a class or an object is missing from it.

        Raises:
            ImageError, CheckpointError: as for `predict`.
            ConfigError: the model is a file with the whole pipeline, which does not say what it drops.
        """
        return self.engine.explain(self.ready(image))

    def check_memory(self, size: Size, *, where: str = "The image") -> None:
        """See that an image can be predicted, as `predict` does too, before its memory is taken; see the engine's.

        Not known is the need of several images in a batch, and that of exported files.
        """
        self.engine.check_memory(size, where=where)

    def ready(self, image: ImageLike) -> ReadyImage:
        """Read and prepare an image, for `engine.predict`; errors are those of `predict`."""
        pixels = read_for(image, self.config.input)
        name = str(image) if isinstance(image, (str, Path)) else "The image"
        self.check_memory((pixels.shape[0], pixels.shape[1]), where=name)
        return self.engine.ready(pixels)

    @torch.inference_mode()
    def upsampled_maps(self, raw_maps: RawMaps, ready: ReadyImage) -> UpsampledMaps:
        """The maps of the instance heads at the original size of an image.

        Args:
            raw_maps: maps of this one image.
            ready: the image; of its tensor only the size matters.
        """
        if raw_maps.center_heatmap is None or raw_maps.offset is None:
            return UpsampledMaps(None, None)
        input_size = size_of(ready.prepared.tensor)
        height, width = ready.prepared.content_size
        align_corners = self.config.model.align_corners
        heatmap = upsample(raw_maps.center_heatmap, input_size, align_corners=align_corners)[..., :height, :width]
        offset = upsample_offset(raw_maps.offset, input_size, align_corners=align_corners)[..., :height, :width]
        # From the content to the image, pixel borders coincide, as when the image was resized.
        heatmap = upsample(heatmap, ready.original_size, align_corners=False)
        offset = upsample_offset(offset, ready.original_size, align_corners=False)
        return UpsampledMaps(heatmap[0, 0].cpu().numpy(), offset[0].cpu().numpy())
