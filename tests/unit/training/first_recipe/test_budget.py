"""Steps are timed for real, and fit into the time."""

from dataclasses import replace

import pytest

from panoptic_deeplab.config import Config
from panoptic_deeplab.data.sources import open_source
from panoptic_deeplab.training.first_recipe import budget
from panoptic_deeplab.training.first_recipe.budget import Costs, time_training


def test_minutes_by_hand() -> None:
    costs = Costs(step=2.0, reading=0.1, prediction=1.0, work=2.0)
    # 0.97 * 1800 s, less 40 s to start, 40 + 60 images to read, and two times 20 predictions
    assert costs.minutes_in(30, training_images=40, validation_images=20) == pytest.approx((1746 - 40 - 10 - 40) / 60)
    assert costs.minutes_in(0.1, training_images=40, validation_images=20) == 2 / 60


def test_real_steps_are_timed(tiny_config: Config) -> None:
    config = replace(tiny_config, train=replace(tiny_config.train, ema_decay=0.9))
    data = config.data
    training, validation = open_source(data, data.train_split), open_source(data, data.val_split)
    costs = time_training(training, validation, config, device="cpu")
    assert 0 < costs.work <= costs.step < 60
    assert 0 < costs.reading < 60
    assert 0 < costs.prediction < 60


def test_a_slow_machine_is_not_timed_for_ever(tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "_LONGEST", 0.0)
    steps = []
    real = budget.optimization_step
    monkeypatch.setattr(budget, "optimization_step", lambda *a, **k: steps.append(1) or real(*a, **k))
    source = open_source(tiny_config.data, "val:1")
    time_training(source, source, tiny_config, device="cpu")
    assert len(steps) == 1
