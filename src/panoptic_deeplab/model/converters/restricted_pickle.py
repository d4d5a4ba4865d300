"""An unpickler for NumPy arrays and plain containers.

A pickle is a program: it may name any function and call it. Here a name is only ever looked up in `_ADMITTED`, which
holds functions of this file that build arrays and dictionaries out of numbers and bytes. Not even NumPy's own
constructors are called, and whatever is not in that list is refused before anything is imported.
"""

import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np


def load_arrays(path: Path) -> Any:
    """Read a pickle of dictionaries, lists, text, numbers and NumPy arrays.

    Raises:
        pickle.UnpicklingError: it holds something else.
        Exception: it is damaged (any kind).
    """
    with path.open("rb") as file:
        # Strings of Python 2 are bytes; latin1 keeps each of them.
        return _finished(_ArraysOnly(file, encoding="latin1").load())


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        function = _ADMITTED.get((module.replace("numpy._core", "numpy.core"), name))
        if function is None:
            raise pickle.UnpicklingError(f"it wants {module}.{name}")
        return _Call(function)


class _Call:
    """A function that a pickle can call, and do nothing else with."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it wants to change a function")


class _DataType:
    """A number type, `f4` for example; its byte order follows in the state."""

    __slots__ = ("_code", "_order")

    def __init__(self, code: str, *flags: object) -> None:
        if not isinstance(code, str) or code[:1] not in "biuf" or not code[1:].isdigit():
            raise pickle.UnpicklingError(f"it has an array of {code!r}, which are no numbers")
        self._code, self._order = code, "="

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"it has an array with byte order {order!r}")
        self._order = order

    def to_numpy(self) -> np.dtype[Any]:
        return np.dtype(self._order.replace("|", "=") + self._code)


class _Array:
    """An array whose shape, type and numbers follow in the state."""

    __slots__ = ("array",)

    def __init__(self, *arguments: object) -> None:
        self.array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, data_type, is_fortran, data = state
        self.array = _from_bytes(data, data_type, shape, "F" if is_fortran else "C")


def _from_bytes(data: Any, data_type: Any, shape: Any, order: Any) -> np.ndarray:
    """The array, a copy of the bytes in native byte order."""
    if isinstance(data, str):  # as Python 2 wrote them
        data = data.encode("latin1")
    if not isinstance(data, (bytes, bytearray)) or not isinstance(data_type, _DataType) or order not in ("C", "F"):
        raise pickle.UnpicklingError("it has an array of something else than numbers")
    dtype = data_type.to_numpy()
    flat = np.frombuffer(data, dtype=dtype)
    return flat.reshape(shape, order=order).astype(dtype.newbyteorder("="), order="C")


def _scalar(data_type: Any, data: Any) -> Any:
    return _from_bytes(data, data_type, (), "C").item()


def _latin1(text: Any, encoding: Any) -> bytes:
    """How protocol 2 stores bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("it has bytes in an encoding other than latin1")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """How protocol 2 stores them."""
    return b""


def _dictionary(pairs: Iterable[Any] = ()) -> dict[Any, Any]:
    return dict(pairs)


def _placeholder(*arguments: object) -> None:
    """Stands where a pickle names the array class, which is never called."""
    raise pickle.UnpicklingError("it calls the array class")


_ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _placeholder,
    ("numpy", "dtype"): _DataType,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _from_bytes,
    ("_codecs", "encode"): _latin1,
    ("__builtin__", "bytes"): _no_bytes,
    ("collections", "OrderedDict"): _dictionary,
}
"""Module and name in the pickle -> what is called instead."""


def _finished(value: Any, *, depth: int = 2) -> Any:
    """With arrays in place of what built them, in a dictionary and the dictionaries in it: no other place matters."""
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, dict) and depth:
        return {key: _finished(item, depth=depth - 1) for key, item in value.items()}
    return value
