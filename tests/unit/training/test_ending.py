"""Runs that end before their last step, and such that are made longer."""

import dataclasses
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from panoptic_deeplab.config import Config, TrainConfig
from panoptic_deeplab.distributed import Process
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.training import ending, trainer
from panoptic_deeplab.training.ending import Clock, reason_to_end
from panoptic_deeplab.training.optimizer import learning_rate
from panoptic_deeplab.training.state import TrainingState
from panoptic_deeplab.training.trainer import train
from panoptic_deeplab.training.validation import Validation
from panoptic_deeplab.weights.open import open_pretrained

pytestmark = pytest.mark.usefixtures("no_plots")

ReadMetrics = Callable[[Path], list[dict[str, float]]]


def _state(**values: Any) -> TrainingState:
    weight = torch.nn.Parameter(torch.zeros(1))
    return TrainingState(model=torch.nn.Module(), optimizer=torch.optim.SGD([weight]), ema=None, **values)


def _with(config: Config, **settings: Any) -> Config:
    return dataclasses.replace(config, train=dataclasses.replace(config.train, **settings))


@pytest.fixture
def minute_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which each step takes a minute, and nothing else takes time."""
    now = [1000.0]
    original = trainer.optimization_step

    def step(*arguments: Any, **keywords: Any) -> Any:
        now[0] += 60
        return original(*arguments, **keywords)

    monkeypatch.setattr(trainer, "optimization_step", step)
    monkeypatch.setattr(ending.time, "monotonic", lambda: now[0])


def _qualities(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    """Let validations find these values, one after the other."""
    original, left = trainer.validate, list(values)

    def validate(*arguments: Any, **keywords: Any) -> Validation:
        found = original(*arguments, **keywords)
        return found._replace(metrics=found.metrics | {"PQ": left.pop(0)})

    monkeypatch.setattr(trainer, "validate", validate)


def _last_end(run_folder: Path) -> tuple[int, str]:
    start = json.loads((run_folder / "environment.json").read_text())[-1]
    return start["end_step"], start["end"]


@pytest.mark.parametrize(
    ("settings", "state", "reason"),
    [
        ({}, {"step": 9, "seconds": 1e9, "validations_since_best": 99}, None),
        ({}, {"step": 10}, "all steps are made"),
        ({"max_minutes": 1.5}, {"step": 1, "seconds": 89.9}, None),
        ({"max_minutes": 1.5}, {"seconds": 90.0}, None),
        ({"max_minutes": 1.5}, {"step": 1, "seconds": 90.0}, "its 1.5 minutes are over (train.max_minutes)"),
        ({"early_stopping": 2}, {"validations_since_best": 1}, None),
        (
            {"early_stopping": 2},
            {"validations_since_best": 2},
            "2 validations found nothing better than the best (train.early_stopping)",
        ),
    ],
)
def test_reasons_to_end(settings: dict[str, Any], state: dict[str, Any], reason: str | None) -> None:
    assert reason_to_end(_state(**state), TrainConfig(max_steps=10, **settings)) == reason


def test_the_clock_counts_earlier_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter((100.0, 107.0))
    monkeypatch.setattr(ending.time, "monotonic", lambda: next(times))
    clock, state = Clock(Process(), TrainConfig(max_minutes=1.0), spent=50.0), _state()
    clock.update(state)
    assert state.seconds == 57.0


def test_early_stopping_needs_validations() -> None:
    with pytest.raises(ConfigError, match=r"`train\.early_stopping` must be null where train\.validate_every is 0"):
        TrainConfig(early_stopping=1, validate_every=0)


@pytest.mark.usefixtures("minute_a_step")
def test_time_ends_a_run_and_its_schedule(
    tiny_config: Config, tmp_path: Path, read_metrics: ReadMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    config = _with(tiny_config, max_steps=100, max_minutes=4.0, log_every=1, validate_every=0)
    with caplog.at_level(logging.INFO):
        assert train(config, run_folder=tmp_path, device="cpu") == tmp_path / "best"
    reason = "its 4 minutes are over (train.max_minutes)"
    assert f"The run has ended after step 4 of 100: {reason}." in caplog.text
    assert _last_end(tmp_path) == (4, reason)
    rows = read_metrics(tmp_path)
    rates = [1e-3 * (1 - spent / 4) ** 0.9 for spent in (0, 1, 2, 3)]
    assert [row["learning_rate"] for row in rows] == pytest.approx(rates)
    assert [row["step"] for row in rows if "PQ" in row] == [4]
    assert (tmp_path / "last").resolve().name == "step_000004"
    open_pretrained(tmp_path / "best")

    train(config, run_folder=tmp_path, resume=True, device="cpu")  # its time is over still
    assert _last_end(tmp_path) == (4, reason)
    longer = _with(config, max_minutes=6.0)
    train(longer, run_folder=tmp_path, resume=True, device="cpu")
    assert _last_end(tmp_path) == (6, "its 6 minutes are over (train.max_minutes)")
    rates = [1e-3 * (1 - spent / 6) ** 0.9 for spent in (4, 5)]
    assert [row["learning_rate"] for row in read_metrics(tmp_path)[4:]] == pytest.approx(rates)


def test_one_step_fits_into_any_time(tiny_config: Config, tmp_path: Path) -> None:
    best = train(_with(tiny_config, max_minutes=1e-9), run_folder=tmp_path, device="cpu")
    assert _last_end(tmp_path)[0] == 1
    open_pretrained(best)


def test_validations_without_a_better_one_end_a_run(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _with(tiny_config, early_stopping=2, validate_every=1, keep_checkpoints=9)
    _qualities(monkeypatch, [0.3, 0.5, 0.5, 0.4, 0.4])
    train(config, run_folder=tmp_path, device="cpu")
    reason = "2 validations found nothing better than the best (train.early_stopping)"
    assert _last_end(tmp_path) == (4, reason)
    assert json.loads((tmp_path / "best" / "validation.json").read_text())["PQ"] == 0.5
    assert (tmp_path / "last").resolve().name == "step_000004"

    train(config, run_folder=tmp_path, resume=True, device="cpu")  # nothing is better still
    assert _last_end(tmp_path) == (4, reason)
    train(_with(config, early_stopping=3), run_folder=tmp_path, resume=True, device="cpu")
    assert _last_end(tmp_path)[0] == 5


def test_a_run_is_made_longer(
    tiny_config: Config, tmp_path: Path, read_metrics: ReadMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    short, long = (_with(tiny_config, max_steps=steps, log_every=1, validate_every=0) for steps in (2, 5))
    train(short, run_folder=tmp_path, device="cpu")
    with caplog.at_level(logging.INFO):
        train(long, run_folder=tmp_path, resume=True, device="cpu")
    rate = learning_rate(2, long.train)
    assert f"from 2 to 5 steps: after step 2 the learning rate is {rate:.3g}" in caplog.text
    assert "where it was 0." in caplog.text
    rates = [learning_rate(step, short.train if step < 2 else long.train) for step in range(5)]
    assert [row["learning_rate"] for row in read_metrics(tmp_path)] == pytest.approx(rates)
    starts = json.loads((tmp_path / "environment.json").read_text())
    assert [(start["max_steps"], start["end_step"]) for start in starts] == [(2, 2), (5, 5)]
    with pytest.raises(ConfigError, match=r"train\.max_steps is 2 now, 5 in the run"):
        train(short, run_folder=tmp_path, resume=True, device="cpu")
