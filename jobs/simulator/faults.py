"""Malformed records, one maker a reason. Each record breaks one rule only, so that its reason is not in doubt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

# The stream's default bound is 1 MiB; one character more would do, a little more survives a slightly raised bound.
_OVERSIZED_BYTES = 1_100_000
# Further ahead than any history is long: a history of N hours, sent today, must not turn a future time into a past one.
_YEARS_AHEAD = 50

_Event = dict[str, Any]


def _with(value: bytes, changes: _Event) -> bytes:
    event: _Event = msgspec.json.decode(value)
    return msgspec.json.encode(event | changes)


def _tombstone(value: bytes, variant: int) -> None:
    return None


def _oversized(value: bytes, variant: int) -> bytes:
    return _with(value, {"product_name": "x" * _OVERSIZED_BYTES})


def _not_json(value: bytes, variant: int) -> bytes:
    return (
        value[: len(value) // 2],
        b"",
        value.replace(b'"country":"', b'"country":"\xff\xfe', 1),
        value[:-1] + b",}",
        value + b"]",
        b"GET /favicon.ico HTTP/1.1",
    )[variant % 6]


def _missing_field(value: bytes, variant: int) -> bytes:
    field = ("event_id", "event_type", "timestamp", "user_id")[variant % 4]
    event: _Event = msgspec.json.decode(value)
    if variant // 4 % 2:
        event[field] = None
    else:
        del event[field]
    return msgspec.json.encode(event)


def _wrong_type(value: bytes, variant: int) -> bytes:
    changes: tuple[_Event, ...] = (
        {"price": "19.99"},
        {"quantity": 1.5},
        {"quantity": 10**18},
        {"user_id": 4711},
        {"product_name": {"en": "Lamp", "de": "Lampe"}},
        {"country": ["DE", "FR"]},
    )
    return _with(value, changes[variant % len(changes)])


def _unknown_event_type(value: bytes, variant: int) -> bytes:
    return _with(value, {"event_type": ("wishlist_add", "PAGE_VIEW", "purchase ", "refund")[variant % 4]})


def _bad_timestamp(value: bytes, variant: int) -> bytes:
    event: _Event = msgspec.json.decode(value)
    stamp = str(event["timestamp"])
    ahead = f"{int(stamp[:4]) + _YEARS_AHEAD}-06-15T12:00:00Z"
    bad = ("yesterday", "1999-12-31T23:59:59.999Z", "2024-02-30T12:00:00Z", ahead)
    return msgspec.json.encode(event | {"timestamp": bad[variant % 4]})


def _negative_amount(value: bytes, variant: int) -> bytes:
    changes: tuple[_Event, ...] = ({"price": -19.99}, {"quantity": -1}, {"revenue": -0.01})
    return _with(value, changes[variant % len(changes)])


_MAKERS: dict[str, Callable[[bytes, int], bytes | None]] = {
    "tombstone": _tombstone,
    "oversized": _oversized,
    "not_json": _not_json,
    "missing_field": _missing_field,
    "wrong_type": _wrong_type,
    "unknown_event_type": _unknown_event_type,
    "bad_timestamp": _bad_timestamp,
    "negative_amount": _negative_amount,
}


def corrupt(fault: str, value: bytes, variant: int) -> bytes | None:
    """A record that the stream must quarantine for the reason `fault`, made from the valid JSON event `value`.

    `variant` (any non-negative int) chooses among the ways to break that rule. None is a tombstone's null value.
    """
    return _MAKERS[fault](value, variant)
