"""`TensorBundle`: TensorFlow checkpoints, read without TensorFlow. Nothing in them is executed.

    ckpt-60000.index                    a table (`tensorflow_table.py`): name -> dtype, shape, place of the bytes
    ckpt-60000.data-00000-of-00001      the bytes of all tensors, one after another

Entries are protobuf messages (core/protobuf/tensor_bundle.proto). In a checkpoint of objects (tf.train.Checkpoint), the
name of a variable is its path through the attributes of the program's objects, then `/.ATTRIBUTES/VARIABLE_VALUE`.
"""

import gzip
import math
import re
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.weights.converters.tensorflow_checksum import crc32c, unmask
from panoptic_deeplab.weights.converters.tensorflow_table import read_table
from panoptic_deeplab.weights.reading.protobuf import as_bytes, as_number, protobuf_fields

_DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    9: np.dtype("<i8"),
    19: np.dtype("<f2"),
}
"""By TensorFlow's number (core/framework/types.proto)."""
_GZIP = b"\x1f\x8b"
_UNPACKED_FACTOR, _UNPACKED_ALLOWANCE = 10, 2**26
"""An archive may unpack to so many times its size and so many bytes more."""
_FILE_OF_CHECKPOINT = re.compile(r".+\.(index|data-\d{5}-of-\d{5})")


class _Entry(NamedTuple):
    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    is_partitioned: bool


class TensorBundle:
    """One checkpoint, by the path of its files up to `.index`; tensors are read when asked for.

    Raises:
        CheckpointError: the index is missing, damaged, or of a kind that is not read.
    """

    def __init__(self, prefix: str | Path) -> None:
        self._prefix = Path(prefix)
        self._where = f"{prefix}.index"
        table = read_table(Path(self._where))
        with self._damage():
            if b"" not in table:
                raise ValueError("it has no header")
            self._num_shards = _read_header(table.pop(b""))
            self._entries = {name.decode("utf-8"): _read_entry(value) for name, value in table.items()}
            self._check_places()
        self.names = tuple(self._entries)
        """Names of all tensors, sorted."""

    def _check_places(self) -> None:
        """No byte belongs to two tensors, so all of them together are no larger than the files."""
        places = sorted((entry.shard, entry.offset, entry.size) for entry in self._entries.values() if entry.size)
        for (shard, offset, size), (next_shard, next_offset, _) in pairwise(places):
            if shard == next_shard and offset + size > next_offset:
                raise ValueError(f"two of its tensors have the byte {next_offset} of data file {shard}")

    def read(self, name: str) -> np.ndarray:
        """The numbers of one tensor; bytes that are missing, damaged or no numbers are a `CheckpointError`."""
        entry = self._entries[name]
        if entry.dtype not in _DTYPES:
            raise CheckpointError(f"{self._where}: {name} has TensorFlow's type {entry.dtype}, which is not read.")
        dtype = _DTYPES[entry.dtype]
        data = self._read_bytes(name)
        with self._damage():
            if len(data) != math.prod(entry.shape) * dtype.itemsize:
                raise ValueError(f"{name} of shape {entry.shape} has {len(data)} bytes")
            if crc32c(data) != unmask(entry.checksum):
                raise ValueError(f"the checksum of {name} is wrong")
        return np.frombuffer(data, dtype).reshape(entry.shape)

    def _read_bytes(self, name: str) -> bytes:
        entry = self._entries[name]
        if entry.is_partitioned:
            raise CheckpointError(f"{self._where}: {name} is stored in several parts, which is not read.")
        path = self._prefix.with_name(f"{self._prefix.name}.data-{entry.shard:05d}-of-{self._num_shards:05d}")
        try:
            with path.open("rb") as file:
                if path.stat().st_size < entry.offset + entry.size:
                    raise CheckpointError(f"{path} is truncated, it ends before {name}. Copy or download it again.")
                file.seek(entry.offset)
                return file.read(entry.size)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read ({error.strerror}), but {name} is in it.") from error

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise CheckpointError(
                f"The checkpoint {self._where} is damaged: {error}. Copy or download it again."
            ) from error


