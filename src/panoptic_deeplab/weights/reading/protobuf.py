"""Protobuf messages, read without their schema: in TensorFlow's checkpoints, and in ONNX files.

Written after the public description of the wire format. The bytes may be damaged or hostile: each read is checked
against the end, and nothing is copied that the caller does not ask for.
"""

import struct
from collections.abc import Iterator

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5  # wire types


class Cursor:
    """Reads bytes from front to back; a ValueError says that they end early, or a number is longer than 64 bits."""

    def __init__(self, data: bytes | memoryview, position: int = 0) -> None:
        self._data = memoryview(data)
        self._position = position

    @property
    def at_end(self) -> bool:
        """Whether all is read."""
        return self._position >= len(self._data)

    def take(self, count: int) -> memoryview:
        """The next `count` bytes."""
        end = self._position + count
        if end > len(self._data):
            raise ValueError(f"it ends at byte {len(self._data)}, within an item that reaches to byte {end}")
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def varint(self) -> int:
        """A number of 7 bits a byte, the lowest first; the high bit of a byte says that another one follows."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF
        raise ValueError("a number is longer than 64 bits")

    def uint32(self) -> int:
        """Four bytes, the lowest first."""
        value: int = struct.unpack("<I", self.take(4))[0]
        return value


def protobuf_fields(message: bytes | memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of one message, in order: field number, and its number or bytes (text, nested message)."""
    cursor = Cursor(message)
    while not cursor.at_end:
        tag = cursor.varint()
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            yield number, cursor.varint()
        elif kind == _FIXED64:
            yield number, cursor.take(8)
        elif kind == _DELIMITED:
            yield number, cursor.take(cursor.varint())
        elif kind == _FIXED32:
            yield number, cursor.uint32()
        else:
            raise ValueError(f"protobuf field {number} has the unknown wire type {kind}")


def as_bytes(value: int | memoryview) -> memoryview:
    """The value of a field that must be a text or a message; a number is a ValueError."""
    if isinstance(value, int):
        raise ValueError("a number stands where a text or message is expected")
    return value


def as_number(value: int | memoryview) -> int:
    """The value of a field that must be a number; a text or message is a ValueError."""
    if isinstance(value, memoryview):
        raise ValueError("a text stands where a number is expected")
    return value
