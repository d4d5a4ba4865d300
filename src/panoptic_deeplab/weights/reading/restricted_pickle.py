"""An unpickler for tensors, NumPy arrays and plain containers.

A pickle is a program: it may name any function and call it. Here a name is only ever looked up in `_ADMITTED`, which
holds functions of this file that build arrays and dictionaries out of numbers and bytes. Not even the constructors of
NumPy and torch are called, and whatever is not in that list is refused before anything is imported.

A few bytes of a pickle can also ask for any amount of memory or time, by a number or by using one object again and
again. So the program is looked through before it runs, all that its calls make is counted by `Memory`, and what can be
hashed stays small: sets are left out, and tuples hold little. No message shows a value of the file but short text.
"""

import math
import pickle
import pickletools
from collections.abc import Callable, Sequence
from io import BufferedIOBase, BytesIO
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from panoptic_deeplab.weights.reading.size_limit import Memory

_MOST_INSTRUCTIONS = 1_000_000
"""A pickle may have this many; the largest checkpoints have some ten thousand. Each may make an object of some hundred
bytes."""
_MOST_IN_A_TUPLE = 1_000
"""Objects in a tuple, with all that the tuples in it hold, an object counted as often as it stands there."""


class Storage(NamedTuple):
    """Memory that tensors of a file share."""

    data: Tensor
    """uint8 `(bytes,)`."""
    dtype: torch.dtype


StorageOf = Callable[[Any, torch.dtype, Any, Any], Storage]
"""Gives the storage that a persistent id of torch means: its key, its type, how many numbers it has, its view."""


def load_plain(file: BufferedIOBase, memory: Memory, *, storage_of: StorageOf | None = None) -> Any:
    """Read one pickle of dictionaries, lists, text, numbers, NumPy arrays and tensors; the file then stands behind it.

    Args:
        file: stands at the pickle.
        memory: what reading the file may take.
        storage_of: None = there are no tensors.

    Raises:
        pickle.UnpicklingError: it holds something else.
        MemoryError: it asks for more than the file can need.
        Exception: it is damaged (any kind).
    """
    start = file.tell()
    _look_through(file)
    length = file.tell() - start
    file.seek(start)
    # Strings of Python 2 are bytes; latin1 keeps each of them.
    return _finished(_PlainOnly(BytesIO(file.read(length)), memory, storage_of).load(), {})


def _look_through(file: BufferedIOBase) -> None:
    """Read the instructions without following them. Texts and bytes that reach beyond the end are refused here."""
    for count, (instruction, _, _) in enumerate(pickletools.genops(file), start=1):  # type: ignore[arg-type]
        if count > _MOST_INSTRUCTIONS:
            raise MemoryError(f"it has more than {_MOST_INSTRUCTIONS:,} instructions")
        if instruction.name == "LONG4":
            raise MemoryError("it has a whole number of more than 255 bytes")


