"""ONNX files, read as the protobuf messages that they are, before a runtime allocates anything for them.

Only the lengths of fields are followed (numbers of fields are those of onnx.proto); weights are not read.
"""

import math
from collections.abc import Iterator
from contextlib import closing
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import NamedTuple

from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.files import path_inside

_DOMAINS = {"", "ai.onnx"}
"""Of the standard operators: there is no other in the files of `panoptic-deeplab export`."""

_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {},
    "tensor": {},
}
"""Kind of message -> its fields in which there are further messages to look at."""

_DIMS, _EXTERNAL_DATA = 1, 13  # of a tensor
_NODE_DOMAIN, _FUNCTION_DOMAIN = 7, 10
_MOST_DIMENSIONS = 64  # of a tensor
_METADATA = 14  # of a model
_KEY, _VALUE = 1, 2  # of an entry of metadata or of external data


class _Field(NamedTuple):
    number: int
    start: int
    end: int
    value: int | None
    """Of a whole number; other fields have their content from `start` to `end`."""


def read_metadata(path: Path, key: str) -> str | None:
    """A text of the file's `metadata_props`; None if it has no such entry.

    Raises:
        ValueError: the file is no ONNX.
        OSError: it cannot be read.
    """
    with path.open("rb") as file, closing(mmap(file.fileno(), 0, access=ACCESS_READ)) as data:
        for field in _fields(data, 0, len(data)):
            if field.number == _METADATA:
                name, value = _entry(data, field)
                if name == key:
                    return value
    return None


def check_contents(path: Path) -> None:
    """Compare what the tensors of a file claim with what it has, and see where their numbers are.

    Raises:
        CheckpointError: a tensor is larger than its bytes or lies in a file outside of the folder; an operator is not
            of the standard set; or the file is no ONNX.
    """
    used: set[str] = set()
    own: set[str] = set()
    try:
        with path.open("rb") as file, closing(mmap(file.fileno(), 0, access=ACCESS_READ)) as data:
            waiting = [("model", _Field(0, 0, len(data), None))]
            while waiting:
                kind, message = waiting.pop()
                if kind == "tensor":
                    _check_tensor(path, data, message)
                    continue
                if kind == "sparse":
                    raise CheckpointError(f"{path} has a sparse tensor. Export the model again with this package.")
                for field in _fields(data, message.start, message.end):
                    if field.number in _INSIDE[kind] and field.value is None:
                        waiting.append((_INSIDE[kind][field.number], field))
                    if (kind, field.number) in (("node", _NODE_DOMAIN), ("function", _FUNCTION_DOMAIN)):
                        (used if kind == "node" else own).add(data[field.start : field.end].decode("utf-8"))
    except CheckpointError:
        raise
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}). It may be damaged; export it again.") from error
    if foreign := sorted(used - own - _DOMAINS):
        raise CheckpointError(
            f"{path} has operators of {foreign[0]!r}, which are not of the standard set. Export the model again."
        )


def _check_tensor(path: Path, data: mmap, message: _Field) -> None:
    numbers, dimensions, location, room = 1, 0, None, message.end - message.start
    for field in _fields(data, message.start, message.end):
        if field.number == _DIMS:
            sides = [field.value] if field.value is not None else _packed(data, field)
            dimensions += len(sides)
            if dimensions > _MOST_DIMENSIONS:  # the product of a million numbers takes hours
                raise CheckpointError(
                    f"{path} has a tensor of more than {_MOST_DIMENSIONS} dimensions. Export it again."
                )
            numbers *= math.prod(sides)
        elif field.number == _EXTERNAL_DATA:
            key, value = _entry(data, field)
            location = value if key == "location" else location
            if key == "location":
                room = _size_of(path, value)
    if numbers > 2 * room:  # no type has more than two numbers in a byte
        where = f"{location!r}" if location else "the file"
        raise CheckpointError(
            f"{path} claims a tensor of {numbers} numbers, for which {where} has only {room} bytes. Export it again."
        )


def _size_of(path: Path, location: str) -> int:
    """Bytes in a file with the numbers of tensors, which must be beside the ONNX file or below."""
    where = f"The ONNX file {path}"
    file = path_inside(path.parent, location, where=where, error=CheckpointError)
    if not file.is_file():
        raise CheckpointError(f"{where} has weights in the file {location!r}, which does not exist. Copy both files.")
    return file.stat().st_size


def _entry(data: mmap, message: _Field) -> tuple[str, str]:
    """Key and value of a pair of texts."""
    texts = {
        field.number: data[field.start : field.end].decode("utf-8")
        for field in _fields(data, message.start, message.end)
    }
    return texts.get(_KEY, ""), texts.get(_VALUE, "")


def _packed(data: mmap, field: _Field) -> list[int]:
    numbers, place = [], field.start
    while place < field.end:
        number, place = _varint(data, place, field.end)
        numbers.append(number)
    return numbers


def _fields(data: mmap, start: int, end: int) -> Iterator[_Field]:
    varint, fixed64, delimited, fixed32 = 0, 1, 2, 5  # wire types
    place = start
    while place < end:
        tag, place = _varint(data, place, end)
        number, wire = tag >> 3, tag & 7
        length, value = 0, None
        if wire == varint:
            value, place = _varint(data, place, end)
        elif wire == delimited:
            length, place = _varint(data, place, end)
        elif wire in (fixed64, fixed32):
            length = 8 if wire == fixed64 else 4
        else:
            raise ValueError(f"no ONNX file: wire type {wire}")
        if place + length > end:
            raise ValueError("a field reaches beyond the end of its message")
        yield _Field(number, place, place + length, value)
        place += length


def _varint(data: mmap, place: int, end: int) -> tuple[int, int]:
    """A number, and where it ends."""
    result = 0
    for shift in range(0, 64, 7):
        if place >= end:
            raise ValueError("the file ends within a number")
        byte = data[place]
        place += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, place
    raise ValueError("no ONNX file: a number is too long")
