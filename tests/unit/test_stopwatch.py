"""Stages of a computation."""

import pytest

from panoptic_deeplab import stopwatch
from panoptic_deeplab.stopwatch import Stopwatch, stage


def test_stages_add_up_in_the_order_of_their_first_appearance(monkeypatch):
    ticks = iter([0.0, 2.0, 10.0, 11.0, 20.0, 23.0])
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: next(ticks))
    watch = Stopwatch()
    for name in ("network", "decode", "network"):
        with stage(watch, name):
            pass
    assert list(watch.seconds.items()) == [("network", 5.0), ("decode", 1.0)]


def test_without_a_stopwatch_nothing_is_measured():
    with stage(None, "network"):
        pass


def test_an_error_passes_through():
    with pytest.raises(ZeroDivisionError), stage(Stopwatch(), "network"):
        raise ZeroDivisionError


def test_a_gpu_is_waited_for(monkeypatch):
    waited = []
    monkeypatch.setattr(stopwatch.torch.cuda, "synchronize", waited.append)
    with Stopwatch("cuda:1").stage("network"):
        pass
    assert [str(device) for device in waited] == ["cuda:1", "cuda:1"]
