"""The archive of a `.pt2` file, read without torch's own readers, which unpickle.

    archive/models/model.json                          the program: operators by name, and what they read
    archive/data/weights/model_weights_config.json     name of a weight -> entry, type, shape, strides
    archive/data/weights/weight_0, ...                 raw numbers
    archive/data/constants/...                         the same for constant tensors
    archive/extra/panoptic_deeplab                     what the file says of itself (`model_file.py`)

An archive may have these entries and no other; every name once, nothing compressed. So what an entry claims to hold is
never more than the file has, and a name is the same entry for everybody.
"""

import math
import re
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from panoptic_deeplab.errors import CheckpointError, first_line
from panoptic_deeplab.files import parse_json

_ALLOWED = re.compile(
    r"models/model\.json|data/weights/(model_weights_config\.json|weight_\d+)"
    r"|data/constants/(model_constants_config\.json|tensor_\d+)|data/sample_inputs/model\.pt|extra/panoptic_deeplab"
    r"|archive_format|archive_version|byteorder|\.data/version|\.data/serialization_id"
)

_COMPILED = re.compile(r"data/aotinductor/|.*\.(so|dll|dylib|cpp|cubin|pyc?|hsaco)", re.IGNORECASE)

_MOST_DIMENSIONS = 64
"""Limit of dimensions of a tensor, as in torch."""

DTYPES: dict[int, torch.dtype] = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
"""`ScalarType` of torch's schema -> type."""


class Contents(NamedTuple):
    """What a program is made of."""

    document: Any
    """The program, JSON of any shape: nothing of it has been looked at."""
    tensors: dict[str, Tensor]
    """Weights and constants by name, on the CPU."""


class Entries:
    """The entries of an open archive, by their names inside of its one folder, which are different; not compressed."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path, self._archive = path, archive
        self._entries: dict[str, zipfile.ZipInfo] = {}
        if len({entry.filename.partition("/")[0] for entry in archive.infolist()}) > 1:
            raise CheckpointError(
                f"{path} has entries outside of its folder, as no file of torch has. Export it again."
            )
        for entry in archive.infolist():
            name = entry.filename.partition("/")[2]
            if name in self._entries:
                raise CheckpointError(f"{path} has two entries {name!r}. Export the model again.")
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise CheckpointError(f"The entry {name!r} of {path} is compressed. Export the model again.")
            self._entries[name] = entry
        claimed, size = sum(entry.file_size for entry in archive.infolist()), path.stat().st_size
        if claimed > size:
            raise CheckpointError(f"{path} claims entries of {claimed} bytes, and has {size}. Copy or export it again.")

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def read(self, name: str) -> bytearray:
        """The content of an entry."""
        entry = self._entries[name]
        content = bytearray(entry.file_size)
        with self._archive.open(entry) as file:
            length = cast(BufferedIOBase, file).readinto(content)
        if length != entry.file_size:
            raise CheckpointError(f"The entry {name!r} of {self.path} is truncated. Copy or export the file again.")
        return content


@contextmanager
def open_archive(path: Path) -> Iterator[Entries]:
    """Open the archive of a `.pt2`; a file that is none, or that torch would not write, is a `CheckpointError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield Entries(path, archive)
    except CheckpointError:
        raise
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile) as error:  # RuntimeError: encrypted
        raise CheckpointError(
            f"{path} cannot be read ({type(error).__name__}: {first_line(error)}). It may be truncated; copy or export"
            " it again."
        ) from error


def read_contents(path: Path) -> Contents:
    """Read program and tensors.

    Raises:
        CheckpointError: the archive is damaged, or has an entry that is not on the list.
    """
    with open_archive(path) as entries:
        for name in entries:
            if _COMPILED.match(name):
                raise CheckpointError(
                    f"{path} holds compiled code ({name}), which is never run because it could do anything. Use"
                    " the .pt2 of `panoptic-deeplab export --format torch`, or `export.compiled.load_compiled` for a"
                    " file that you compiled yourself."
                )
            if not _ALLOWED.fullmatch(name):
                raise CheckpointError(
                    f"{path} has an entry {name!r}, which a file of `panoptic-deeplab export --format torch` has not."
                    " It is never opened because it may be code. Export the model again."
                )
        if entries.read("data/sample_inputs/model.pt"):
            raise CheckpointError(
                f"{path} holds a pickled object (data/sample_inputs/model.pt), which is never opened because it may be"
                " code. Export the model again with `panoptic-deeplab export --format torch`."
            )
        if entries.read("byteorder") != sys.byteorder.encode():
            raise CheckpointError(f"{path} was written on a machine with another order of bytes. Export it here.")
        document = _json(entries, "models/model.json")
        tensors: dict[str, Tensor] = {}
        for kind, prefix in (("weights", "weight_"), ("constants", "tensor_")):
            tensors |= _tensors(entries, kind, prefix)
        return Contents(document, tensors)


def _tensors(entries: Entries, kind: str, prefix: str) -> dict[str, Tensor]:
    config = _json(entries, f"data/{kind}/model_{kind}_config.json")["config"]
    contents: dict[str, bytearray] = {}
    tensors = {}
    for name, entry in config.items():
        place = entry["path_name"]
        if entry["use_pickle"] or not re.fullmatch(rf"{prefix}\d+", place):
            raise CheckpointError(
                f"{entries.path} has a pickled object in place of {name!r}, which is never opened because it may be"
                " code. Export the model again with `panoptic-deeplab export --format torch`."
            )
        if place not in contents:  # several tensors may be views of the same numbers
            contents[place] = entries.read(f"data/{kind}/{place}")
        tensors[name] = _tensor(entries.path, name, entry["tensor_meta"], contents[place])
    return tensors


def _tensor(path: Path, name: str, meta: dict[str, Any], content: bytearray) -> Tensor:
    dtype = DTYPES[meta["dtype"]]
    size, stride = (tuple(_whole(number["as_int"]) for number in meta[key]) for key in ("sizes", "strides"))
    if len(size) > _MOST_DIMENSIONS:  # the product of a million numbers takes hours
        raise CheckpointError(f"{path} has {len(size)} dimensions for {name!r}. Export the model again.")
    claimed = math.prod(size) * dtype.itemsize
    if claimed > len(content):  # strides of 0 would make much of little
        raise CheckpointError(
            f"{path} has {len(content)} bytes for {name!r}, a tensor of {claimed} bytes. Export the model again."
        )
    if not claimed:
        return torch.empty(size, dtype=dtype)
    flat = torch.frombuffer(content, dtype=dtype, count=len(content) // dtype.itemsize)
    return flat.as_strided(size, stride, _whole(meta["storage_offset"]["as_int"]))


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} in place of a size")
    return value


def _json(entries: Entries, name: str) -> Any:
    return parse_json(bytes(entries.read(name)), where=f"{name} in {entries.path}", error=CheckpointError)
