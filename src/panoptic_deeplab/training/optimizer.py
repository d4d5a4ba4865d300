"""Which parameters learn how fast: parameter groups, the optimizer, and the learning rate of each step.

Section 4 of the paper: Adam, no weight decay, the "poly" policy. Linear warm-up is DeepLab's public recipes'.
"""

from typing import Any

import torch
from torch import nn

from panoptic_deeplab.config import TrainConfig

MOMENTUM = 0.9
"""Momentum of SGD (Table 1, first row)."""


def learning_rate_factor(step: int, config: TrainConfig, *, seconds: float = 0.0) -> float:
    """What every learning rate is multiplied by in a step: "poly" decay times linear warm-up.

    Args:
        step: index of the step, 0 ... max_steps - 1.
        config: `max_steps` and `max_minutes`, where the factor would reach 0, whichever comes first; `poly_power`;
            `warmup_steps`, over which it rises.
        seconds: time that the run has taken; only `max_minutes` asks for it.

    >>> config = TrainConfig(max_steps=100, warmup_steps=10, poly_power=1.0)
    >>> [round(learning_rate_factor(step, config), 3) for step in (0, 9, 50, 99)]
    [0.1, 0.91, 0.5, 0.01]
    >>> config = TrainConfig(max_steps=100, max_minutes=10, poly_power=1.0)
    >>> [learning_rate_factor(20, config, seconds=60 * minutes) for minutes in (1, 5, 11)]
    [0.8, 0.5, 0.0]
    """
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    spent = 0.0 if config.max_minutes is None else min(1.0, seconds / (60 * config.max_minutes))
    return float(warmup * (1 - max(step / config.max_steps, spent)) ** config.poly_power)


def learning_rate(step: int, config: TrainConfig, *, seconds: float = 0.0) -> float:
    """Learning rate of a step, outside the backbone."""
    return config.learning_rate * learning_rate_factor(step, config, seconds=seconds)


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer over all parameters that require a gradient.

    Args:
        model: parameters whose name starts with `backbone.` get `backbone_learning_rate_factor`.
        config: weight decay (not on biases and normalization) is decoupled for Adam, an L2 penalty for SGD.
    """
    groups = parameter_groups(model, config)
    # One fused kernel for all parameters, on CPUs as on GPUs. AdamW without weight decay is Adam.
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=MOMENTUM, fused=True)
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Backbone or not, decayed or not: at most four groups, each with its `base_learning_rate`."""
    members: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decayed = parameter.ndim > 1  # biases and normalization are vectors
            members.setdefault((name.startswith("backbone."), decayed), []).append(parameter)
    groups: list[dict[str, Any]] = []
    for (in_backbone, decayed), parameters in members.items():
        base = config.learning_rate * (config.backbone_learning_rate_factor if in_backbone else 1.0)
        groups.append(
            {
                "params": parameters,
                "lr": base,
                "base_learning_rate": base,
                "weight_decay": config.weight_decay if decayed else 0.0,
            }
        )
    return groups


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Give each group its `base_learning_rate` times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_learning_rate"] * factor


def describe_schedule(config: TrainConfig) -> str:
    """The resolved schedule as one line: the learning rate at a few steps of the run."""
    last = config.max_steps - 1
    steps = sorted({0, min(config.warmup_steps, last), last // 2, last * 9 // 10, last})
    sooner = "" if config.max_minutes is None else f"; sooner where {config.max_minutes:g} minutes are over before"
    return ", ".join(f"{learning_rate(s, config):.3g} at step {s}" for s in steps) + sooner
