"""How long the stages of a computation take."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


class Stopwatch:
    """Adds up the seconds of named stages.

    Args:
        device: whose work is measured. The host waits for a GPU at both ends of a stage, which costs some speed.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.seconds: dict[str, float] = {}
        """Time that each stage took, in the order of their first appearance."""
        self._device = torch.device(device)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a block of code. It must not be inside of another stage."""
        start = self._now()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + self._now() - start

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def stage(stopwatch: Stopwatch | None, name: str) -> AbstractContextManager[None]:
    """A stage, or nothing where nobody measures."""
    return nullcontext() if stopwatch is None else stopwatch.stage(name)
