"""Malformed records, one maker a reason. Each record breaks one rule only, so that its reason is not in doubt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from jobs.simulator.deliveries import FAULT_SHIFT

# The stream's default bound is 1 MiB; one character more would do, a little more survives a slightly raised bound.
_OVERSIZED_BYTES = 1_100_000
# Further ahead than any history is long: a history of N hours, sent today, must not turn a future time into a past one.
_YEARS_AHEAD = 50

_Event = dict[str, Any]


@dataclass(frozen=True)
class BreakableRecord:
    """What of a topic's valid JSON records can be broken, and how. `changes` are fields with values that break a rule.

    `text` is a text field that each record has, `long_text` one that may be long; `event_type` is the field of types.
    """

    required: tuple[str, ...]
    text: str
    long_text: str
    event_type: str
    unknown_types: tuple[str, ...]
    wrong_types: tuple[_Event, ...]
    negative_amounts: tuple[_Event, ...]
    bad_values: tuple[_Event, ...] = ()
    unknown_units: tuple[_Event, ...] = ()


SHOP_RECORD = BreakableRecord(
    required=("event_id", "event_type", "timestamp", "user_id"),
    text="country",
    long_text="product_name",
    event_type="event_type",
    unknown_types=("wishlist_add", "PAGE_VIEW", "purchase ", "refund"),
    wrong_types=(
        {"price": "19.99"},
        {"quantity": 1.5},
        {"quantity": 10**18},
        {"user_id": 4711},
        {"product_name": {"en": "Lamp", "de": "Lampe"}},
        {"country": ["DE", "FR"]},
    ),
    negative_amounts=({"price": -19.99}, {"quantity": -1}, {"revenue": -0.01}),
)


def _choose(value: bytes, changes: tuple[_Event, ...], variant: int) -> bytes:
    event: _Event = msgspec.json.decode(value)
    return msgspec.json.encode(event | changes[variant % len(changes)])


def _break_json(record: BreakableRecord, value: bytes, variant: int) -> bytes:
    begins = b'"%b":"' % record.text.encode()
    return (
        value[: len(value) // 2],
        b"",
        value.replace(begins, begins + b"\xff\xfe", 1),
        value[:-1] + b",}",
        value + b"]",
        b"GET /favicon.ico HTTP/1.1",
    )[variant % 6]


def _leave_out(record: BreakableRecord, value: bytes, variant: int) -> bytes:
    field = record.required[variant % len(record.required)]
    event: _Event = msgspec.json.decode(value)
    if variant // len(record.required) % 2:
        event[field] = None
    else:
        del event[field]
    return msgspec.json.encode(event)


def _set_clock_wrong(value: bytes, variant: int) -> bytes:
    event: _Event = msgspec.json.decode(value)
    ahead = f"{int(str(event['timestamp'])[:4]) + _YEARS_AHEAD}-06-15T12:00:00Z"
    bad = ("yesterday", "1999-12-31T23:59:59.999Z", "2024-02-30T12:00:00Z", ahead)
    return msgspec.json.encode(event | {"timestamp": bad[variant % 4]})


_MAKERS: dict[str, Callable[[BreakableRecord, bytes, int], bytes | None]] = {
    "tombstone": lambda record, value, variant: None,
    "oversized": lambda record, value, variant: _choose(value, ({record.long_text: "x" * _OVERSIZED_BYTES},), 0),
    "not_json": _break_json,
    "missing_field": _leave_out,
    "wrong_type": lambda record, value, variant: _choose(value, record.wrong_types, variant),
    "unknown_event_type": lambda record, value, variant: _choose(
        value, tuple({record.event_type: name} for name in record.unknown_types), variant
    ),
    "bad_timestamp": lambda record, value, variant: _set_clock_wrong(value, variant),
    "negative_amount": lambda record, value, variant: _choose(value, record.negative_amounts, variant),
    "bad_value": lambda record, value, variant: _choose(value, record.bad_values, variant),
    "unknown_unit": lambda record, value, variant: _choose(value, record.unknown_units, variant),
}


def corrupt(record: BreakableRecord, fault: str, value: bytes, variant: int) -> bytes | None:
    """A record that the stream must quarantine for the reason `fault`, made from the valid JSON event `value`.

    `variant` (any non-negative int) chooses among the ways to break that rule. None is a tombstone's null value.
    """
    return _MAKERS[fault](record, value, variant)


def break_values(
    record: BreakableRecord, faults: tuple[str, ...], values: list[bytes | None], rows: NDArray[np.void]
) -> None:
    """Puts malformed records in the place of the valid values of those deliveries whose label says so."""
    for i in np.flatnonzero(rows["label"] >> FAULT_SHIFT):
        fault, valid = faults[(int(rows["label"][i]) >> FAULT_SHIFT) - 1], values[i]
        if valid is not None:
            values[i] = corrupt(record, fault, valid, int(rows["id_high"][i]) >> 8)
