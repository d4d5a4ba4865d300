"""`NetworkEngine`: a PyTorch network, or the network of an exported file, and the post-processing of its maps.

A PyTorch network runs as a faster copy of itself (`fast_network.py`). Several scales and mirrored images (`views.py`)
are averages of `RawMaps`: they take the network's place, and nothing else changes. On a GPU, nothing waits for the
device before the result is transferred (`device_path.py`), and with `compile` all work on an image is one CUDA graph
(`captured.py`).
"""

import copy
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
from jaxtyping import Bool, Float32
from torch import Tensor, nn

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config, PostprocessConfig, Precision, TestTimeAugmentationConfig
from panoptic_deeplab.distributed import resolve_device
from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.images.prepare import padded_size
from panoptic_deeplab.inference.engines.captured import CapturedPath
from panoptic_deeplab.inference.engines.device_path import Queued, queue_postprocessing, to_host
from panoptic_deeplab.inference.engines.engine import Answer, Engine, ReadyImage
from panoptic_deeplab.inference.engines.fast_network import FastNetwork
from panoptic_deeplab.inference.memory_need import MemoryNeed
from panoptic_deeplab.inference.views import AugmentedModel
from panoptic_deeplab.maps import RawMaps, Size, are_finite, each_map, size_of
from panoptic_deeplab.postprocess.dropped import Dropped
from panoptic_deeplab.postprocess.pipeline import PanopticPostprocessor
from panoptic_deeplab.results.panoptic_result import PanopticResult

_EXAMPLE_SIZE = (64, 96)
"""`(height, width)`, without padding, of an image that shows how a network's layers follow one another."""