@contextmanager
def open_bundle(path: str | Path) -> Iterator[TensorBundle]:
    """Open a `.index` file, the same without `.index`, a folder with one checkpoint, or a `.tar.gz` of one.

    Raises:
        CheckpointError: there is none, or more than one.
    """
    path = Path(path)
    if path.is_file() and path.name.endswith((".tar.gz", ".tgz", ".tar")):
        with tempfile.TemporaryDirectory() as folder:
            _extract(path, Path(folder))
            yield TensorBundle(_only_prefix(Path(folder), where=path))
    elif path.is_dir():
        yield TensorBundle(_only_prefix(path, where=path))
    else:
        yield TensorBundle(path.with_name(path.name.removesuffix(".index")))


def _extract(archive: Path, folder: Path) -> None:
    """The files of the checkpoint only, each into a place below `folder`."""
    limit = _UNPACKED_FACTOR * archive.stat().st_size + _UNPACKED_ALLOWANCE
    try:
        with archive.open("rb") as file:
            is_compressed = file.read(2) == _GZIP
            file.seek(0)
            unpacked = _Limited(gzip.GzipFile(fileobj=file) if is_compressed else file, limit)
            with tarfile.open(fileobj=unpacked, mode="r|") as tar:  # type: ignore[call-overload]
                for member in tar:
                    unpacked.announce(member.size)  # also what is no data, and holes, which take no place in archives
                    if member.isfile() and _FILE_OF_CHECKPOINT.fullmatch(member.name):
                        tar.extract(member, folder, filter="data")
    except MemoryError as error:
        raise CheckpointError(
            f"{archive} of {archive.stat().st_size / 1e6:.1f} MB unpacks to more than {limit / 1e6:.0f} MB, which"
            " numbers of trained weights do not, so it is not opened. Copy or download it again."
        ) from error
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as error:
        raise CheckpointError(f"{archive} is damaged ({error}). Copy or download it again.") from error


class _Limited:
    """The unpacked bytes of an archive, up to a limit, in pieces."""

    def __init__(self, file: BufferedIOBase, limit: int) -> None:
        self._file = file
        self._left = self._announced_left = limit

    def announce(self, size: int) -> None:
        """A member of that size follows."""
        self._announced_left -= size
        if self._announced_left < 0:
            raise MemoryError

    def read(self, size: int) -> bytes:
        """As of a file; `tarfile` asks for as much as a member's head claims."""
        data = self._file.read(min(size, 2**20))
        self._left -= len(data)
        if self._left < 0:
            raise MemoryError
        return data


def _only_prefix(folder: Path, *, where: Path) -> Path:
    found = sorted(folder.rglob("*.index"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise CheckpointError(f"{where} must hold one TensorFlow checkpoint, a file *.index and its data. Got {names}.")
    return found[0].with_suffix("")


def _read_header(message: bytes) -> int:
    """The number of data files."""
    fields = dict(protobuf_fields(message))
    if fields.get(2, 0) != 0:
        raise ValueError("it was written on a big-endian machine")
    return as_number(fields.get(1, 0))


def _read_entry(message: bytes) -> _Entry:
    fields = dict(protobuf_fields(message))
    dimensions = [field for number, field in protobuf_fields(as_bytes(fields.get(2, memoryview(b"")))) if number == 2]
    dtype, shard, offset, size, checksum = (as_number(fields.get(number, 0)) for number in (1, 3, 4, 5, 6))
    return _Entry(
        dtype=dtype,
        shape=tuple(as_number(dict(protobuf_fields(as_bytes(d))).get(1, 0)) for d in dimensions),
        shard=shard,
        offset=offset,
        size=size,
        checksum=checksum,
        is_partitioned=7 in fields,
    )
