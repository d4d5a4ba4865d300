"""Repeated timing and peak memory."""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

WARM_UP_RUNS = 2
"""Runs that do not count; CUDA graphs are recorded in the second."""

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of several runs."""

    median: float
    p90: float
    """Nine of ten runs take no longer."""
    minimum: float
    runs: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Timing":
        """Summarize how long each run took; one at least."""
        ordered = sorted(seconds)
        return cls(
            median=statistics.median(ordered),
            p90=ordered[-(-9 * len(ordered) // 10) - 1],
            minimum=ordered[0],
            runs=len(ordered),
        )


def run_repeatedly(run: Callable[[], None], *, seconds: float, least: int = 3) -> list[float]:
    """Time a function, which must wait for its own results, after `WARM_UP_RUNS`; gives the seconds of each run.

    It stops after about so many seconds, at most that and one run, but not before `least` runs.
    """
    for _ in range(WARM_UP_RUNS):
        run()
    timed: list[float] = []
    while len(timed) < least or sum(timed) < seconds:
        start = time.perf_counter()
        run()
        timed.append(time.perf_counter() - start)
    return timed


@dataclass(kw_only=True)
class PeakMemory:
    """Filled in when the block of `peak_memory` ends."""

    process: int = 0
    """Largest resident memory of the process, bytes."""
    process_increase: int | None = None
    """How much that is above the memory at the start; None where the system does not tell (it is Linux's)."""
    gpu: int | None = None
    """Largest memory of tensors on the GPU, bytes; None without one."""


@contextmanager
def peak_memory(device: torch.device) -> Iterator[PeakMemory]:
    """Measure the peak memory of a block of code, whose tensors are on `device`."""
    peak = PeakMemory()
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    resettable = _reset_process_peak()
    before = _status_bytes("VmRSS") if resettable else 0
    yield peak
    if resettable:
        peak.process = _status_bytes("VmHWM")
        peak.process_increase = max(peak.process - before, 0)
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        peak.process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    if on_gpu:
        peak.gpu = torch.cuda.max_memory_allocated(device)


def _reset_process_peak() -> bool:
    try:
        _CLEAR_REFS.write_text("5")  # Linux: the peak of the resident memory starts anew
    except OSError:
        return False
    return True


def _status_bytes(name: str) -> int:
    for line in _STATUS.read_text("ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"{_STATUS} has no {name}")
