"""Checkpoint files of other implementations -> a dictionary of tensors. Nothing in a file is ever executed.

They are `.safetensors`, files of `torch.save`, or pickles of NumPy arrays (detectron2's zoo); see `tensors.py`. A
file holds the tensors themselves, or a dictionary of a training run in which they are under `state_dict` or `model`.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.weights.reading.tensors import read_content

logger = logging.getLogger(__name__)

_WRAPPERS = ("state_dict", "model")
"""Where training checkpoints of bowenc0221 and detectron2 keep the tensors."""

_PARALLEL_PREFIX = "module."
"""Which `DistributedDataParallel` puts before every name."""

_NUMBERS = "biuf"
"""Kinds of NumPy dtypes: bool, integers, floating point."""


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a `.pth`, `.pt`, `.pkl` or `.safetensors` file by name; a prefix `module.` is taken off.

    Raises:
        CheckpointError: the file is missing or damaged, holds something else than tensors and plain values, or has no
            tensors where they are expected.
    """
    content = _read(path)
    wrapper = next((key for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
    entries: Mapping[Any, Any] = content if wrapper is None else content[wrapper]
    if wrapper is not None:
        others = sorted(str(key) for key in content if key != wrapper)
        logger.info("Reading the weights under %r of %s; not used: %s.", wrapper, path, ", ".join(others) or "nothing")
    state = {_text(name, path): _tensor(name, value, path) for name, value in entries.items()}
    if not state:
        raise CheckpointError(f"{path} holds no weights. Expected a dictionary of tensors by name.")
    if all(name.startswith(_PARALLEL_PREFIX) for name in state):
        state = {name.removeprefix(_PARALLEL_PREFIX): value for name, value in state.items()}
    return state


def _read(path: Path) -> Mapping[Any, Any]:
    content = read_content(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} must hold a dictionary of tensors. Got {type(content).__name__} instead.")
    return content


def _text(name: object, path: Path) -> str:
    if not isinstance(name, str):
        raise CheckpointError(f"{path} has a {type(name).__name__} as the name of an entry. Expected text.")
    return name


def _tensor(name: str, value: object, path: Path) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.ndarray) and value.dtype.kind in _NUMBERS:
        return torch.from_numpy(value)
    raise CheckpointError(f"{path} has a {type(value).__name__} under {name!r}. Expected tensors only.")
