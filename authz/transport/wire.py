"""Protobuf's wire format, as far as answers are written by hand (protobuf.dev, "Encoding")."""

from __future__ import annotations

from typing import Final

_LENGTHS: Final = tuple(bytes((length,)) for length in range(128))


def field(tag: bytes, payload: bytes) -> bytes:
    """Write a field that holds text or a message. `tag`: eight times the field's number, and two."""
    length = len(payload)
    if length < 0x80:
        return tag + _LENGTHS[length] + payload
    if length < 0x4000:
        return tag + bytes((length & 0x7F | 0x80, length >> 7)) + payload
    return tag + _varint(length) + payload


def _varint(number: int) -> bytes:
    """Write seven bits a byte, the lowest first; all but the last have the highest bit set."""
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)
