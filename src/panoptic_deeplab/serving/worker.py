"""`Worker`: the models of one process, and images that become answers there.

What the network said of recent images is kept, so that other thresholds need no new pass of it: an answer's `image_id`
names the maps, and the oldest go where they are too many.
"""

import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from panoptic_deeplab.errors import CheckpointError, ConfigError, ImageError, PanopticDeepLabError
from panoptic_deeplab.images.encoded import TooManyPixelsError, UnknownFormatError, read_encoded
from panoptic_deeplab.images.intensity import Pixels
from panoptic_deeplab.images.prepare import drawable, reading
from panoptic_deeplab.inference.engines.engine import Engine, ReadyImage
from panoptic_deeplab.inference.engines.network_engine import NetworkEngine
from panoptic_deeplab.inference.engines.pipeline_engine import PipelineEngine
from panoptic_deeplab.inference.predictor import PanopticPredictor, UpsampledMaps
from panoptic_deeplab.maps import RawMaps, each_map
from panoptic_deeplab.results.panoptic_result import PanopticResult
from panoptic_deeplab.serving.answers import Seen, answer_bytes
from panoptic_deeplab.serving.jobs import Job, Reply
from panoptic_deeplab.serving.options import ModelInfo, Options
from panoptic_deeplab.serving.problems import Problem, fault
from panoptic_deeplab.serving.settings import Settings

logger = logging.getLogger(__name__)

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (UnknownFormatError, 415),
    (TooManyPixelsError, 413),
    (ImageError, 422),
    (ConfigError, 422),
    (CheckpointError, 500),
)
"""What the library's errors are over HTTP; the first that fits counts."""

_MOST_IN_A_BATCH = 4
_GAIN = 0.85
"""A batch must take less than this share of the time that its images take alone."""
_TRIAL_SIDE = 257


@dataclass
class _Kept:
    """What is known of an image."""

    image_id: str
    model: str
    pixels: Pixels
    ready: ReadyImage
    raw_maps: RawMaps | None = None
    maps_of: Any = None
    """Scales and mirroring that `raw_maps` come from."""
    result_of: Any = None
    result: PanopticResult | None = None

    @property
    def num_bytes(self) -> int:
        maps = 0 if self.raw_maps is None else sum(m.nbytes for m in self.raw_maps if m is not None)
        results = 0 if self.result is None else 5 * self.pixels.size // 3  # ids of 4 bytes, and classes
        return self.pixels.nbytes + maps + results


@dataclass
class _Task:
    """A job that is being worked on."""

    job: Job
    kept: _Kept | None = None
    problem: Problem | None = None
    passes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


