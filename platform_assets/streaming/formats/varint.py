"""Whole numbers of any length: seven bits a byte, the lowest first, the eighth bit on all but the last byte."""

from __future__ import annotations


def write_varint(number: int) -> bytes:
    """The bytes of a number that is not negative, as Protobuf writes lengths."""
    left, written = number, bytearray()
    while left > 0x7F:
        written.append((left & 0x7F) | 0x80)
        left >>= 7
    return bytes((*written, left))


def write_zigzag(number: int) -> bytes:
    """The same, doubled, as Avro and Confluent's message index write numbers that could be negative."""
    return write_varint(number << 1)
