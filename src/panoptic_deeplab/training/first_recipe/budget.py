"""How many steps fit into a time: a few real ones are timed on this machine."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import NamedTuple

import numpy as np
import torch

from panoptic_deeplab.config import Config
from panoptic_deeplab.data.loader import training_batches
from panoptic_deeplab.data.sample import PanopticSource
from panoptic_deeplab.distributed import Process, resolve_device
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.training.allocator import keep_freed_memory
from panoptic_deeplab.training.ema import ExponentialMovingAverage
from panoptic_deeplab.training.losses import PanopticDeepLabLoss
from panoptic_deeplab.training.optimizer import build_optimizer
from panoptic_deeplab.training.precision import with_resolved_precision
from panoptic_deeplab.training.state import TrainingState
from panoptic_deeplab.training.step import batch_to_device, optimization_step, place_network

_UNTIMED, _TIMED = 2, 4
"""Steps: the first ones choose kernels and fill caches."""
_LONGEST = 60.0
"""Seconds after which no further step is timed, on a slow machine."""
_IMAGES = 3
_STARTING = 40.0
"""Seconds that two commands take to start, and to write pictures, checkpoints and reports."""
_SLACK = 0.97
"""Part of the time that is planned for: what surrounds the training is not always equally fast."""


class Costs(NamedTuple):
    """Seconds on this machine."""

    step: float
    """A training step, with what makes its batch."""
    reading: float
    """An image and its labels."""
    prediction: float
    """An image of the validation split, with post-processing and metrics, about."""
    work: float
    """What of a step is its own work: its time on a machine that does nothing else, about."""

    def minutes_in(self, minutes: float, *, training_images: int, validation_images: int) -> float:
        """Time for training that leaves some for the first reading of all images, a validation, and `evaluate`.

        Args:
            minutes: all that there are.
            training_images: images that are read before the first step.
            validation_images: images that are read, validated on and evaluated.

        Returns:
            `train.max_minutes`: that of one step at least, however little time there is.
        """
        read = self.reading * (training_images + 3 * validation_images)
        others = _STARTING + read + 2 * validation_images * self.prediction
        return max(self.step, _SLACK * 60 * minutes - others) / 60


def time_training(
    training: PanopticSource, validation: PanopticSource, config: Config, *, device: str = "auto"
) -> Costs:
    """Time some steps and predictions of the network that a configuration describes, with random weights.

    Args:
        training: the training split.
        validation: the validation split.
        config: everything; `train.precision` auto is what `train` makes of it.
        device: as in `train`.
    """
    process = Process(device=resolve_device(device))
    config = with_resolved_precision(config, process.device)
    if process.device == "cpu":
        keep_freed_memory()  # as training does
    model = PanopticDeepLab(config.model, training.categories.num_classes)
    place_network(model, config.train, device=process.device)
    decay = config.train.ema_decay
    ema = None if decay is None else ExponentialMovingAverage(model, decay=decay)
    state = TrainingState(model=model, optimizer=build_optimizer(model, config.train), ema=ema)
    loss = PanopticDeepLabLoss(config.loss, align_corners=config.model.align_corners)
    step_times: list[float] = []
    work_times: list[float] = []
    with closing(training_batches(training, config, rank=0, world_size=1)) as batches:
        while not step_times or (len(step_times) < _UNTIMED + _TIMED and sum(step_times) < _LONGEST):
            started = time.process_time()
            with _timed(step_times, process.device):
                batch = batch_to_device(next(batches), device=process.device, channels_last=config.train.channels_last)
                optimization_step(model, loss, state, batch, config=config.train, process=process)
            work_times.append((time.process_time() - started) / torch.get_num_threads())
    count = min(_IMAGES, len(validation))
    reading: list[float] = []
    prediction: list[float] = []
    predictor = PanopticPredictor.from_network(model, training.categories, config, device=process.device)
    for index in range(count):
        with _timed(reading, "cpu"):
            sample = validation[index * len(validation) // count]
        with _timed(prediction, process.device):
            predictor.predict(sample.pixels)
    step, work = (float(np.mean(times[_UNTIMED:] or times[-1:])) for times in (step_times, work_times))
    return Costs(
        step=step,
        work=min(step, work) if process.device == "cpu" else step,
        reading=sum(reading) / count,
        prediction=1.3 * sum(prediction) / count,  # metrics
    )


@contextmanager
def _timed(times: list[float], device: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    times.append(time.perf_counter() - started)
