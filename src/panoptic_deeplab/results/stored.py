"""Arrays of any size: in memory while they are small, else in compressed files of Zarr, read and written in parts.

Maps of a slide do not fit into memory. What works on them takes a `Stored` and asks for rows and columns; whether it is
a NumPy array or a Zarr array on disk makes no difference to it.
"""

import math
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

import numpy as np

from panoptic_deeplab.errors import require
from panoptic_deeplab.files import make_folder

IN_MEMORY = 2**28
"""Bytes up to which an array stays in memory."""

_CHUNK = 1024
"""Side of a chunk on disk; the rows of a chunk are fewer, since most is written and read in bands of rows."""
_CHUNK_ROWS = 256


@runtime_checkable
class Stored(Protocol):
    """What NumPy's and Zarr's arrays have in common."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""

    def __getitem__(self, part: Any, /) -> Any:
        """A part, as a NumPy array."""

    def __setitem__(self, part: Any, value: Any, /) -> None:
        """Write a part."""


class Scratch:
    """Makes arrays that last as long as it does; a context manager, which removes their files.

    Args:
        folder: where files go, for arrays that are too large for memory; None = the system's place for temporary files.
        in_memory: bytes up to which an array stays in memory.
    """

    def __init__(self, folder: Path | None = None, *, in_memory: int = IN_MEMORY) -> None:
        self._parent = folder
        self._in_memory = in_memory
        self._folder: Path | None = None

    def __enter__(self) -> "Scratch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def array(self, name: str, shape: Sequence[int], dtype: Any, *, rows_axis: int = 0) -> Stored:
        """Make an array of zeros.

        Args:
            name: of its folder, where it has one; once only.
            shape: length of each axis.
            dtype: as NumPy takes it.
            rows_axis: the axis of the rows, behind which the columns come.

        Raises:
            MissingDependencyError: it is too large for memory, and Zarr is not installed.
            OutputError: the system refuses to write.
        """
        if math.prod(shape) * np.dtype(dtype).itemsize <= self._in_memory:
            small: Stored = np.zeros(shape, dtype)
            return small
        if self._folder is None:
            parent = None if self._parent is None else make_folder(self._parent)
            self._folder = Path(tempfile.mkdtemp(prefix="panoptic-deeplab-", dir=parent))
        large: Stored = new_zarr(self._folder / name, shape, dtype, rows_axis=rows_axis)
        return large


def new_zarr(path: Path, shape: Sequence[int], dtype: Any, *, rows_axis: int = 0) -> Any:
    """Make a Zarr array of zeros on disk.

    Args:
        path: its folder, which is not there yet.
        shape: length of each axis.
        dtype: as NumPy takes it.
        rows_axis: the axis of the rows, behind which the columns come.

    Raises:
        MissingDependencyError: Zarr is not installed.
    """
    zarr = require("zarr", extra="large", purpose="Keeping what is larger than memory on disk")
    chunks = list(shape)
    chunks[rows_axis] = min(chunks[rows_axis], _CHUNK_ROWS)
    chunks[rows_axis + 1] = min(chunks[rows_axis + 1], _CHUNK)
    return zarr.create_array(str(path), shape=tuple(shape), chunks=tuple(chunks), dtype=np.dtype(dtype).name)
