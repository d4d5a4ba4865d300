"""`read_table`: TensorFlow's `.index` files, which are sorted tables of byte strings in LevelDB's format.

    [data block] ... [metaindex block] [index block] [footer: 48 bytes]

    footer  handle of the metaindex block, handle of the index block, zeros up to byte 40, 8 bytes magic number
    handle  varint offset, varint size of a block, without its trailer
    block   entries, uint32 offset of each restart point, uint32 number of restart points
            trailer behind it: 1 byte compression, uint32 masked CRC-32C of the block and that byte
    entry   varint length shared with the previous key, varint length of the rest of the key, varint length of the
            value, rest of the key, value
    index   one entry a data block: a key not below the block's last one, the block's handle

Integers are little endian. After the format descriptions in LevelDB (doc/table_format.md) and TensorFlow
(core/lib/io/format.h, block_builder.cc). TensorFlow writes its checkpoints without compression.
"""

from collections.abc import Iterator
from pathlib import Path

from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.weights.converters.tensorflow_checksum import crc32c, unmask
from panoptic_deeplab.weights.reading.protobuf import Cursor
from panoptic_deeplab.weights.reading.size_limit import Memory

_MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
_FOOTER_LENGTH = 48
_TRAILER_LENGTH = 5
_MOST_BYTES = 2**26
"""Those of published checkpoints have some hundred kB."""


def read_table(path: Path) -> dict[bytes, bytes]:
    """All keys with their values, in order; a missing, damaged or compressed file is a `CheckpointError`."""
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise CheckpointError(
                f"{path} has {size / 1e6:.0f} MB, and an index of a TensorFlow checkpoint has less than one. Copy or"
                " download it again."
            )
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}).") from error
    try:
        return dict(_entries_of_table(data))
    except MemoryError as error:
        raise CheckpointError(
            f"{path} of {size / 1e3:.0f} kB claims more than an index of that size can hold ({error}). Copy or download"
            " it again."
        ) from error
    except ValueError as error:
        raise CheckpointError(
            f"{path} is no index of a TensorFlow checkpoint, or it is damaged: {error}. Copy or download it again."
        ) from error


def _entries_of_table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(data) < _FOOTER_LENGTH or not data.endswith(_MAGIC):
        raise ValueError("it does not end with the mark of such a file")
    memory = Memory(len(data))
    footer = Cursor(data, len(data) - _FOOTER_LENGTH)
    _read_handle(footer)  # of the metaindex block, which says nothing about tensors
    for _, handle in _entries(_read_block(data, _read_handle(footer)), memory):
        yield from _entries(_read_block(data, _read_handle(Cursor(handle))), memory)


def _read_handle(cursor: Cursor) -> tuple[int, int]:
    return cursor.varint(), cursor.varint()


def _read_block(data: bytes, handle: tuple[int, int]) -> memoryview:
    offset, size = handle
    block = Cursor(data, offset).take(size + _TRAILER_LENGTH)
    trailer = Cursor(block, size)
    compression = trailer.take(1)[0]
    if unmask(trailer.uint32()) != crc32c(block[: size + 1]):
        raise ValueError(f"the checksum of its block at byte {offset} is wrong")
    if compression != 0:
        raise ValueError("its blocks are compressed, which TensorFlow does not do for checkpoints")
    return block[:size]


def _entries(block: memoryview, memory: Memory) -> Iterator[tuple[bytes, bytes]]:
    if len(block) < 4:
        raise ValueError("a block is too short")
    num_restarts = Cursor(block, len(block) - 4).uint32()
    end = len(block) - 4 - 4 * num_restarts
    if end < 0:
        raise ValueError(f"a block is shorter than its {num_restarts} restart points")
    cursor = Cursor(block[:end])
    key = b""
    while not cursor.at_end:
        shared, rest, value_length = cursor.varint(), cursor.varint(), cursor.varint()
        if shared > len(key):
            raise ValueError("a key shares more with the one before than that has")
        memory.take(shared + rest + value_length)  # the shared part may be long, in entries of three bytes
        key = key[:shared] + cursor.take(rest)
        yield key, bytes(cursor.take(value_length))
