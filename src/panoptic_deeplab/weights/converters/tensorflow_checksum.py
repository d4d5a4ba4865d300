"""CRC-32C checksums (Castagnoli polynomial, as in iSCSI), as TensorFlow's checkpoint files have them."""

import numpy as np
from jaxtyping import UInt32

_POLYNOMIAL = 0x82F63B78
"""Castagnoli's, lowest bit first."""
_MASK_DELTA = 0xA282EAD8
"""Number that masks checksums, see `unmask`."""
_SHORT = 1024
"""Bytes up to which a plain loop is the quickest checksum."""


def crc32c(data: bytes | memoryview) -> int:
    """The CRC-32C checksum.

    A CRC is linear: long data are cut into lanes, whose remainders numpy computes side by side, and which are then
    joined in pairs. Zeros in front change nothing but the start value, which is therefore put into the first bytes.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    if len(data) <= _SHORT:
        remainder = 0xFFFF_FFFF
        for byte in data:
            remainder = _BYTE_TABLE_LIST[(remainder ^ byte) & 0xFF] ^ (remainder >> 8)
        return remainder ^ 0xFFFF_FFFF
    log_length = max(6, (len(data).bit_length() - 6) // 2)  # of a lane; balances the two loops below
    length = 1 << log_length
    count = -(-len(data) // length)
    lanes = np.zeros(count * length, np.uint8)
    lanes[-len(data) :] = np.frombuffer(data, np.uint8)
    lanes[-len(data) : len(lanes) - len(data) + 4] ^= 0xFF  # the start value
    remainders = np.zeros(count, np.uint32)
    for column in np.ascontiguousarray(lanes.reshape(count, length).T):
        remainders = _BYTE_TABLE.take((remainders ^ column).astype(np.uint8)) ^ (remainders >> 8)
    behind = _ONE_ZERO_BYTE
    for _ in range(log_length):
        behind = _apply(behind, behind)
    while len(remainders) > 1:
        if len(remainders) % 2:
            remainders = np.concatenate([np.zeros(1, np.uint32), remainders])
        remainders = _apply(behind, remainders[0::2]) ^ remainders[1::2]
        behind = _apply(behind, behind)
    return int(remainders[0]) ^ 0xFFFF_FFFF


def unmask(checksum: int) -> int:
    """A CRC as stored next to its data: rotated by 15 bits and shifted, so that a CRC of CRCs is no special case."""
    rotated = (checksum - _MASK_DELTA) & 0xFFFF_FFFF
    return (rotated >> 17) | (rotated << 15) & 0xFFFF_FFFF


def _byte_table() -> UInt32[np.ndarray, "256"]:
    """What each byte leaves behind."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


def _apply(operator: UInt32[np.ndarray, "32"], remainders: UInt32[np.ndarray, " N"]) -> UInt32[np.ndarray, " N"]:
    """A linear operator on 32 bits, given as the images of the single bits."""
    bits = (remainders[:, None] >> np.arange(32, dtype=np.uint32)) & 1
    image: UInt32[np.ndarray, " N"] = np.bitwise_xor.reduce(bits * operator, axis=1)
    return image


_BYTE_TABLE = _byte_table()
_BYTE_TABLE_LIST: list[int] = _BYTE_TABLE.tolist()
_BITS = np.uint32(1) << np.arange(32, dtype=np.uint32)
_ONE_ZERO_BYTE: UInt32[np.ndarray, "32"] = _BYTE_TABLE[_BITS & 0xFF] ^ (_BITS >> 8)
"""The operator that a zero byte behind the data is."""
