"""Exponential moving average (EMA) of the weights: a second model, smoother and usually a little better.

Parameters *and* the statistics of batch normalisation are averaged with the same decay, so weights and statistics
belong to the same stretch of training.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class ExponentialMovingAverage:
    """The averaged copy of a model.

    Args:
        model: what to copy; its weights are the first average.
        decay: weight of the old average. In the first updates it is (1 + n) / (10 + n), n the number of updates, while
            that is smaller: the random start is forgotten quickly.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self._averaged = AveragedModel(model, use_buffers=True)
        self._averaged.requires_grad_(False).eval()
        self._averaged.n_averaged.fill_(1)  # so that the first update averages too, instead of copying

    @property
    def model(self) -> nn.Module:
        """The averaged model, in eval mode."""
        return self._averaged.module

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards `model`.

        Args:
            model: the current weights.
            step: number of optimizer steps made so far; decides about the decay, so nothing needs to be counted here.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        self._averaged.multi_avg_fn = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._averaged.update_parameters(model)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over the weights of an average that was saved as `model.state_dict()`."""
        self.model.load_state_dict(state)
