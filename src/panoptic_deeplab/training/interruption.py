"""SIGTERM and Ctrl+C: finish the step, write a checkpoint, then stop; during a validation, stop at once."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import torch

from panoptic_deeplab.distributed import all_reduce_sum

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """Context in which the first SIGTERM or SIGINT is only noted; the second one acts as usual.

    Slurm and torchrun announce the end of a job with SIGTERM, about 30 seconds before they kill it.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        """The signal that came, in this process."""
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():  # Python allows signal handlers only there
            for number in _SIGNALS:
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()

    def agreed(self) -> int | None:
        """The signal, in every process, once any process got one. All processes must call it together."""
        came = torch.tensor([float(self.requested == number) for number in _SIGNALS])  # on the CPU: waits for no GPU
        for number, count in zip(_SIGNALS, all_reduce_sum(came).tolist(), strict=True):
            if count > 0:
                return number
        return None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
