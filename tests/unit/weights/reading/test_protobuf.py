"""Bytes of protobuf messages, some of them cut off."""

import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panoptic_deeplab.weights.reading.protobuf import Cursor, as_bytes, as_number, protobuf_fields

writer = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).resolve().parents[3] / "reference" / "tensorflow_bundle_writer.py"))
)


@given(st.integers(0, 2**64 - 1))
def test_varint(value: int) -> None:
    cursor = Cursor(writer.varint(value) + b"x")
    assert cursor.varint() == value
    assert cursor.take(1) == b"x"
    assert cursor.at_end


@pytest.mark.parametrize(
    ("read", "data"),
    [(Cursor.varint, b"\x80"), (Cursor.varint, b"\xff" * 11), (Cursor.uint32, b"123"), (lambda c: c.take(2), b"1")],
)
def test_items_beyond_the_end(read: Callable[[Cursor], object], data: bytes) -> None:
    with pytest.raises(ValueError, match=r"ends at byte|longer than 64 bits"):
        read(Cursor(data))


def test_protobuf_fields_of_each_kind() -> None:
    message = b"\x08\x96\x01" + b"\x11" + bytes(8) + b"\x1a\x02hi" + b"\x25\x01\x00\x00\x00"
    assert list(protobuf_fields(message)) == [(1, 150), (2, bytes(8)), (3, b"hi"), (4, 1)]


def test_values_of_the_other_kind() -> None:
    with pytest.raises(ValueError, match="a text stands where a number"):
        as_number(memoryview(b"hi"))
    with pytest.raises(ValueError, match="a number stands where a text"):
        as_bytes(1)
