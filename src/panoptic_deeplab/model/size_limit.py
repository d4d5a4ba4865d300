"""`at_most`: a network that is larger than its weights file or the machine is refused before it takes memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_MAKERS = frozenset({torch.empty, torch.full, torch.ones, torch.rand, torch.randn, torch.zeros})
"""By which modules make their parameters."""


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
        super().__init__()  # type: ignore[no-untyped-call]
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
