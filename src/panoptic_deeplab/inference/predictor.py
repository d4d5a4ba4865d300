"""`PanopticPredictor`: from an image to a `PanopticResult` at the image's own size.

The one inference path: command line, validation and demo all go through it, so they agree.

    read_image ─▶ prepare_image ─▶ model ─▶ PanopticPostprocessor ─▶ PanopticResult.resized
    RGB uint8     resize, normalise,  RawMaps   at the size of the        nearest, to the
    (H, W, 3)     pad to whole strides          network's input, cut      original (H, W)
                                                to the content

A PyTorch network runs as a faster copy of itself (`fast_network.py`). On a GPU, nothing waits for it before the result
is transferred, and with `compile` all its work on an image is one CUDA graph (`captured.py`).

Several scales and mirrored images (`test_time_augmentation.py`) and several models (`ensemble.py`) are averages of
`RawMaps`: they take the model's place, and nothing else changes.

Grouping happens at the size of the network's input, where offsets have their unit; only the finished map of ids is
resized. (Resizing raw offsets to the image without rescaling their values is a known fault of a public version.)
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple, overload

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import Tensor, nn

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config, InputConfig, PostprocessConfig, Precision, TestTimeAugmentationConfig
from panoptic_deeplab.distributed import resolve_device
from panoptic_deeplab.errors import CheckpointError, ConfigError
from panoptic_deeplab.files import user_path
from panoptic_deeplab.images.prepare import padded_size, prepare_image
from panoptic_deeplab.images.read import ImageLike, read_image
from panoptic_deeplab.inference.batching import ReadyImage, in_batches
from panoptic_deeplab.inference.engines.captured import CapturedPath
from panoptic_deeplab.inference.engines.device_path import Queued, are_finite, queue_postprocessing, to_host
from panoptic_deeplab.inference.engines.fast_network import FastNetwork
from panoptic_deeplab.inference.exported.model_file import is_model_file
from panoptic_deeplab.inference.memory_need import MemoryNeed
from panoptic_deeplab.inference.views import AugmentedModel
from panoptic_deeplab.maps import RawMaps, Size, each_map, upsample, upsample_offset
from panoptic_deeplab.postprocess.dropped import Dropped
from panoptic_deeplab.postprocess.pipeline import PanopticPostprocessor
from panoptic_deeplab.results.panoptic_result import PanopticResult

_EXAMPLE_SIZE = (64, 96)
"""`(height, width)`, without padding, of an image that shows how a network's layers follow one another."""


class UpsampledMaps(NamedTuple):
    """The instance maps of one image at its original size, for pictures. None for a semantic-only model."""

    center_heatmap: Float32[np.ndarray, "H W"] | None
    """About 1 at centres."""
    offset: Float32[np.ndarray, "2 H W"] | None
    """`(dy, dx)` to the centre, in pixels of the original image."""


