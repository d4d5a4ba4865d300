"""Exponential moving average (EMA) of the weights: a second model, smoother and usually a little better.

Parameters *and* the statistics of batch normalization are averaged with the same decay, so weights and statistics
belong to the same stretch of training.
"""

import copy

import torch
from torch import nn


class ExponentialMovingAverage:
    """The averaged copy of a model.

    Args:
        model: what to copy; its weights are the first average.
        decay: weight of the old average. In the first updates it is (1 + n) / (10 + n), n the number of updates, while
            that is smaller: the random start is forgotten quickly.

    Attributes:
        decay: the argument.
        model: the averaged model, in eval mode, without gradients.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the weights after `step` optimizer steps, which decide about the decay."""
        decay = min(self.decay, (1 + step) / (10 + step))
        pairs = list(zip(self.model.state_dict().values(), model.state_dict().values(), strict=True))
        floats = [(average, current) for average, current in pairs if average.is_floating_point()]
        torch._foreach_lerp_([average for average, _ in floats], [current for _, current in floats], 1 - decay)
        for average, current in pairs:
            if not average.is_floating_point():  # the number of batches that batch normalization has seen
                average.copy_(current)
