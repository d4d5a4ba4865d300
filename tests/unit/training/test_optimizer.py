import math

import pytest
import torch
from torch import nn

from panoptic_deeplab.config import TrainConfig
from panoptic_deeplab.training.optimizer import (
    build_optimizer,
    describe_schedule,
    learning_rate,
    learning_rate_factor,
    parameter_groups,
    set_learning_rate,
)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.head = nn.Conv2d(4, 2, 1)


def test_poly_schedule_has_the_values_of_its_formula() -> None:
    config = TrainConfig(max_steps=60_000, poly_power=0.9)
    assert learning_rate_factor(0, config) == 1.0
    assert learning_rate_factor(30_000, config) == pytest.approx(0.5**0.9)
    assert learning_rate_factor(59_999, config) == pytest.approx((1 / 60_000) ** 0.9)


def test_warm_up_multiplies_the_poly_schedule_and_ends() -> None:
    config, plain = TrainConfig(max_steps=1000, warmup_steps=100), TrainConfig(max_steps=1000)
    assert learning_rate_factor(0, config) == pytest.approx(0.01)
    assert learning_rate_factor(49, config) == pytest.approx(0.5 * learning_rate_factor(49, plain))
    assert learning_rate_factor(100, config) == learning_rate_factor(100, plain)


def test_groups_separate_backbone_and_undecayed_parameters() -> None:
    model = Model()
    config = TrainConfig(learning_rate=0.1, backbone_learning_rate_factor=0.5, weight_decay=0.01)
    groups = parameter_groups(model, config)
    found = {(group["base_learning_rate"], group["weight_decay"]): {id(p) for p in group["params"]} for group in groups}
    convolution, norm = model.backbone
    assert found == {
        (0.05, 0.01): {id(convolution.weight)},
        (0.05, 0.0): {id(convolution.bias), id(norm.weight), id(norm.bias)},
        (0.1, 0.01): {id(model.head.weight)},
        (0.1, 0.0): {id(model.head.bias)},
    }


def test_frozen_parameters_are_in_no_group() -> None:
    model = Model()
    model.backbone.requires_grad_(False)
    members = [p for group in parameter_groups(model, TrainConfig()) for p in group["params"]]
    assert {id(p) for p in members} == {id(p) for p in model.head.parameters()}


def test_adam_without_weight_decay_is_adam() -> None:
    reference, model = Model(), Model()
    model.load_state_dict(reference.state_dict())
    adam = torch.optim.Adam(reference.parameters(), lr=0.01)
    ours = build_optimizer(model, TrainConfig(learning_rate=0.01))
    for _ in range(3):
        for expected, actual in zip(reference.parameters(), model.parameters(), strict=True):
            expected.grad = torch.randn_like(expected)
            actual.grad = expected.grad.clone()
        adam.step()
        ours.step()
    for expected, actual in zip(reference.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(actual, expected)


def test_sgd_has_momentum() -> None:
    optimizer = build_optimizer(Model(), TrainConfig(optimizer="sgd"))
    assert isinstance(optimizer, torch.optim.SGD)
    assert {group["momentum"] for group in optimizer.param_groups} == {0.9}


def test_set_learning_rate_keeps_the_ratio_of_groups() -> None:
    optimizer = build_optimizer(Model(), TrainConfig(learning_rate=0.1, backbone_learning_rate_factor=0.5))
    set_learning_rate(optimizer, 0.25)
    set_learning_rate(optimizer, 0.5)
    assert {group["lr"] for group in optimizer.param_groups} == {0.05, 0.025}


def test_schedule_is_described_with_resolved_values() -> None:
    config = TrainConfig(max_steps=101, warmup_steps=10, learning_rate=0.01, poly_power=1.0)
    assert "at step 100" in describe_schedule(config)
    assert math.isclose(learning_rate(50, config), 0.01 * 51 / 101)
    assert f"{0.01 * 51 / 101:.3g} at step 50" in describe_schedule(config)


@pytest.mark.parametrize(("max_steps", "first"), [(1, "0.001"), (2, "0.001"), (5, "0.00025")])
def test_schedule_of_a_short_run_can_be_described(max_steps: int, first: str) -> None:
    config = TrainConfig(max_steps=max_steps, warmup_steps=max_steps - 1)
    assert describe_schedule(config).startswith(f"{first} at step 0")
    assert (", " in describe_schedule(config)) == (max_steps > 1)
