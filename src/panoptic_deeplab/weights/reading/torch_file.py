"""Files that `torch.save` wrote, and pickles of NumPy arrays, read without `torch.load`.

`torch.load(weights_only=True)` runs no code, but lets a file of a few bytes ask for any amount of memory. Here the file
says first how much it is, and that is compared with its size before anything is allocated.

    archive   a zip file, never compressed: NAME/data.pkl, and the numbers of each storage in NAME/data/KEY
    old form  before torch 1.6: five pickles (magic number, version, system, content, keys of the storages), then for
              each key the number of its numbers (8 bytes) and these
    else      one pickle
"""

import zipfile
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from panoptic_deeplab.weights.reading.restricted_pickle import Storage, load_plain
from panoptic_deeplab.weights.reading.size_limit import Memory

_ZIP = b"PK\x03\x04"
_FIRST_BYTES = frozenset(b"\x80") | frozenset(range(0x80))
"""First bytes of pickles: since Python 2.3, the mark of the protocol; before, a letter."""
_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
"""Version of the old form."""
_BYTEORDER = "byteorder"


def read_torch_file(path: Path) -> Any:
    """Read what `torch.save` or `pickle.dump` wrote: tensors, NumPy arrays and plain values; raises as `load_plain`."""
    size = path.stat().st_size
    memory = Memory(size)
    with path.open("rb") as file:
        start = file.read(len(_ZIP))
        file.seek(0)
        if start != _ZIP:
            return _read_pickles(file, memory)
        with zipfile.ZipFile(file) as archive:
            return _read_archive(archive, memory, size)


def _read_archive(archive: zipfile.ZipFile, memory: Memory, size: int) -> Any:
    members = {member.filename: member for member in archive.infolist()}
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > size:
        raise MemoryError(f"it unpacks to {unpacked / 1e9:.2f} GB, while torch does not compress")
    pickles = [name for name in members if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError("it has no data.pkl")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}{_BYTEORDER}" in members and archive.read(f"{folder}{_BYTEORDER}") != b"little":
        raise ValueError("it was written on a big-endian machine")
    storages: dict[str, Tensor] = {}

    def storage_of(key: Any, dtype: torch.dtype, count: Any, view: Any) -> Storage:
        name = f"{folder}data/{key}"
        if name not in members:
            raise ValueError(f"the storage {key!r} is missing")
        if name not in storages:
            storages[name] = data = _new_storage(memory, dtype, count)
            with archive.open(members[name]) as file:
                _fill(data, file, key)
        return Storage(storages[name], dtype)

    return load_plain(BytesIO(archive.read(pickles[0])), memory, storage_of=storage_of)


def _read_pickles(file: BufferedIOBase, memory: Memory) -> Any:
    start = file.read(1)
    file.seek(0)
    if not _FIRST_BYTES.issuperset(start):  # an image, for example
        raise ValueError("it starts with none of the marks of such files")
    content = load_plain(file, memory)
    if content != _MAGIC:
        return content
    if load_plain(file, memory) != _VERSION or not load_plain(file, memory).get("little_endian", True):
        raise ValueError("it was written by another version, or on a big-endian machine")
    storages: dict[Any, Storage] = {}

    def storage_of(key: Any, dtype: torch.dtype, count: Any, view: Any) -> Storage:
        if key not in storages:
            storages[key] = Storage(_new_storage(memory, dtype, count), dtype)
        if view is None:
            return storages[key]
        _, offset, length = view
        return Storage(storages[key].data[offset * dtype.itemsize : (offset + length) * dtype.itemsize], dtype)

    content = load_plain(file, memory, storage_of=storage_of)
    for key in load_plain(file, memory):
        data, dtype = storages[key]
        count = int.from_bytes(file.read(8), "little")
        if count * dtype.itemsize != len(data):
            raise ValueError(f"the storage {key!r} has {count} numbers")
        _fill(data, file, key)
    return content


def _new_storage(memory: Memory, dtype: torch.dtype, count: Any) -> Tensor:
    size = count * dtype.itemsize
    memory.take(size)
    return torch.empty(size, dtype=torch.uint8)


def _fill(data: Tensor, file: Any, key: Any) -> None:
    """Read the numbers of a storage."""
    place = memoryview(data.numpy())  # type: ignore[arg-type]  # NumPy's stubs, not yet Python 3.12's `Buffer`
    while len(place):
        count = file.readinto(place)
        if not count:
            raise EOFError(f"it ends within the storage {key!r}")
        place = place[count:]
