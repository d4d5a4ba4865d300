"""Timing and memory."""

import mmap

import pytest
import torch

from panoptic_deeplab.profiling import measure
from panoptic_deeplab.profiling.measure import Timing, peak_memory, run_repeatedly


def test_timing_of_runs():
    timing = Timing.of([0.5, 0.1, 0.3, 0.2, 0.4, 0.7, 0.6, 0.9, 0.8, 1.0])
    assert timing == Timing(median=0.55, p90=0.9, minimum=0.1, runs=10)


@pytest.mark.parametrize(("count", "expected"), [(1, 1.0), (2, 2.0), (11, 10.0)])
def test_nine_of_ten_runs_take_no_longer(count, expected):
    assert Timing.of([float(i + 1) for i in range(count)]).p90 == expected


@pytest.mark.parametrize(("seconds", "runs"), [(0.5, 3), (9.0, 5)])
def test_runs_until_the_time_is_over_but_so_many_at_least(monkeypatch, seconds, runs):
    clock = iter(range(0, 1000, 1))
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(clock) * 2.0)  # each run takes 2 s
    calls = []
    timed = run_repeatedly(lambda: calls.append(1), seconds=seconds)
    assert timed == [2.0] * runs
    assert len(calls) == runs + 2  # that do not count


def test_peak_memory_of_a_block():
    # not from the heap, which may have enough left from earlier
    with peak_memory(torch.device("cpu")) as peak, mmap.mmap(-1, 40 * 2**20) as memory:
        for page in range(0, len(memory), mmap.PAGESIZE):
            memory[page] = 1
    assert peak.process > 40 * 2**20
    assert peak.gpu is None
    if peak.process_increase is not None:  # Linux
        assert 30 * 2**20 < peak.process_increase < 200 * 2**20


def test_a_system_that_does_not_tell(monkeypatch, tmp_path):
    monkeypatch.setattr(measure, "_CLEAR_REFS", tmp_path / "absent" / "clear_refs")
    with peak_memory(torch.device("cpu")) as peak:
        pass
    assert peak.process > 2**20
    assert peak.process_increase is None
