"""Sizes that a file claims, compared with its own before any memory is taken.

`Memory` counts what reading a file makes; `at_most` what a network takes that a file asks for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

_TOO_LARGE = ("allocate memory", "overflow")
"""What torch says of sizes that it cannot make."""

_ALLOWANCE = 4
"""So many times its own size a file may take: its bytes, what is made of them, a second name for some of that."""


class Memory:
    """Counts what reading a file of so many bytes takes."""

    def __init__(self, file_size: int) -> None:
        self._left = _ALLOWANCE * file_size + 2**20

    def take(self, size: Any) -> None:
        """Count `size` bytes before they are allocated; a MemoryError: the file is too small to need so much."""
        if type(size) is not int or size < 0:
            raise ValueError("it has a size that is no count")
        if size > self._left:
            raise MemoryError(f"what it holds claims {size / 1e9:.2f} GB and more")
        self._left -= size


class TooLargeError(Exception):
    """Tensors of more than the limit were asked for."""


@contextmanager
def at_most(limit: int) -> Iterator[None]:
    """Count the parameters and buffers that modules of this thread are given within the block, but those on `meta`.

    A module is given an empty tensor before it is filled, so one that is too large has taken no memory yet. A tensor
    that goes beyond the limit, in bytes, or beyond what torch can make is a `TooLargeError`.
    """
    left, thread = limit, get_ident()

    def count(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal left
        if tensor is not None and tensor.device.type != "meta" and get_ident() == thread:
            left -= tensor.nbytes
            if left < 0:
                raise TooLargeError

    handles = (register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count))
    try:
        yield
    except (RuntimeError, TypeError) as error:
        if any(words in str(error).lower() for words in _TOO_LARGE):
            raise TooLargeError from error
        raise
    finally:
        for handle in handles:
            handle.remove()
