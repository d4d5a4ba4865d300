"""What an optimizer remembers of each parameter, as it is stored in a checkpoint and put back.

The fused kernels of PyTorch believe what they are given: a state of another shape ends the process without a word. So
names, shapes and types are compared first, and the memory format is that of the parameter.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from panoptic_deeplab.errors import CheckpointError

_COUNTER = "step"
"""AdamW's name of a number that it has for each parameter: how often it was changed."""


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Tensor]]:
    """The tensors of each parameter that is trained, by the parameter's name; empty before its first gradient.

    Args:
        model: whose parameters.
        optimizer: over parameters of `model`.
    """
    return {name: dict(optimizer.state.get(parameter, {})) for name, parameter in _trained(model, optimizer).items()}


def restore_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, stored: Any, *, step: int, where: str
) -> None:
    """Put back what `optimizer_state` gave. Learning rate and weight decay are those of the new optimizer.

    Args:
        model: whose parameters.
        optimizer: over parameters of `model`, without a state.
        stored: as it was read from a file.
        step: steps made.
        where: the file, for the message.

    Raises:
        CheckpointError: it belongs to other parameters, or to another optimizer.
    """
    parameters = _trained(model, optimizer)
    if not isinstance(stored, Mapping) or stored.keys() != parameters.keys():
        raise CheckpointError(f"{where} holds the state of an optimizer over other parameters than those of the model.")
    keys = {"momentum_buffer"} if isinstance(optimizer, torch.optim.SGD) else {_COUNTER, "exp_avg", "exp_avg_sq"}
    state: dict[str, dict[str, Tensor]] = {}
    for name, parameter in parameters.items():
        entry = stored[name]
        fault = _fault(entry, parameter, keys, step)
        if fault is not None:
            raise CheckpointError(f"{where} holds a state of the optimizer that does not fit {name}: {fault}.")
        state[name] = {
            key: value if key == _COUNTER else torch.empty_like(parameter).copy_(value) for key, value in entry.items()
        }
    own = optimizer.state_dict()
    order = [index for group in own["param_groups"] for index in group["params"]]
    by_index = {index: state[name] for index, name in zip(order, parameters, strict=True) if state[name]}
    optimizer.load_state_dict({"state": by_index, "param_groups": own["param_groups"]})


def _trained(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, nn.Parameter]:
    """The optimizer's parameters by name, in its order."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(parameter)]: parameter for group in optimizer.param_groups for parameter in group["params"]}


def _fault(entry: Any, parameter: Tensor, keys: set[str], step: int) -> str | None:
    if not isinstance(entry, Mapping) or not all(_is_plain(value) for value in entry.values()):
        return "it is no dictionary of tensors"
    if not entry:  # a parameter that never had a gradient
        return None
    if entry.keys() != keys:
        return f"it has {', '.join(sorted(map(str, entry)))} instead of {', '.join(sorted(keys))}"
    for key, value in entry.items():
        shape = torch.Size() if key == _COUNTER else parameter.shape
        if value.shape != shape or value.dtype != parameter.dtype:
            return f"{key} is {value.dtype} {tuple(value.shape)} instead of {parameter.dtype} {tuple(shape)}"
    if _COUNTER in keys and not 0 < float(entry[_COUNTER]) <= step:
        return f"it was changed {float(entry[_COUNTER]):g} times in {step} steps"
    return None


def _is_plain(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
