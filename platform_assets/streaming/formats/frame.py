"""Confluent's frame around a value: a zero byte, the schema's id in four bytes, and behind them the value."""

from __future__ import annotations

HEADER_BYTES = 5


def find_schema_id(value: bytes) -> int | None:
    """The schema's id; None for a value that has no frame."""
    if len(value) < HEADER_BYTES or value[0] != 0:
        return None
    return int.from_bytes(value[1:HEADER_BYTES], "big")


def frame(schema_id: int, payload: bytes) -> bytes:
    """A value in its frame."""
    return b"\0" + schema_id.to_bytes(HEADER_BYTES - 1, "big") + payload
