"""ONNX files, read as the protobuf messages that they are, before a runtime allocates anything for them.

Only the lengths of fields are followed (numbers of fields are those of onnx.proto); weights are not read.
"""

import math
from mmap import ACCESS_READ, mmap
from pathlib import Path

from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.files import path_inside
from panoptic_deeplab.weights.reading.protobuf import Cursor, as_bytes, protobuf_fields

_DOMAINS = {"", "ai.onnx"}
"""Domains of the standard operators: there is no other in the files of `panoptic-deeplab export`."""

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


def read_metadata(path: Path, key: str) -> str | None:
    """A text of the file's `metadata_props`; None if it has no such entry. A ValueError: the file is no ONNX."""
    for number, field in protobuf_fields(_mapped(path)):
        if number == _METADATA:
            name, value = _entry(field)
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
        waiting = [("model", _mapped(path))]
        while waiting:
            kind, message = waiting.pop()
            if kind == "tensor":
                _check_tensor(path, message)
                continue
            if kind == "sparse":
                raise CheckpointError(f"{path} has a sparse tensor. Export the model again with this package.")
            for number, value in protobuf_fields(message):
                if number in _INSIDE[kind]:
                    waiting.append((_INSIDE[kind][number], as_bytes(value)))
                if (kind, number) in (("node", _NODE_DOMAIN), ("function", _FUNCTION_DOMAIN)):
                    (used if kind == "node" else own).add(str(as_bytes(value), "utf-8"))
    except CheckpointError:
        raise
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}). It may be damaged; export it again.") from error
    if foreign := sorted(used - own - _DOMAINS):
        raise CheckpointError(
            f"{path} has operators of {foreign[0]!r}, which are not of the standard set. Export the model again."
        )


def _check_tensor(path: Path, message: memoryview) -> None:
    numbers, dimensions, location, room = 1, 0, None, len(message)
    for number, value in protobuf_fields(message):
        if number == _DIMS:
            sides = [value] if isinstance(value, int) else _packed(value)
            dimensions += len(sides)
            if dimensions > _MOST_DIMENSIONS:  # the product of a million numbers takes hours
                raise CheckpointError(
                    f"{path} has a tensor of more than {_MOST_DIMENSIONS} dimensions. Export it again."
                )
            numbers *= math.prod(sides)
        elif number == _EXTERNAL_DATA:
            key, text = _entry(value)
            if key == "location":
                location, room = text, _size_of(path, text)
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


def _mapped(path: Path) -> memoryview:
    """The bytes of a file, which are read when they are looked at; it is closed with the last look at them."""
    with path.open("rb") as file:
        return memoryview(mmap(file.fileno(), 0, access=ACCESS_READ))


def _entry(message: int | memoryview) -> tuple[str, str]:
    """Key and value of a pair of texts."""
    texts = {number: str(as_bytes(value), "utf-8") for number, value in protobuf_fields(as_bytes(message))}
    return texts.get(_KEY, ""), texts.get(_VALUE, "")


def _packed(numbers: memoryview) -> list[int]:
    cursor, found = Cursor(numbers), []
    while not cursor.at_end:
        found.append(cursor.varint())
    return found
