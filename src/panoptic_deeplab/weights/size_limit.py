"""Sizes that a file claims, compared with its own before any memory is taken.

`Memory` counts what reading a file makes; `at_most` what a network takes that a file asks for.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_MAKERS = frozenset({torch.empty, torch.full, torch.ones, torch.rand, torch.randn, torch.zeros})
"""The functions by which modules make their parameters."""


_ALLOWANCE = 4
"""So many times its own size a file may take: its bytes, what is made of them, a second name for some of that."""


class Memory:
    """Counts what reading a file takes.

    Args:
        file_size: size of the file in bytes.
    """

    def __init__(self, file_size: int) -> None:
        self._left = _ALLOWANCE * file_size + 2**20

    def take(self, size: Any) -> None:
        """Count `size` bytes, before they are allocated.

        Raises:
            MemoryError: the file is too small to need so much.
        """
        if type(size) is not int or size < 0:
            raise ValueError(f"it has a size of {size!r}")
        if size > self._left:
            raise MemoryError(f"what it holds claims {size / 1e9:.2f} GB and more")
        self._left -= size


class TooLargeError(Exception):
    """Tensors of more than the limit were asked for."""


@contextmanager
def at_most(limit: int | None) -> Iterator[None]:
    """Count the tensors that the block makes on any device but `meta`.

    Args:
        limit: bytes; None = no limit.

    Raises:
        TooLargeError: the next tensor would go beyond the limit; it is not made.
    """
    if limit is None:
        yield
        return
    with _Counting(limit):
        yield


class _Counting(TorchFunctionMode):
    def __init__(self, limit: int) -> None:
        super().__init__()
        self._left = limit

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _MAKERS and torch.get_default_device().type != "meta":
            try:
                self._left -= func(*args, **{**kwargs, "device": "meta"}).nbytes
            except (RuntimeError, TypeError, OverflowError) as error:  # more numbers than 64 bits can count
                raise TooLargeError from error
            if self._left < 0:
                raise TooLargeError
        return func(*args, **kwargs)
