"""A predictor at work: each stage by itself, then all of it as users call it."""

import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config, Precision
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.distributed import resolve_device
from panoptic_deeplab.images.prepare import read_for
from panoptic_deeplab.inference.engines.network_engine import NetworkEngine
from panoptic_deeplab.inference.engines.pipeline_engine import PipelineEngine
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.maps import Size, size_of
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.postprocess.pipeline import PanopticPostprocessor
from panoptic_deeplab.profiling.measure import WARM_UP_RUNS, Timing, peak_memory, run_repeatedly
from panoptic_deeplab.profiling.report import STAGES, InferenceRow
from panoptic_deeplab.profiling.scenes import DrawnMaps
from panoptic_deeplab.results.coco import to_coco_panoptic
from panoptic_deeplab.results.panoptic_result import PanopticResult
from panoptic_deeplab.stopwatch import Stopwatch, stage

_JPEG_QUALITY = 95


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is measured."""

    name: str
    predictor: PanopticPredictor
    runtime: str = "pytorch"
    published_milliseconds: float | None = None
    """Time for one image in Table 9."""


def untrained_subject(
    name: str,
    config: Config,
    categories: CategoryTable,
    *,
    device: str,
    precision: Precision,
    compile: bool = False,  # noqa: A002 - torch's name
    published_milliseconds: float | None = None,
) -> Subject:
    """A network with random weights, as fast as a trained one; post-processing works on a drawn scene."""
    torch.manual_seed(0)
    network = PanopticDeepLab(config.model, categories.num_classes).to(resolve_device(device)).eval()
    drawn = DrawnMaps(network, categories.thing_mask)
    predictor = PanopticPredictor.from_network(
        drawn, categories, config, device=device, precision=precision, compile=compile
    )
    return Subject(name=name, predictor=predictor, published_milliseconds=published_milliseconds)


def write_picture(folder: Path, size: Size) -> Path:
    """Write a photograph-like image, a drawn street scene of at least 32 x 32 pixels, as JPEG."""
    path = folder / f"street_{size[0]}x{size[1]}.jpg"
    Image.fromarray(SyntheticSource(1, size=size)[0].image).save(path, quality=_JPEG_QUALITY)
    return path


def measure_inference(subject: Subject, image: Path, *, batch_size: int = 1, seconds: float = 5.0) -> InferenceRow:
    """Measure one model with one image file, which fills the batch.

    The stages are measured for so many seconds, and again the whole; at least three batches each.
    """
    predictor = subject.predictor
    pixels = read_for(image, predictor.config.input)
    size = predictor.engine.ready(pixels).prepared.tensor.shape[-2:]
    in_stages: dict[str, list[float]] = defaultdict(list)

    def run_stages() -> None:
        stopwatch = Stopwatch(predictor.device)
        stages([image] * batch_size, stopwatch)
        for name, spent in stopwatch.seconds.items():
            in_stages[name].append(spent)

    def run_whole() -> None:
        for result in predictor.predict_iter([image] * batch_size, batch_size=batch_size):
            encode(result)

    if not isinstance(predictor.engine, PipelineEngine):  # whose stages are inside of its file
        stages = _Stages(predictor)
        run_repeatedly(run_stages, seconds=seconds)
    with peak_memory(predictor.device) as peak:
        whole = run_repeatedly(run_whole, seconds=seconds)
    return InferenceRow(
        name=subject.name,
        runtime=subject.runtime,
        precision=predictor.engine.precision,
        compiled=predictor.engine.compile,
        device=str(predictor.device),
        image_size=(pixels.shape[0], pixels.shape[1]),
        input_size=(size[0], size[1]),
        batch_size=batch_size,
        stages={name: Timing.of(in_stages[name][WARM_UP_RUNS:]) for name in STAGES if name in in_stages},
        end_to_end=Timing.of(whole),
        peak_process_bytes=peak.process,
        peak_process_increase_bytes=peak.process_increase,
        peak_gpu_bytes=peak.gpu,
        drawn_scene=isinstance(predictor.engine, NetworkEngine) and isinstance(predictor.engine.model, DrawnMaps),
        published_milliseconds=subject.published_milliseconds,
    )


def encode(result: PanopticResult) -> bytes:
    """A result as COCO's PNG, in memory."""
    _, rgb = to_coco_panoptic(result, "image", "image.png")
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG")
    return buffer.getvalue()


class _Stages:
    """The steps of a `PanopticPredictor`, one by one."""

    def __init__(self, predictor: PanopticPredictor) -> None:
        self._predictor = predictor
        config = predictor.config
        self._postprocess = PanopticPostprocessor(
            predictor.categories, config.postprocess, align_corners=config.model.align_corners
        )

    @torch.inference_mode()
    def __call__(self, images: Sequence[Path], stopwatch: Stopwatch) -> None:
        predictor = self._predictor
        with stage(stopwatch, "decode"):
            pixels = [read_for(image, predictor.config.input) for image in images]
        with stage(stopwatch, "resize"):
            batch = [predictor.engine.ready(image) for image in pixels]
        with stage(stopwatch, "network"):
            raw_maps = predictor.engine.raw_maps(batch)
        content_sizes = [item.prepared.content_size for item in batch]
        input_size = size_of(batch[0].prepared.tensor)
        results = self._postprocess(raw_maps, input_size, content_sizes, stopwatch=stopwatch)
        with stage(stopwatch, "merging"):
            results = [result.resized(item.original_size) for result, item in zip(results, batch, strict=True)]
        with stage(stopwatch, "encode"):
            for result in results:
                encode(result)