class _PlainOnly(pickle._Unpickler):
    """Python's own unpickler in Python: the one in C hashes tuples as deep as they come, until the stack overflows."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]

    def __init__(self, file: BytesIO, memory: Memory, storage_of: StorageOf | None) -> None:
        super().__init__(file, encoding="latin1")
        self._memory = memory
        self._storage_of = storage_of
        self._counts: dict[int, int] = {}  # identity of a tuple -> what it holds

    def _count_tuple(self) -> None:
        """Look at the tuple that was just made."""
        made = self.stack[-1]
        count = sum(1 + self._counts.get(id(item), 0) if type(item) is tuple else 1 for item in made)
        if count > _MOST_IN_A_TUPLE:
            raise MemoryError(f"it has a tuple of more than {_MOST_IN_A_TUPLE:,} objects")
        self._counts[id(made)] = count

    def _put_ignored(self) -> None:
        self.stack.append(_Ignored())

    def _put_ignored_for_marked(self) -> None:
        self.pop_mark()  # type: ignore[attr-defined]
        self._put_ignored()

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy._core", "numpy.core").replace("__builtin__", "builtins")
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _DataTypeOfTorch(_STORAGES[name])
        if module == "torch" and isinstance(vars(torch).get(name), torch.dtype):
            return _DataTypeOfTorch(vars(torch)[name])
        function = _ADMITTED.get((module, name))
        if function is None:
            raise pickle.UnpicklingError(f"it wants {module}.{name}")
        return _Call(function, self._memory)

    def persistent_load(self, pid: Any) -> Any:
        if self._storage_of is None or not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise pickle.UnpicklingError("it refers to something outside of itself")
        _, kind, key, _, count, *view = pid
        if not isinstance(kind, _DataTypeOfTorch) or type(key) is not str:
            raise pickle.UnpicklingError("it has a storage of something else than numbers, or without a name")
        return _Fixed(self._storage_of(key, kind.dtype, count, view[0] if view else None))


def _counted(load: Callable[[Any], None]) -> Callable[[Any], None]:
    def load_and_count(unpickler: _PlainOnly) -> None:
        load(unpickler)
        unpickler._count_tuple()

    return load_and_count


for _code in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3):
    _PlainOnly.dispatch[_code[0]] = _counted(_PlainOnly.dispatch[_code[0]])
_PlainOnly.dispatch[pickle.EMPTY_SET[0]] = _PlainOnly._put_ignored
_PlainOnly.dispatch[pickle.FROZENSET[0]] = _PlainOnly._put_ignored_for_marked


class _Closed:
    """Something out of reach of the pickle's other instructions."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it wants to change a function, a tensor or a number type")


class _Call(_Closed):
    """A function that a pickle can call, and do nothing else with."""

    __slots__ = ("_function", "_memory")

    def __init__(self, function: Callable[..., Any], memory: Memory) -> None:
        self._function, self._memory = function, memory

    def __call__(self, *arguments: Any) -> Any:
        return self._function(self._memory, *arguments)


class _Fixed(_Closed):
    """A storage or tensor."""

    __slots__ = ("value",)

    def __init__(self, value: Storage | Tensor) -> None:
        self.value = value


class _DataTypeOfTorch(_Closed):
    """A number type of torch, or the class of storages with such numbers."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


class _DataType:
    """A number type of NumPy, `f4` for example; its byte order follows in the state."""

    __slots__ = ("_code", "_order")

    def __init__(self, memory: Memory, code: str, *flags: object) -> None:
        if not isinstance(code, str) or code[:1] not in "biuf" or not code[1:].isdigit():
            raise pickle.UnpicklingError(f"it has an array of {code!r}, which are no numbers")
        self._code, self._order = code, "="

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("it has an array with another byte order than < or >")
        self._order = order

    def to_numpy(self) -> np.dtype[Any]:
        return np.dtype(self._order.replace("|", "=") + self._code)


class _Array:
    """An array whose shape, type and numbers follow in the state."""

    __slots__ = ("_memory", "array")

    def __init__(self, memory: Memory, *arguments: object) -> None:
        self._memory = memory
        self.array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, data_type, is_fortran, data = state
        self.array = _from_bytes(self._memory, data, data_type, shape, "F" if is_fortran else "C")


class _Dictionary(dict[Any, Any]):
    """An `OrderedDict`; what else it carries (`_metadata` of a state dict) is not needed."""

    def __setstate__(self, state: object) -> None:
        pass


class _Ignored:
    """Something of a training that is not needed, and takes everything."""

    __slots__ = ()

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def add(self, value: object) -> None:
        pass


def _from_bytes(memory: Memory, data: Any, data_type: Any, shape: Any, order: Any) -> np.ndarray:
    """The array, a copy of the bytes in native byte order."""
    if not isinstance(data, (str, bytes, bytearray)) or not isinstance(data_type, _DataType) or order not in ("C", "F"):
        raise pickle.UnpicklingError("it has an array of something else than numbers")
    memory.take(len(data))
    if isinstance(data, str):  # as Python 2 wrote them
        data = data.encode("latin1")
    dtype = data_type.to_numpy()
    flat = np.frombuffer(data, dtype=dtype)
    return flat.reshape(shape, order=order).astype(dtype.newbyteorder("="), order="C")


def _scalar(memory: Memory, data_type: Any, data: Any) -> Any:
    return _from_bytes(memory, data, data_type, (), "C").item()


def _latin1(memory: Memory, text: Any, encoding: Any) -> bytes:
    """How protocol 2 stores bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("it has bytes in an encoding other than latin1")
    memory.take(len(text))
    return text.encode("latin1")