class PanopticPredictor:
    """A model with everything around it that turns images into results.

    Several threads may share one and get what each would get alone. Where an image takes the model for itself, they
    wait for one another: for averages over scales or mirror images, for `compile` on a GPU, and for OpenVINO files. On
    a processor, one thread keeps all cores busy, so more of them save time at reading and writing images only. What
    must not go on meanwhile is a change of the model: training, or loading weights.

    Args:
        model: `images (B, 3, H, W) -> RawMaps`, normalised images of the sizes that `transforms.padded_size` gives. An
            `nn.Module` is moved to `device`, and every prediction puts it in evaluation mode. If it has parameters,
            what runs is a faster copy, made at the first prediction and again when the weights have changed; not seen
            are hooks that are added later, and changes through `.data` or of tensors made in `torch.inference_mode`.
        categories: one entry for each channel of `semantic_logits`.
        config: its `input`, `model`, `test_time_augmentation` and `postprocess` sections are used.
        device: `cpu`, `cuda`, `cuda:1`, or `auto` = CUDA where there is one.
        precision: of the network: `bfloat16` is faster where the hardware has it, with slightly different results;
            `float16` is for GPUs without it. Post-processing is always float32.
        compile: the network with torch.compile, for images of few sizes: each new one takes minutes (and more than
            eight are not compiled). On a GPU, also a CUDA graph of everything from the image to the ids. torch keeps
            what it has compiled, in a temporary folder or in that of the environment variable
            `TORCHINDUCTOR_CACHE_DIR`.

    Raises:
        ConfigError: there is no such device, it cannot compute in this precision, or the model cannot be compiled.
    """

    def __init__(
        self,
        model: Callable[[Tensor], RawMaps],
        categories: CategoryTable,
        config: Config,
        *,
        device: str = "auto",
        precision: Precision = "float32",
        compile: bool = False,  # noqa: A002 - torch's name
    ) -> None:
        self.device = torch.device(resolve_device(device))
        self.model = model.to(self.device).eval() if isinstance(model, nn.Module) else model
        self.categories = categories
        self.config = config
        self.precision: Precision = precision
        self.compile = compile
        align_corners = config.model.align_corners
        self._network = FastNetwork(
            self.model,
            device=self.device,
            precision=precision,
            compile=compile,
            example_size=padded_size(_EXAMPLE_SIZE, config.model.output_stride, align_corners=align_corners),
        )
        self._memory_need = MemoryNeed(self.model, config, device=self.device, precision=precision)
        self._postprocess = PanopticPostprocessor(categories, config.postprocess, align_corners=align_corners)
        is_plain = config.test_time_augmentation.is_plain  # averages take small tensors from the host in between
        self._is_captured = compile and self.device.type == "cuda" and is_plain
        self._captured: tuple[object, CapturedPath] | None = None
        # A recording has one place for its images and its answer; averages change windows of pools inside of the model.
        self._lock = threading.Lock()
        self._thing_mask = torch.from_numpy(categories.thing_mask).to(self.device)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        device: str = "auto",
        precision: Precision = "float32",
        compile: bool = False,  # noqa: A002 - torch's name
        output_stride: Literal[8, 16, 32] | None = None,
        input_config: InputConfig | None = None,
        test_time_augmentation: TestTimeAugmentationConfig | None = None,
        postprocess: PostprocessConfig | None = None,
    ) -> "PanopticPredictor":
        """Load a folder that `save_pretrained` or a training run wrote (`runs/street/best`), or a model by its name.

        Args:
            folder: of the model; or a name of the zoo (`panoptic-deeplab models` lists them) or of a repository on the
                hub, `owner/name`, which are downloaded the first time (`weights/locations.py`); or an exported file,
                `.onnx`, `.xml` or `.pt2`.
            device: as for the class.
            precision: as for the class.
            compile: as for the class; not for exported files.
            output_stride: run the same weights at another stride than in training: 8 instead of 16 puts atrous
                convolution of rates 2 and 4 into the last two blocks, as the paper's test entry does (section 4.2);
                finer and slower.
            input_config: takes the place of the folder's `input` section.
            test_time_augmentation: takes the place of the folder's `test_time_augmentation` section.
            postprocess: takes the place of the folder's `postprocess` section.

        Raises:
            CheckpointError: a file is missing or does not fit.
            ConfigError: there is no such device, the network does not exist at this output stride, or an option is
                not for this model or device.
        """
        if is_model_file(folder):
            if compile:
                raise ConfigError(f"`compile` is for PyTorch networks; {folder} has its own runtime. Leave it out.")
            from panoptic_deeplab.inference.engines.exported import predictor_of  # which imports this file
            from panoptic_deeplab.inference.exported.runtimes import open_model_file

            return predictor_of(
                open_model_file(user_path(folder), device=device, precision=precision),
                device=device,
                precision=precision,
                output_stride=output_stride,
                input_config=input_config,
                test_time_augmentation=test_time_augmentation,
                postprocess=postprocess,
            )
        from panoptic_deeplab.weights.folder import load_pretrained  # brings timm, which no other path here needs

        model, config, categories = load_pretrained(folder, output_stride=output_stride)
        config = replace(
            config,
            input=config.input if input_config is None else input_config,
            test_time_augmentation=test_time_augmentation or config.test_time_augmentation,
            postprocess=config.postprocess if postprocess is None else postprocess,
        )
        return cls(model, categories, config, device=device, precision=precision, compile=compile)

    @overload
    def predict(self, image: ImageLike) -> PanopticResult: ...  # type: ignore[overload-overlap]  # str is a Sequence

    @overload
    def predict(self, image: Sequence[ImageLike]) -> list[PanopticResult]: ...

    def predict(self, image: ImageLike | Sequence[ImageLike]) -> PanopticResult | list[PanopticResult]:
        """Segment one image, or each of a list (one at a time; `predict_iter` has batches).

        Args:
            image: path, PIL image, array `(H, W, 3)` or tensor `(3, H, W)`, as `images.read_image` takes them; or a
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
        return self._predict_batch([self._ready(image)])[0][0]

    def predict_iter(self, images: Iterable[ImageLike], *, batch_size: int = 1) -> Iterator[PanopticResult]:
        """Segment a stream of images in bounded memory.

        Args:
            images: as for `predict`; read as needed.
            batch_size: images that go through the network together, if their prepared sizes are equal. Images of
                other sizes within the next few batches are set aside for their own batch.

        Yields:
            One result an image, in the order of `images`.

        Raises:
            ImageError: an image cannot be read; after the results of all images before it. So does what `images` itself
                raises.
            CheckpointError: as for `predict`; after the results of all images before.
        """
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1. Got {batch_size} instead.")
        return in_batches(
            images,
            batch_size=batch_size,
            prepare=self._ready,
            predict=lambda batch: self._predict_batch(batch)[0],
        )

    def predict_with_maps(self, image: ImageLike) -> tuple[PanopticResult, UpsampledMaps]:
        """Segment one image and keep what the instance heads said, for pictures.

        Args:
            image: as for `predict`.

        Returns:
            The result, and the heads' maps at the same (original) size.
        """
        ready = self._ready(image)
        results, raw_maps = self._predict_batch([ready])
        return results[0], self._upsampled_maps(raw_maps, ready)

    @torch.inference_mode()
    def explain(self, image: ImageLike) -> tuple[PanopticResult, Dropped]:
        """Segment one image and say what the result leaves out: why a class or an object is missing from it.

        Args:
            image: as for `predict`.

        Returns:
            The result, and what the `postprocess` settings dropped.
        """
        ready = self._ready(image)
        input_size = (ready.prepared.tensor.shape[-2], ready.prepared.tensor.shape[-1])
        raw_maps = self._run_model([ready])
        result, dropped = self._postprocess.explain(raw_maps, input_size, ready.prepared.content_size)
        resized = result.resized(ready.original_size)
        return resized, dropped.after_resizing(result, resized)

    def check_memory(self, size: Size, *, where: str = "The image") -> None:
        """See that an image of this size can be predicted, before its memory is taken; `predict` does it too.

        Not known is the need of several images in a batch, and that of exported files.

        Args:
            size: `(height, width)`.
            where: name of the image, for the message.

        Raises:
            ImageError: it needs more memory than is free; the message says how much.
        """
        self._memory_need.check(size, where=where)

    def _ready(self, image: ImageLike) -> ReadyImage:
        pixels = read_image(image)
        self.check_memory((pixels.shape[0], pixels.shape[1]), where=_name_of(image))
        prepared = prepare_image(
            pixels,
            input_config=self.config.input,
            output_stride=self.config.model.output_stride,
            align_corners=self.config.model.align_corners,
        )
        return ReadyImage(prepared, (pixels.shape[0], pixels.shape[1]))

    @torch.inference_mode()
    def _predict_batch(self, batch: Sequence[ReadyImage]) -> tuple[list[PanopticResult], RawMaps]:
        """All prepared images have one size."""
        content_sizes = tuple(item.prepared.content_size for item in batch)
        if self.device.type == "cpu":
            raw_maps = self._run_model(batch)
            height, width = batch[0].prepared.tensor.shape[-2:]
            results = self._postprocess(raw_maps, (height, width), content_sizes)
        else:
            raw_maps, results = self._predict_on_device(batch, content_sizes)
        resized = [result.resized(item.original_size) for result, item in zip(results, batch, strict=True)]
        return resized, raw_maps

    def _predict_on_device(
        self, batch: Sequence[ReadyImage], content_sizes: tuple[Size, ...]
    ) -> tuple[RawMaps, list[PanopticResult]]:
        """The host looks at nothing before all work is queued."""
        with self._lock if self._is_captured else nullcontext():
            if self._is_captured:
                queued = self._captured_path()(self._images(batch), content_sizes)
            else:
                queued = self._queue(self._maps(batch), batch[0].prepared.tensor, content_sizes)
            results = [self._postprocess.result(to_host(image)) for image in queued.images]
            self._check_finite(queued.is_finite)
            return queued.raw_maps, results

    def _captured_path(self) -> CapturedPath:
        """Of the network with its weights of now."""
        network = self._network.current()
        if self._captured is None or self._captured[0] is not network:
            path = CapturedPath(lambda images, sizes: self._queue(self._maps_of(images), images, sizes))
            self._captured = (network, path)
        return self._captured[1]

    def _queue(self, raw_maps: RawMaps, images: Float32[Tensor, "*B 3 H W"], content_sizes: tuple[Size, ...]) -> Queued:
        return queue_postprocessing(
            raw_maps,
            (images.shape[-2], images.shape[-1]),
            content_sizes,
            thing_mask=self._thing_mask,
            config=self.config.postprocess,
            align_corners=self.config.model.align_corners,
        )

    def _run_model(self, batch: Sequence[ReadyImage]) -> RawMaps:
        """The maps of the `prepared` images, in float32.

        Raises:
            CheckpointError: they do not fit the categories, or are not finite.
        """
        raw_maps = self._maps(batch)
        self._check_finite(are_finite(raw_maps))
        return raw_maps

    def _maps(self, batch: Sequence[ReadyImage]) -> RawMaps:
        """The same, whatever the numbers are."""
        return self._maps_of(self._images(batch))

    def _images(self, batch: Sequence[ReadyImage]) -> Float32[Tensor, "B 3 H W"]:
        """On the device."""
        images = torch.stack([item.prepared.tensor for item in batch]).contiguous(memory_format=torch.channels_last)
        if self.device.type == "cuda":
            images = images.pin_memory()  # so the host goes on while they are copied
        return images.to(self.device, non_blocking=True)

    def _maps_of(self, images: Float32[Tensor, "B 3 H W"]) -> RawMaps:
        model = AugmentedModel(
            self._network.current(),
            self.config.test_time_augmentation,
            output_stride=self.config.model.output_stride,
            align_corners=self.config.model.align_corners,
        )
        with self._lock if not self.config.test_time_augmentation.is_plain else nullcontext():
            raw_maps = model(images)
        num_classes = raw_maps.semantic_logits.shape[1]
        if num_classes != len(self.categories):
            raise CheckpointError(
                f"The model predicts {num_classes} classes, but category table {self.categories.name!r} has"
                f" {len(self.categories)}. Use the table that the weights were trained with (categories.json)."
            )
        return each_map(raw_maps, Tensor.float)

    def _check_finite(self, is_finite: Bool[Tensor, ""]) -> None:
        if not is_finite:
            raise CheckpointError(
                f"The model's output is not finite (NaN or infinity) in precision {self.precision}. The weights are"
                " broken, or too large for this precision: try float32, or another checkpoint."
            )

    @torch.inference_mode()
    def _upsampled_maps(self, raw_maps: RawMaps, ready: ReadyImage) -> UpsampledMaps:
        if raw_maps.center_heatmap is None or raw_maps.offset is None:
            return UpsampledMaps(None, None)
        input_size = (ready.prepared.tensor.shape[-2], ready.prepared.tensor.shape[-1])
        height, width = ready.prepared.content_size
        align_corners = self.config.model.align_corners
        heatmap = upsample(raw_maps.center_heatmap, input_size, align_corners=align_corners)[..., :height, :width]
        offset = upsample_offset(raw_maps.offset, input_size, align_corners=align_corners)[..., :height, :width]
        # From the content to the image, pixel borders coincide, as when the image was resized.
        heatmap = upsample(heatmap, ready.original_size, align_corners=False)
        offset = upsample_offset(offset, ready.original_size, align_corners=False)
        return UpsampledMaps(heatmap[0, 0].cpu().numpy(), offset[0].cpu().numpy())


def _name_of(image: ImageLike) -> str:
    return str(image) if isinstance(image, (str, Path)) else "The image"