class NetworkEngine(Engine):
    """A network, and what makes results of its maps.

    Args:
        model: `images (B, 3, H, W) -> RawMaps`, normalized images of the sizes that `prepare.padded_size` gives. An
            `nn.Module` is moved to `device`, and every prediction puts it in evaluation mode. If it has parameters,
            what runs is a faster copy, made at the first prediction and again when the weights have changed; not seen
            are hooks that are added later, and changes through `.data` or of tensors made in `torch.inference_mode`.
        categories: one entry for each channel of `semantic_logits`.
        config: its `input`, `model`, `test_time_augmentation` and `postprocess` sections are used.
        device: `cpu`, `cuda`, `cuda:1`, or `auto` = CUDA where there is one.
        precision: what the network computes in: `bfloat16` is faster where the hardware has it, with slightly different
            results; `float16` is for GPUs without it. Post-processing is always float32.
        compile: run the network with torch.compile, for images of few sizes: each new one takes minutes (and more than
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
        super().__init__(
            config, categories, device=torch.device(resolve_device(device)), precision=precision, compile=compile
        )
        self.model = model.to(self.device).eval() if isinstance(model, nn.Module) else model
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
        self._is_plain = config.test_time_augmentation.is_plain
        # Averages take small tensors from the host in between.
        self._is_captured = compile and self.device.type == "cuda" and self._is_plain
        self._captured: tuple[object, CapturedPath] | None = None
        # A recording has one place for its images and its answer; averages change windows of pools inside of the model.
        self._lock = threading.Lock()
        self._thing_mask = torch.from_numpy(categories.thing_mask).to(self.device)

    def check_memory(self, size: Size, *, where: str) -> None:
        """See that an image can be predicted; see `Engine.check_memory`. Only PyTorch networks are looked at."""
        self._memory_need.check(size, where=where)

    @torch.inference_mode()
    def predict(self, batch: Sequence[ReadyImage]) -> Answer:
        """Segment images; see `Engine.predict`."""
        if self.device.type != "cpu":
            return self._predict_on_device(batch)
        raw_maps = self.unchecked_maps(batch)
        return Answer(self.results(raw_maps, batch), raw_maps)

    @torch.inference_mode()
    def raw_maps(self, batch: Sequence[ReadyImage]) -> RawMaps:
        """Run the network alone; see `Engine.raw_maps`."""
        raw_maps = self.unchecked_maps(batch)
        self.check_finite(are_finite(raw_maps))
        return raw_maps

    @torch.inference_mode()
    def unchecked_maps(self, batch: Sequence[ReadyImage]) -> RawMaps:
        """Run the network alone, whatever its numbers are (a GPU is not waited for); errors as for `maps_of`."""
        return self.maps_of(self._images(batch))

    def explain(self, image: ReadyImage) -> tuple[PanopticResult, Dropped]:
        """Segment one image and say what the result leaves out; see `Engine.explain`."""
        return self.explained(self.raw_maps([image]), image)

    @torch.inference_mode()
    def explained(self, raw_maps: RawMaps, image: ReadyImage) -> tuple[PanopticResult, Dropped]:
        """Turn the finite maps of one image into its result, and say what that leaves out."""
        result, dropped = self._postprocess.explain(
            raw_maps, size_of(image.prepared.tensor), image.prepared.content_size
        )
        resized = result.resized(image.original_size)
        return resized, dropped.after_resizing(result, resized)

    @torch.inference_mode()
    def results(self, raw_maps: RawMaps, batch: Sequence[ReadyImage]) -> list[PanopticResult]:
        """Turn maps into results at the sizes of the images; see `Engine.results`."""
        if self.device.type != "cpu":
            return self._collect(self._queue(raw_maps, batch[0].prepared.tensor, _content_sizes(batch)), batch)
        self.check_finite(are_finite(raw_maps))
        return _resized(self._postprocess(raw_maps, size_of(batch[0].prepared.tensor), _content_sizes(batch)), batch)

    def changed(
        self, *, postprocess: PostprocessConfig, test_time_augmentation: TestTimeAugmentationConfig
    ) -> "NetworkEngine":
        """The same network with other settings; see `Engine.changed`. The two are not for two threads at once."""
        other = copy.copy(self)
        other.config = replace(self.config, postprocess=postprocess, test_time_augmentation=test_time_augmentation)
        other._memory_need = MemoryNeed(self.model, other.config, device=self.device, precision=self.precision)
        align_corners = self.config.model.align_corners
        other._postprocess = PanopticPostprocessor(self.categories, postprocess, align_corners=align_corners)
        other._is_plain = test_time_augmentation.is_plain
        other._is_captured, other._captured = False, None  # a recording is worth its time for many images
        return other

    def _predict_on_device(self, batch: Sequence[ReadyImage]) -> Answer:
        """The host looks at nothing before all work is queued."""
        sizes = _content_sizes(batch)
        with self._lock if self._is_captured else nullcontext():
            if self._is_captured:
                queued = self._captured_path()(self._images(batch), sizes)
            else:
                queued = self._queue(self.unchecked_maps(batch), batch[0].prepared.tensor, sizes)
            return Answer(self._collect(queued, batch), queued.raw_maps)

    def _captured_path(self) -> CapturedPath:
        """The recordings with the network's weights of now."""
        network = self._network.current()
        if self._captured is None or self._captured[0] is not network:
            path = CapturedPath(lambda images, sizes: self._queue(self.maps_of(images), images, sizes))
            self._captured = (network, path)
        return self._captured[1]

    def _queue(self, raw_maps: RawMaps, images: Float32[Tensor, "*B 3 H W"], content_sizes: tuple[Size, ...]) -> Queued:
        return queue_postprocessing(
            raw_maps,
            size_of(images),
            content_sizes,
            thing_mask=self._thing_mask,
            config=self.config.postprocess,
            align_corners=self.config.model.align_corners,
        )

    def _collect(self, queued: Queued, batch: Sequence[ReadyImage]) -> list[PanopticResult]:
        """Wait for the device."""
        results = [self._postprocess.result(to_host(image)) for image in queued.images]
        self.check_finite(queued.is_finite)
        return _resized(results, batch)

    def _images(self, batch: Sequence[ReadyImage]) -> Float32[Tensor, "B 3 H W"]:
        """The images on the device, as one batch."""
        images = torch.stack([item.prepared.tensor for item in batch]).contiguous(memory_format=torch.channels_last)
        if self.device.type == "cuda":
            images = images.pin_memory()  # so the host goes on while they are copied
        return images.to(self.device, non_blocking=True)

    def maps_of(self, images: Float32[Tensor, "B 3 H W"]) -> RawMaps:
        """Run the network on prepared images that are on its device, whatever its numbers are.

        Raises:
            CheckpointError: the maps do not fit the categories.
        """
        model, settings = self._network.current(), self.config.model
        if self._is_plain:
            raw_maps = model(images)
        else:
            stride, align_corners = settings.output_stride, settings.align_corners
            averages = self.config.test_time_augmentation
            with self._lock:
                raw_maps = AugmentedModel(model, averages, output_stride=stride, align_corners=align_corners)(images)
        num_classes = raw_maps.semantic_logits.shape[1]
        if num_classes != len(self.categories):
            raise CheckpointError(
                f"The model predicts {num_classes} classes, but category table {self.categories.name!r} has"
                f" {len(self.categories)}. Use the table that the weights were trained with (categories.json)."
            )
        return each_map(raw_maps, Tensor.float)

    def check_finite(self, is_finite: Bool[Tensor, ""]) -> None:
        """Raise a `CheckpointError` for maps with NaN or infinity, given what `are_finite` says of them."""
        if not is_finite:
            raise CheckpointError(
                f"The model's output is not finite (NaN or infinity) in precision {self.precision}. The weights are"
                " broken, or too large for this precision: try float32, or another checkpoint."
            )


def _content_sizes(batch: Sequence[ReadyImage]) -> tuple[Size, ...]:
    return tuple(item.prepared.content_size for item in batch)


def _resized(results: Sequence[PanopticResult], batch: Sequence[ReadyImage]) -> list[PanopticResult]:
    return [result.resized(item.original_size) for result, item in zip(results, batch, strict=True)]