class Worker:
    """Opens models and answers jobs, one call after the other.

    Args:
        settings: those of the service.
        number: index of this worker. The ids that it gives are `worker-model-random`, so who asks again is led here.

    Raises:
        CheckpointError: a model cannot be opened.
        ConfigError: an option does not fit a model.
    """

    def __init__(self, settings: Settings, number: int) -> None:
        torch.set_num_threads(settings.threads_of_a_worker)
        self._settings = settings
        self._number = number
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._predictors = {
            name: PanopticPredictor.from_pretrained(model, device=settings.device, precision=settings.precision)
            for name, model in settings.models.items()
        }
        self._batch_sizes = {name: self._batch_size(p.engine) for name, p in self._predictors.items()}

    def models(self) -> list[ModelInfo]:
        """What there is to choose from, in the order of the settings."""
        return [
            ModelInfo(
                name=name,
                categories=predictor.categories.to_json()["categories"],
                postprocess=predictor.config.postprocess,
                test_time_augmentation=predictor.config.test_time_augmentation,
                has_instances=predictor.config.model.instance_branch,
                keeps_maps=not isinstance(predictor.engine, PipelineEngine),
                device=str(predictor.device),
                batch_size=self._batch_sizes[name],
            )
            for name, predictor in self._predictors.items()
        ]

    def answer(self, jobs: Sequence[Job]) -> list[Reply | Problem]:
        """Answer some jobs, each by itself: what is wrong with one is no matter of the others."""
        tasks = [_Task(job) for job in jobs]
        for task in tasks:
            with self._problems(task):
                self._find(task)
        for group in self._groups(tasks):
            self._run_network(group)
        return [self._finish(task) for task in tasks]

    def _find(self, task: _Task) -> None:
        """The image of a job: kept, or decoded."""
        job = task.job
        if job.image is None:
            task.kept = self._kept.get(job.image_id or "")
            if task.kept is None:
                raise Problem(404, "The image is not kept any more, or never was. Send it again.")
            self._kept.move_to_end(task.kept.image_id)
            return
        engine = self._predictors[job.model].engine
        with _timed(task, "decode"):
            pixels = read_encoded(job.image, max_pixels=self._settings.max_pixels, **reading(engine.config.input))
            try:
                engine.check_memory((pixels.shape[0], pixels.shape[1]), where="The image")
            except ImageError as error:
                raise Problem(413, str(error)) from error
            ready = engine.ready(pixels)
        image_id = f"{self._number}-{list(self._predictors).index(job.model)}-{secrets.token_hex(8)}"
        task.kept = _Kept(image_id, job.model, pixels, ready)

    def _groups(self, tasks: Sequence[_Task]) -> Iterator[list[_Task]]:
        """Those that need the network, in batches."""
        groups: dict[Any, list[_Task]] = {}
        for task in tasks:
            if task.problem is not None:
                continue
            kept, options = task.kept, task.job.options
            assert kept is not None
            if kept.maps_of != options.test_time_augmentation:
                groups.setdefault((kept.model, options.test_time_augmentation, kept.ready.group), []).append(task)
        for group in groups.values():
            size = self._batch_sizes[group[0].job.model]
            yield from (group[start : start + size] for start in range(0, len(group), size))

    def _run_network(self, tasks: Sequence[_Task]) -> None:
        """Fill in the maps of images that are alike; of a file with the whole pipeline, the results."""
        kept = [task.kept for task in tasks if task.kept is not None]
        try:
            engine = self._engine(kept[0].model, tasks[0].job.options)
            batch = [
                engine.ready(image.pixels) if image.ready.prepared.tensor.is_meta else image.ready for image in kept
            ]
            start = time.perf_counter()
            if isinstance(engine, PipelineEngine):
                for image, result in zip(kept, engine.predict(batch).results, strict=True):
                    image.result, image.result_of = result, tasks[0].job.options.postprocess
            else:
                raw_maps = engine.raw_maps(batch)
                for index, image in enumerate(kept):
                    image.raw_maps = each_map(raw_maps, lambda map_, i=index: map_[i : i + 1].clone())  # type: ignore[misc]
                    image.result = image.result_of = None
            seconds = time.perf_counter() - start
        except Exception as error:
            for task in tasks:
                task.problem = self._problem(error, task)
            return
        for task, image in zip(tasks, kept, strict=True):
            image.maps_of = task.job.options.test_time_augmentation
            image.ready = _without_values(image.ready)
            task.passes, task.seconds["network"] = 1, seconds

    def _finish(self, task: _Task) -> Reply | Problem:
        if task.problem is None:
            with self._problems(task):
                return self._reply(task)
        assert task.problem is not None
        return task.problem

    def _reply(self, task: _Task) -> Reply:
        kept, options = task.kept, task.job.options
        assert kept is not None
        predictor = PanopticPredictor(self._engine(kept.model, options))
        with _timed(task, "postprocess"):
            if kept.result is None or kept.result_of != options.postprocess:
                assert kept.raw_maps is not None
                kept.result = predictor.engine.results(kept.raw_maps, [kept.ready])[0]
                kept.result_of = options.postprocess
            result = kept.result.without_weak_things(options.min_score)
        self._keep(kept)

        def maps() -> UpsampledMaps:
            if kept.raw_maps is None:
                return UpsampledMaps(None, None)
            return predictor.upsampled_maps(kept.raw_maps, kept.ready)

        about = {
            "image_id": kept.image_id,
            "model": kept.model,
            "postprocess": asdict(options.postprocess),
            "test_time_augmentation": asdict(options.test_time_augmentation),
            "min_score": options.min_score,
        }
        with _timed(task, "encode"):
            pixels = drawable(kept.pixels, self._predictors[kept.model].config.input)
            body, media_type = answer_bytes(Seen(pixels, result, maps, about), options)
        num_pixels = kept.pixels.shape[0] * kept.pixels.shape[1]
        return Reply(body, media_type, kept.image_id, num_pixels, task.passes, task.seconds)

    def _engine(self, model: str, options: Options) -> Engine:
        engine = self._predictors[model].engine
        config = engine.config
        asked = (options.postprocess, options.test_time_augmentation)
        if asked == (config.postprocess, config.test_time_augmentation):
            return engine
        return engine.changed(postprocess=asked[0], test_time_augmentation=asked[1])

    def _keep(self, kept: _Kept) -> None:
        self._kept[kept.image_id] = kept
        self._kept.move_to_end(kept.image_id)
        total = sum(image.num_bytes for image in self._kept.values())
        while self._kept and total > self._settings.kept_bytes:
            total -= self._kept.popitem(last=False)[1].num_bytes

    @contextmanager
    def _problems(self, task: _Task) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            task.problem = self._problem(error, task)

    def _problem(self, error: Exception, task: _Task) -> Problem:
        if isinstance(error, Problem):
            return error
        name = task.job.model
        for kind, status in _STATUS:
            if isinstance(error, kind):
                return Problem(status, str(error).replace(str(self._settings.models[name]), name))
        logger.exception("A worker failed.")
        return fault()

    def _batch_size(self, engine: Engine) -> int:
        """Images that go through the network together: as told, or more than one where that is measured to gain."""
        if self._settings.batch_size is not None:
            return self._settings.batch_size
        image = np.random.default_rng(0).integers(0, 255, (_TRIAL_SIDE, _TRIAL_SIDE, 3), np.uint8)
        try:
            ready = engine.ready(image)
            engine.predict([ready])  # what happens once
            if not (isinstance(engine, NetworkEngine) and isinstance(engine.model, torch.nn.Module)):
                return 1
            alone, together = (_shortest(engine, [ready] * count) for count in (1, _MOST_IN_A_BATCH))
        except PanopticDeepLabError:  # a file for another size, or a network for a crop of one
            return 1
        gains = together < _GAIN * _MOST_IN_A_BATCH * alone
        logger.info(
            "An image takes %.0f ms, %d together take %.0f ms, so batches are %s.",
            1000 * alone,
            _MOST_IN_A_BATCH,
            1000 * together,
            "used" if gains else "not used",
        )
        return _MOST_IN_A_BATCH if gains else 1


def _shortest(engine: Engine, batch: list[ReadyImage]) -> float:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        engine.predict(batch)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _without_values(ready: ReadyImage) -> ReadyImage:
    """Its sizes, which post-processing needs, without its pixels."""
    first, *others = (p._replace(tensor=p.tensor.to("meta")) for p in (ready.prepared, *ready.others))
    return ready._replace(prepared=first, others=tuple(others))


@contextmanager
def _timed(task: _Task, stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        task.seconds[stage] = time.perf_counter() - start
