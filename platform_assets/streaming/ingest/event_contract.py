"""The event contract: which records of the shop's topic are events, and why the others are not.

Plain Python over bytes; knows neither Spark nor Kafka, so that every rule is a unit test and another writer can
reuse it. The rules (design: "Exact meanings"): the value is RFC 8259 JSON in UTF-8, an object, with the required
fields `event_id`, `event_type`, `timestamp`, `user_id`; every other field may be null or absent. Types are strict:
nothing is coerced, trimmed or normalised, but for `currency` (see `spell_currency`). An `event_id` that is a
placeholder is a missing one. The first broken rule names the reason, in the order of `Reason`.
"""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal, NoReturn

import msgspec

from platform_assets.streaming.event_rules import BLANKS, EventRules
from platform_assets.streaming.moments import count_micros

INT32_MAX = 2**31 - 1
EARLIEST_MICROS = count_micros(datetime(2000, 1, 1, tzinfo=UTC))
# Shops' clocks drift and gateways batch, but an event from the day after tomorrow is a wrong clock or a wrong unit.
MAX_AHEAD_MICROS = 24 * 3600 * 1_000_000
# `detail` is read by people in a table; a hostile value must not blow it up.
MAX_DETAIL_CHARS = 300

EventType = Literal["page_view", "add_to_cart", "remove_from_cart", "purchase"]
EVENT_TYPES = frozenset(("page_view", "add_to_cart", "remove_from_cart", "purchase"))
# Each is a field of `Event` and, but for `timestamp`, a column of silver.events. docs/changing-the-events.md adds one.
TEXT_FIELDS = (
    "event_id", "event_type", "timestamp", "user_id", "product_id", "product_name",
    "category", "session_id", "device_type", "country", "currency",
)  # fmt: skip
REQUIRED_FIELDS = ("event_id", "event_type", "timestamp", "user_id")
NUMBER_FIELDS = ("price", "revenue")
FIELDS = frozenset((*TEXT_FIELDS, *NUMBER_FIELDS, "quantity"))


_RULES = EventRules()


class Reason(StrEnum):
    """Why a record is quarantined. Stable codes, in the order in which the rules apply."""

    TOMBSTONE = "tombstone"
    OVERSIZED = "oversized"
    NOT_JSON = "not_json"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    UNKNOWN_EVENT_TYPE = "unknown_event_type"
    BAD_TIMESTAMP = "bad_timestamp"
    NEGATIVE_AMOUNT = "negative_amount"


Amount = Annotated[float, msgspec.Meta(ge=0)]
# The spelling that `spell_currency` leaves; another one is not plain.
Currency = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}\Z")]


