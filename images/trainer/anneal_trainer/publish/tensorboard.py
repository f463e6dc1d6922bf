"""The curve of a training as a file that TensorBoard reads, beside the artifact.

The format is a TFRecord file of Event messages: each with its length, and a masked CRC-32C of both. Field numbers
are those of TensorFlow's event.proto and summary.proto. For scalars that is a page; its own writer would bring
its server, gRPC and Markdown into the image (docs/adr/0013-tracking.md).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

#: The polynomial of Castagnoli, bits reversed.
_POLYNOMIAL = 0x82F63B78
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def events(curve: Iterable[tuple[int, float, Mapping[str, float]]], began: float) -> bytes:
    """The file: for each (step, seconds since `began`, scalars by tag) one event; `began` in seconds since 1970."""
    records = [_record(_double(1, began) + _text(3, "brain.Event:2"))]
    for step, seconds, scalars in curve:
        summary = b"".join(_bytes(1, _text(1, tag) + _float(2, value)) for tag, value in scalars.items())
        records.append(_record(_double(1, began + seconds) + _integer(2, step) + _bytes(5, summary)))
    return b"".join(records)


def _record(message: bytes) -> bytes:
    length = struct.pack("<Q", len(message))
    return length + _checksum(length) + message + _checksum(message)


def _checksum(data: bytes) -> bytes:
    """CRC-32C (RFC 3720), rotated and shifted as TFRecord wants it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return struct.pack("<I", masked)


def _entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE = [_entry(byte) for byte in range(256)]


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def _key(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _integer(field: int, value: int) -> bytes:
    return _key(field, _VARINT) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _key(field, _FIXED64) + struct.pack("<d", value)


def _float(field: int, value: float) -> bytes:
    return _key(field, _FIXED32) + struct.pack("<f", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _key(field, _BYTES) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())
