"""`TrainingState`: everything that a step changes."""

from dataclasses import dataclass

import torch
from torch import nn

from panoptic_deeplab.training.ema import ExponentialMovingAverage


@dataclass(kw_only=True)
class TrainingState:
    """What changes while training, and is restored on resume."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: ExponentialMovingAverage | None
    step: int = 0
    """Optimizer steps made."""
    best_metric: float | None = None
    """Highest value of `evaluation.metric`, in [0, 1]; None before the first validation."""
    validations_since_best: int = 0
    """Validations after the one that found `best_metric`; like that, it is counted in the main process."""
    seconds: float = 0.0
    """Time that the run has taken, over all its starts; see `ending.py`."""
