"""Weights that are not finite (NaN, infinity) never become a checkpoint, and none is resumed from."""

from collections.abc import Iterator

import torch
from torch import Tensor

from panoptic_deeplab.training.state import TrainingState

_SHOWN = 3


def not_finite(state: TrainingState) -> str | None:
    """The first tensors of weights (with statistics), average and optimizer that are not finite; None if all are."""
    names = [name for name, tensor in _tensors(state) if not bool(torch.isfinite(tensor).all())]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more if names else None


def _tensors(state: TrainingState) -> Iterator[tuple[str, Tensor]]:
    yield from state.model.state_dict().items()
    if state.ema is not None:
        yield from ((f"the average of {name}", tensor) for name, tensor in state.ema.model.state_dict().items())
    for name, parameter in state.model.named_parameters():
        for key, value in state.optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                yield f"the optimizer's {key} of {name}", value
