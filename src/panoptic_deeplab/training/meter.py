"""Since the last log line: mean losses over all processes, speed; and the check that every loss is finite."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from panoptic_deeplab.distributed import Process, all_reduce_sum, gather_objects
from panoptic_deeplab.errors import TrainingError
from panoptic_deeplab.training.losses import LossTerms


class Meter:
    """Collects the losses of steps without waiting for the GPU, until `check` reads them.

    Args:
        process: this process; its losses are a summand of the batch's losses.
        batch_size: images a step over all processes.
    """

    def __init__(self, process: Process, *, batch_size: int) -> None:
        self._process = process
        self._batch_size = batch_size
        self._pending: list[tuple[int, Tensor, Sequence[str]]] = []
        self.restart()

    def restart(self) -> None:
        """Begin a new window: forget sums and time."""
        self._sums = torch.zeros(len(LossTerms._fields), dtype=torch.float64)
        self._num_steps = 0
        self._waited = 0.0
        self._started = time.perf_counter()

    @contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """Time spent in this context counts as waiting for the loader."""
        started = time.perf_counter()
        yield
        self._waited += time.perf_counter() - started

    def add(self, step: int, terms: LossTerms, image_ids: Sequence[str]) -> None:
        """Note this process's summand of each term of one step, from 1, and what it trained on, for messages."""
        self._pending.append((step, torch.stack(terms), image_ids))

    def check(self) -> None:
        """Read the noted losses. All processes must call it together.

        Raises:
            TrainingError: one of them is not finite; in every process, with the same message.
        """
        if not self._pending:
            return
        own = torch.stack([terms for _, terms, _ in self._pending])
        total = all_reduce_sum(own).double().cpu()
        if not bool(torch.isfinite(total).all()):
            first = int(torch.isfinite(total).all(dim=1).logical_not().nonzero()[0])
            step, _, image_ids = self._pending[first]
            culprits = gather_objects([] if bool(torch.isfinite(own[first]).all()) else list(image_ids))
            names = [name for names in culprits for name in names]
            raise TrainingError(_not_finite_message(step, LossTerms(*total[first]), names))
        self._sums += total.sum(dim=0)
        self._num_steps += len(self._pending)
        self._pending = []

    def summary(self) -> dict[str, float]:
        """Means since `restart`, after `check`; the names are TRAINING_COLUMNS of `tracking.py`."""
        assert self._num_steps > 0
        assert not self._pending
        seconds = time.perf_counter() - self._started
        means = dict(zip(LossTerms._fields, (self._sums / self._num_steps).tolist(), strict=True))
        return {
            "loss": means["total"],
            "loss_semantic": means["semantic"],
            "loss_center": means["center"],
            "loss_offset": means["offset"],
            "images_per_second": self._num_steps * self._batch_size / seconds,
            "data_wait_share": self._waited / seconds,
        }


def _not_finite_message(step: int, terms: LossTerms, image_ids: Sequence[str]) -> str:
    names = [n for n in LossTerms._fields if n != "total" and not bool(torch.isfinite(getattr(terms, n)))] or ["total"]
    values = ", ".join(f"{name} {float(getattr(terms, name))}" for name in LossTerms._fields)
    return (
        f"The {' and '.join(names)} loss of step {step} is not finite ({values}); images: {', '.join(image_ids)}.\n"
        "  Try a lower train.learning_rate or more train.warmup_steps, train.clip_gradient_norm (10, say), and"
        " train.precision float32.\n"
        "  If it is always the same image, look at its labels:  panoptic-deeplab data check"
    )