def _no_bytes(memory: Memory) -> bytes:
    """How protocol 2 stores them."""
    return b""


def _dictionary(memory: Memory, pairs: Sequence[Any] = ()) -> dict[Any, Any]:
    memory.take(_BYTES_OF_AN_ENTRY * len(pairs))
    return _Dictionary(pairs)


_BYTES_OF_AN_ENTRY = 100


def _placeholder(memory: Memory, *arguments: object) -> None:
    """Stands where a pickle names the array class, which is never called."""
    raise pickle.UnpicklingError("it calls the array class")


def _tensor(memory: Memory, storage: Any, offset: Any, size: Any, stride: Any, *others: Any) -> _Fixed:
    """A view of a storage; every number has to lie in it."""
    if not isinstance(storage, _Fixed) or not isinstance(storage.value, Storage):
        raise pickle.UnpicklingError("it has a tensor of something else than numbers")
    are_tuples = type(size) is type(stride) is tuple and len(size) == len(stride)
    if not are_tuples or any(type(number) is not int or number < 0 for number in (offset, *size, *stride)):
        raise ValueError("it has a tensor whose shape, strides or offset are no numbers that fit together")
    data, dtype = storage.value
    dtype = next((other.dtype for other in others if isinstance(other, _DataTypeOfTorch)), dtype)
    memory.take(math.prod(size) * dtype.itemsize)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if math.prod(size) and (last + 1) * dtype.itemsize > len(data):
        raise ValueError(f"it has a tensor of shape {tuple(size)} that reaches beyond its {len(data)} bytes")
    return _Fixed(data[: len(data) // dtype.itemsize * dtype.itemsize].view(dtype).as_strided(size, stride, offset))


def _parameter(memory: Memory, tensor: Any, *others: object) -> Any:
    return tensor


def _ignored(memory: Memory, *arguments: object) -> _Ignored:
    return _Ignored()


_STORAGES: dict[str, torch.dtype] = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
    "UntypedStorage": torch.uint8,
}
"""Class of storages -> the type of their numbers."""

_ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _placeholder,
    ("numpy", "dtype"): _DataType,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _from_bytes,
    ("_codecs", "encode"): _latin1,
    ("builtins", "bytes"): _no_bytes,
    ("collections", "OrderedDict"): _dictionary,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("builtins", "bytearray"): _ignored,
    ("builtins", "complex"): _ignored,
    ("builtins", "set"): _ignored,
    ("collections", "Counter"): _ignored,
    ("torch", "Size"): _ignored,
    ("torch", "device"): _ignored,
}
"""Module and name in the pickle -> what is called instead, with `Memory` before the pickle's own arguments."""


def _finished(value: Any, done: dict[int, Any]) -> Any:
    """The value with arrays and tensors in place of what built them; `done`: containers met before, by identity."""
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, _Fixed):
        return value.value
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, dict):
        mapping = done[id(value)] = {}
        mapping.update((key, _finished(item, done)) for key, item in value.items())
        return mapping
    if isinstance(value, list):
        items = done[id(value)] = []
        items.extend(_finished(item, done) for item in value)
        return items
    if isinstance(value, tuple):
        done[id(value)] = tuple(_finished(item, done) for item in value)
        return done[id(value)]
    return value
