"""Whole numbers as Avro and Confluent's message index write them: zigzag, seven bits a byte, the lowest first."""

from __future__ import annotations


def write_zigzag(number: int) -> bytes:
    """The bytes of a number that is not negative."""
    left, written = number << 1, bytearray()
    while left > 0x7F:
        written.append((left & 0x7F) | 0x80)
        left >>= 7
    return bytes((*written, left))
