"""Writes TensorFlow checkpoints byte by byte, after the public description of the format, to test the reader."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
DTYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "float16": 19, "bool": 10}


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def fixed32_field(number: int, value: int) -> bytes:
    return varint(number << 3 | 5) + struct.pack("<I", value)


def block(entries: list[tuple[bytes, bytes]], restart_interval: int) -> bytes:
    out, restarts, last = bytearray(), [0], b""
    for index, (key, value) in enumerate(entries):
        shared = 0
        if index and index % restart_interval == 0:
            restarts.append(len(out))
        elif index:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return bytes(out) + b"".join(struct.pack("<I", r) for r in restarts) + struct.pack("<I", len(restarts))


def table(
    entries: list[tuple[bytes, bytes]],
    masked_crc: Callable[[bytes], int],
    *,
    entries_a_block: int = 10,
    restart_interval: int = 3,
    compression: int = 0,
) -> bytes:
    out = bytearray()

    def append(content: bytes) -> bytes:
        handle = varint(len(out)) + varint(len(content))
        kind = bytes([compression])
        out.extend(content + kind + struct.pack("<I", masked_crc(content + kind)))
        return handle

    index = []
    for start in range(0, len(entries), entries_a_block):
        chunk = entries[start : start + entries_a_block]
        index.append((chunk[-1][0] + b"\x00", append(block(chunk, restart_interval))))
    metaindex = append(block([], 1))
    footer = metaindex + append(block(index, 1))
    return bytes(out) + footer.ljust(40, b"\x00") + MAGIC


def entry(array: np.ndarray, offset: int, checksum: int, *, extra: bytes = b"") -> bytes:
    dimensions = b"".join(field(2, field(1, size)) for size in array.shape)
    place = (field(4, offset) if offset else b"") + field(5, array.nbytes)
    return field(1, DTYPES[str(array.dtype)]) + field(2, dimensions) + place + fixed32_field(6, checksum) + extra


def header(num_shards: int = 1, endianness: int = 0) -> bytes:
    return field(1, num_shards) + (field(2, endianness) if endianness else b"") + field(3, field(1, 1))


def write_bundle(
    prefix: Path, tensors: dict[str, np.ndarray], masked_crc: Callable[[bytes], int], **options: int
) -> None:
    """`prefix.index` and `prefix.data-00000-of-00001`; `options` are those of `table`."""
    data, entries = bytearray(), [(b"", header())]
    for name in sorted(tensors, key=str.encode):
        content = tensors[name].tobytes()
        entries.append((name.encode(), entry(tensors[name], len(data), masked_crc(content))))
        data += content
    prefix.parent.mkdir(parents=True, exist_ok=True)
    prefix.with_name(prefix.name + ".data-00000-of-00001").write_bytes(data)
    prefix.with_name(prefix.name + ".index").write_bytes(table(entries, masked_crc, **options))
