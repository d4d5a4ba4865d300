"""A recipe at work: what the loader gives, and what a training step takes."""

import time
from contextlib import closing

import torch

from panoptic_deeplab.config import Config
from panoptic_deeplab.data.loader import Batch, training_batches
from panoptic_deeplab.data.sources import open_source
from panoptic_deeplab.distributed import Process, resolve_device
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.profiling.measure import Timing, peak_memory, run_repeatedly
from panoptic_deeplab.profiling.report import TrainingRow
from panoptic_deeplab.training.allocator import keep_freed_memory
from panoptic_deeplab.training.ema import ExponentialMovingAverage
from panoptic_deeplab.training.losses import PanopticDeepLabLoss
from panoptic_deeplab.training.optimizer import build_optimizer
from panoptic_deeplab.training.precision import with_resolved_precision
from panoptic_deeplab.training.state import TrainingState
from panoptic_deeplab.training.step import batch_to_device, optimization_step, place_network


def measure_training(name: str, config: Config, *, device: str, seconds: float = 10.0) -> TrainingRow:
    """Measure one recipe, with random weights and its own data.

    The loader is measured for so many seconds, and again the steps; at least three batches each.
    """
    process = Process(device=resolve_device(device))
    if process.device == "cpu":
        keep_freed_memory()
    source = open_source(config.data, config.data.train_split)
    with closing(training_batches(source, config, rank=0, world_size=1)) as batches:
        batch = next(batches)  # starts the worker processes
        # what the workers have made beforehand is no speed: a worker makes two batches ahead
        for _ in range(2 * config.data.num_workers):
            next(batches)
        given, start = 0, time.perf_counter()
        while given < 3 or time.perf_counter() - start < seconds:
            next(batches)
            given += 1
        loader_seconds = time.perf_counter() - start

    step = TrainingStep(config, source.categories.num_classes, batch, process)
    torch_device = torch.device(process.device)
    with peak_memory(torch_device) as peak:
        steps = run_repeatedly(step, seconds=seconds)
    return TrainingRow(
        name=name,
        device=process.device,
        precision=with_resolved_precision(config, process.device).train.precision,
        crop_size=config.data.crop_size,
        batch_size=config.train.batch_size,
        num_workers=config.data.num_workers,
        step=Timing.of(steps),
        loader_images_per_second=given * config.train.batch_size / loader_seconds,
        peak_process_bytes=peak.process,
        peak_gpu_bytes=peak.gpu,
    )


class TrainingStep:
    """A step that can be repeated, always with the same batch."""

    def __init__(self, config: Config, num_classes: int, batch: Batch, process: Process) -> None:
        torch.manual_seed(config.train.seed)
        config = with_resolved_precision(config, process.device)
        self._settings, self._process, self._batch = config.train, process, batch
        model = PanopticDeepLab(config.model, num_classes)
        place_network(model, config.train, device=process.device)
        decay = config.train.ema_decay
        self._state = TrainingState(
            model=model,
            optimizer=build_optimizer(model, config.train),
            ema=None if decay is None else ExponentialMovingAverage(model, decay=decay),
        )
        self._loss = PanopticDeepLabLoss(config.loss, align_corners=config.model.align_corners)

    @classmethod
    def of_recipe(cls, config: Config, *, device: str) -> "TrainingStep":
        """A step with the first batch of a recipe's data."""
        source = open_source(config.data, config.data.train_split)
        with closing(training_batches(source, config, rank=0, world_size=1)) as batches:
            batch = next(batches)
        return cls(config, source.categories.num_classes, batch, Process(device=resolve_device(device)))

    def __call__(self) -> None:
        """Make a step and wait for it."""
        state, settings, process = self._state, self._settings, self._process
        batch = batch_to_device(self._batch, device=process.device, channels_last=settings.channels_last)
        state.step = min(state.step, settings.max_steps - 1)  # the schedule ends there, the measurement may not
        terms = optimization_step(state.model, self._loss, state, batch, config=settings, process=process)
        terms.total.item()  # waits for the device