class Event(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One event as the shop sends it. A record that decodes into this obeys every rule but the timestamp's."""

    event_id: str
    event_type: EventType
    timestamp: str
    user_id: str
    product_id: str | None = None
    product_name: str | None = None
    category: str | None = None
    price: Amount | None = None
    quantity: Annotated[int, msgspec.Meta(ge=0, le=INT32_MAX)] | None = None
    session_id: str | None = None
    device_type: str | None = None
    country: str | None = None
    revenue: Amount | None = None
    currency: Currency | None = None


class RejectedRecordError(Exception):
    """A record breaks the contract. Carries the reason's code and a detail for people."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail[:MAX_DETAIL_CHARS]


# Decodes a record that has known fields only, and obeys every rule but those of size and time. Any other record raises
# one of `NOT_PLAIN` and is judged by `parse_event`.
decode_plain_event = msgspec.json.Decoder(Event).decode
NOT_PLAIN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError)
_decode_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def parse_event(
    value: bytes | None, max_bytes: int, arrival_micros: int, rules: EventRules = _RULES
) -> tuple[Event, int, str | None]:
    """One record's value as an event, its time in microseconds (UTC), and its unknown fields (JSON text, or None).

    `arrival_micros` is when the record arrived: an event may not lie more than a day after it. Raises
    `RejectedRecordError` with the first broken rule and never anything else, whatever the bytes.
    """
    if value is None:
        raise RejectedRecordError(Reason.TOMBSTONE, "the value is null")
    if len(value) > max_bytes:
        raise RejectedRecordError(Reason.OVERSIZED, f"{len(value)} bytes, at most {max_bytes} are accepted")
    try:
        event = decode_plain_event(value)
    except NOT_PLAIN:
        return _parse_slowly(value, arrival_micros, rules)
    _check_event_id(event.event_id, rules)
    return event, event_time_micros(event.timestamp, arrival_micros, rules), None


def spell_currency(text: str) -> str | None:
    """A currency's code in capitals and without blanks around it, as ISO 4217 spells it; a blank one is none.

    Whether there is such a currency is not judged. Raises `RejectedRecordError` (wrong_type) for other than 3 letters.
    """
    code = text.strip(BLANKS)
    if code and not re.fullmatch("[A-Za-z]{3}", code):
        raise RejectedRecordError(Reason.WRONG_TYPE, f"currency is no code of three letters: {text!r}")
    return code.upper() or None


def multiply_price(event: Event) -> float | None:
    """The event's price, in the digits in which it was sent, times its quantity (one where none was sent).

    None without a price, and where a double does not hold it.
    """
    if event.price is None:
        return None
    product = float(Decimal(repr(event.price)) * (1 if event.quantity is None else event.quantity))
    return product if math.isfinite(product) else None


def _check_event_id(event_id: str, rules: EventRules) -> None:
    if rules.is_placeholder(event_id):
        raise RejectedRecordError(Reason.MISSING_FIELD, f"event_id is a placeholder: {event_id!r}")


def event_time_micros(timestamp: str, arrival_micros: int, rules: EventRules = _RULES) -> int:
    """The event's time in microseconds since the epoch, UTC; one without an offset is in the rules' zone.

    Of an hour that a zone has twice (clocks set back) it is the first.

    Raises `RejectedRecordError` (bad_timestamp) when it is not an ISO-8601 date and time, lies before 2000, or more
    than a day after `arrival_micros`.
    """
    try:
        # A date alone is not a moment: it would silently become midnight.
        parsed = datetime.fromisoformat(timestamp) if len(timestamp) > len("2026-01-31") else None
    except ValueError:
        parsed = None
    if parsed is None:
        raise RejectedRecordError(Reason.BAD_TIMESTAMP, f"not an ISO-8601 date and time: {timestamp!r}")
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=rules.zone)
    micros = count_micros(parsed)
    if micros < EARLIEST_MICROS:
        raise RejectedRecordError(Reason.BAD_TIMESTAMP, f"before the year 2000: {timestamp!r}")
    if micros > arrival_micros + MAX_AHEAD_MICROS:
        raise RejectedRecordError(Reason.BAD_TIMESTAMP, f"more than a day ahead of its arrival: {timestamp!r}")
    return micros


def _parse_slowly(value: bytes, arrival_micros: int, rules: EventRules) -> tuple[Event, int, str | None]:
    """Says which rule a record breaks, or accepts it with its unknown fields, kept as the text that was sent."""
    document = _parse_json(value)
    if not isinstance(document, dict):
        raise RejectedRecordError(Reason.WRONG_TYPE, f"the value is a JSON {_json_type(document)}, not an object")
    for name in REQUIRED_FIELDS:
        if document.get(name) is None:
            raise RejectedRecordError(Reason.MISSING_FIELD, f"{name} is missing or null")
    if type(document["event_id"]) is str:
        _check_event_id(document["event_id"], rules)
    for name in FIELDS & document.keys():
        _check_type(name, document[name])
    if document["event_type"] not in EVENT_TYPES:
        raise RejectedRecordError(Reason.UNKNOWN_EVENT_TYPE, f"event_type is {document['event_type']!r}")
    time_micros = event_time_micros(document["timestamp"], arrival_micros, rules)
    known = {name: document[name] for name in FIELDS & document.keys()}
    known |= {name: float(known[name]) for name in NUMBER_FIELDS if known.get(name) is not None}
    if known.get("currency") is not None:
        known["currency"] = spell_currency(known["currency"])
    if known.get("quantity") is not None:
        known["quantity"] = int(known["quantity"])
    for name in ("price", "quantity", "revenue"):
        if (known.get(name) or 0) < 0:
            raise RejectedRecordError(Reason.NEGATIVE_AMOUNT, f"{name} is {known[name]}")
    unknown = ",".join(
        f"{json.dumps(name)}:{bytes(raw).decode()}"
        for name, raw in _decode_raw_fields(value).items()
        if name not in FIELDS
    )
    return Event(**known), time_micros, f"{{{unknown}}}" if unknown else None


class _Number(str):
    """A JSON number as it was written: no overflow, no digit limit, no loss in unknown fields."""

    __slots__ = ()


def _parse_json(value: bytes) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        # Strict UTF-8 first: json.loads would guess UTF-16 and UTF-32 from bytes.
        document = json.loads(value.decode(), parse_constant=refuse, parse_int=_Number, parse_float=_Number)
        # A lone surrogate is no Unicode text (RFC 7493, 2.1) and no table can hold it.
        _decode_raw_fields(value) if isinstance(document, dict) else None
        for name in FIELDS & document.keys() if isinstance(document, dict) else ():
            if type(document[name]) is str:
                document[name].encode()
    except RecursionError:
        raise RejectedRecordError(Reason.NOT_JSON, "nested too deeply to be read") from None
    except (ValueError, msgspec.MsgspecError) as error:
        raise RejectedRecordError(Reason.NOT_JSON, str(error) or "not JSON") from None
    return document


def _check_type(name: str, found: Any) -> None:
    if found is None:
        return
    if name in TEXT_FIELDS:
        if type(found) is not str:
            raise RejectedRecordError(Reason.WRONG_TYPE, f"{name} is a JSON {_json_type(found)}, not a string")
        if name == "currency":
            spell_currency(found)
        return
    if type(found) is not _Number:
        raise RejectedRecordError(Reason.WRONG_TYPE, f"{name} is a JSON {_json_type(found)}, not a number")
    if name == "quantity":
        # int() refuses a fraction; more digits than a 32-bit number has would cost time before it fails.
        digits = found.lstrip("-")
        if not digits.isdigit() or len(digits) > 10 or not -INT32_MAX - 1 <= int(found) <= INT32_MAX:
            raise RejectedRecordError(Reason.WRONG_TYPE, f"quantity is no 32-bit integer: {found}")
    elif abs(float(found)) == float("inf"):
        raise RejectedRecordError(Reason.WRONG_TYPE, f"{name} is too large for a double: {found}")


def _json_type(found: Any) -> str:
    if isinstance(found, _Number):
        return "number"
    return {str: "string", bool: "boolean", dict: "object", list: "array"}.get(type(found), "null")
