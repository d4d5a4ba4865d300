"""When a run ends: after its last step, when its time is over, or when validations find nothing better any more.

`train.max_minutes` counts the time of training and validating over all starts of a run, as far as checkpoints know it:
what a kill has lost is not counted, nor is the reading of the data before the first step.
"""

import time

import torch

from panoptic_deeplab.config import TrainConfig
from panoptic_deeplab.distributed import Process, all_reduce_sum
from panoptic_deeplab.training.state import TrainingState


class Clock:
    """Counts the seconds of a run; all processes go by the clock of the first one where time decides about anything.

    Args:
        process: this process.
        settings: whether there is a budget.
        spent: seconds of earlier starts of the run.
    """

    def __init__(self, process: Process, settings: TrainConfig, *, spent: float) -> None:
        self._process = process
        self._decides = settings.max_minutes is not None
        self._begin = time.monotonic() - spent

    def update(self, state: TrainingState) -> None:
        """Set `state.seconds`. All processes must call it together."""
        seconds = time.monotonic() - self._begin
        if self._decides:
            own = torch.tensor(seconds if self._process.is_main else 0.0, dtype=torch.float64)
            seconds = float(all_reduce_sum(own))
        state.seconds = seconds


def time_is_over(state: TrainingState, settings: TrainConfig) -> bool:
    """Whether the budget is spent; one step is made in any case, or there would be no model."""
    return settings.max_minutes is not None and state.step > 0 and state.seconds >= 60 * settings.max_minutes


def reason_to_end(state: TrainingState, settings: TrainConfig) -> str | None:
    """Why no further step is made, as a clause for a message; None while there is no reason."""
    if state.step >= settings.max_steps:
        return "all steps are made"
    if time_is_over(state, settings):
        return f"its {settings.max_minutes:g} minutes are over (train.max_minutes)"
    if settings.early_stopping is not None and state.validations_since_best >= settings.early_stopping:
        count = state.validations_since_best
        return f"{count} validation{'s' * (count > 1)} found nothing better than the best (train.early_stopping)"
    return None
