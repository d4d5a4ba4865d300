"""SIGTERM and Ctrl+C: finish the step, write a checkpoint, then stop."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import torch

from panoptic_deeplab.distributed import all_reduce_sum


class Interruption:
    """Context in which the first SIGTERM or SIGINT is only noted; the second one acts as usual.

    Slurm and torchrun announce the end of a job with SIGTERM, about 30 seconds before they kill it.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():  # Python allows signal handlers only there
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()

    def agreed(self) -> bool:
        """True in every process once any process was asked to stop. All processes must call it together."""
        return bool(all_reduce_sum(torch.tensor(float(self.requested))) > 0)  # on the CPU: no GPU is waited for

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
