"""The event contract against the same rules written another way (plain json and arithmetic), on random records."""

from __future__ import annotations

import calendar
import json
import math
import re
import unicodedata
from dataclasses import replace
from typing import Any, NoReturn
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.streaming.event_rules import EventRules, fold
from platform_assets.streaming.ingest.reasons import Reason, RejectedRecordError
from platform_assets.streaming.ingest.record_contract import compile_contract
from platform_assets.streaming.ingest.record_parser import parse_batch
from platform_assets.streaming.topic_spec import Topic
from platform_assets.topics.events import TOPIC, fill_revenue

ARRIVAL_MICROS = calendar.timegm((2026, 3, 1, 12, 0, 0)) * 1_000_000
MAX_BYTES = 2_000
STRINGS = ["event_id", "event_type", "timestamp", "user_id", "product_id", "product_name", "category", "session_id"]
STRINGS += ["device_type", "country", "currency"]
EVENT_TYPES = ["page_view", "add_to_cart", "remove_from_cart", "purchase"]
_ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(Z|[+-]\d\d:\d\d)?")


# Separators, control and format characters by Unicode, but for the signs of Arabic and Syriac texts.
_BLANKS = [
    re.escape(char)
    for char in map(chr, range(0x10000))
    if unicodedata.category(char) in ("Zs", "Zl", "Zp", "Cc", "Cf") and not "\u0600" <= char <= "\u08e2"
]
_BLANK = f"[{''.join(_BLANKS)}]*"
_PLACEHOLDER = re.compile(
    rf"{_BLANK}(\(null\)|<null>|n/a|null|undefined|none|nan|nil|\\n|0|0{{32}}|"
    rf"(\{{)?0{{8}}-0{{4}}-0{{4}}-0{{4}}-0{{12}}(?(2)\}}))?{_BLANK}",
    re.ASCII | re.IGNORECASE,
)
CURRENCIES = [
    "EUR",
    "eur",
    " jPy\n",
    "",
    " \u00a0",
    "EURO",
    "EU",
    "E R",
    "\u20ac",
    "\u00dfx",
    "EUR\n",
    "123",
    "\u0131nr",
]
PLACEHOLDERS = [
    "",
    " ",
    "\0",
    "null",
    "NULL",
    " Undefined ",
    "NaN",
    "None",
    "\\N",
    "0",
    f"{UUID(int=0)}",
    "\u00a0nil\ufeff",
    "\u3000",
    "\u2003\u2028\x85",
    "\u200d\xad\x1f",
    "NULL\u3000",
    "(null)",
    "N/A",
    f"{{{UUID(int=0)}}}",
    UUID(int=0).hex,
]


def micros_of(timestamp: str) -> int | None:
    """Calendar arithmetic instead of a datetime parser. None when it is not such a time."""
    match = _ISO.fullmatch(timestamp)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    if not (1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]) or hour > 23 or minute > 59:
        return None
    fraction, zone = int((match[7] or "").ljust(6, "0")), match[8] or "Z"
    shift = 0 if zone == "Z" else int(zone[0] + "1") * (int(zone[1:3]) * 60 + int(zone[4:6])) * 60
    return (calendar.timegm((year, month, day, hour, minute, second)) - shift) * 1_000_000 + fraction


def judge(value: bytes | None) -> str | None:
    """The first broken rule, or None. Written from the contract's text, not from the code."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(constant)

    if value is None:
        return "tombstone"
    if len(value) > MAX_BYTES:
        return "oversized"
    try:
        record = json.loads(value.decode("utf-8"), parse_constant=refuse)
    except ValueError:
        return "not_json"
    if not isinstance(record, dict):
        return "wrong_type"
    if any(record.get(name) is None for name in ("event_id", "event_type", "timestamp", "user_id")):
        return "missing_field"
    if isinstance(record["event_id"], str) and _PLACEHOLDER.fullmatch(record["event_id"]):
        return "missing_field"
    if any(not _has_type(name, found) for name, found in record.items() if found is not None):
        return "wrong_type"
    if record["event_type"] not in EVENT_TYPES:
        return "unknown_event_type"
    micros = micros_of(record["timestamp"])
    first, last = calendar.timegm((2000, 1, 1, 0, 0, 0)) * 1_000_000, ARRIVAL_MICROS + 86_400 * 1_000_000
    if micros is None or not first <= micros <= last:
        return "bad_timestamp"
    if any((record.get(name) or 0) < 0 for name in ("price", "quantity", "revenue")):
        return "negative_amount"
    return None


def _has_type(name: str, found: Any) -> bool:
    if name == "currency":
        return isinstance(found, str) and spell(found) is not False
    if name in STRINGS:
        return isinstance(found, str)
    if name == "quantity":
        return isinstance(found, int) and not isinstance(found, bool) and abs(found + 0.5) < 2**31
    if name in ("price", "revenue"):
        return isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found)
    return True  # a field that the contract does not know


def spell(currency: str | None) -> str | bool | None:
    """The currency as the stream keeps it; False for what is none."""
    letters = re.sub(f"^{_BLANK}|{_BLANK}$", "", currency or "")
    is_code = len(letters) == 3 and all("a" <= letter.lower() <= "z" for letter in letters) and letters.isascii()
    return letters.upper() if is_code else (None if not letters else False)


times = st.one_of(
    st.datetimes().map(lambda at: f"{at:%Y-%m-%dT%H:%M:%S.%f}".rjust(26, "0") + "Z"),
    st.sampled_from(
        [
            "2026-03-01T12:00:00Z", "2026-03-01 12:00:00.5", "2026-03-01T14:00:00+02:00", "1999-12-31T23:59:59Z",
            "2000-01-01T00:00:00Z", "1999-12-31T23:30:00-01:00", "2026-03-02T12:00:00Z", "2026-03-02T12:00:00.000001Z",
            "2026-02-29T00:00:00Z", "2024-02-29T23:59:59.999999Z", "2026-03-01", "yesterday", "", "1772366400",
        ]
    ),
)  # fmt: skip
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**33), 2**33), st.floats(), st.text(max_size=8), st.just([]), st.just({})
)
numbers = st.one_of(st.none(), st.integers(-2, 5), st.floats(-1, 1e6), scalars)
valid = st.fixed_dictionaries(
    {
        "event_id": st.one_of(st.text(max_size=8), st.sampled_from([*PLACEHOLDERS, "00", "nulls", "n\u0131l"])),
        "event_type": st.sampled_from(EVENT_TYPES),
        "timestamp": st.just("2026-03-01T11:00:00Z"),
        "user_id": st.text(max_size=5),
    },
    optional={name: st.text(max_size=5) for name in STRINGS[4:-1]}
    | {"currency": st.one_of(st.none(), st.sampled_from(CURRENCIES), st.text(max_size=3))}
    | {"price": st.floats(0, 1e9), "revenue": st.integers(0, 10**12), "quantity": st.integers(0, 2**31 - 1)},
)
flaws = st.one_of(
    st.fixed_dictionaries({}, optional=dict.fromkeys(STRINGS, scalars)),
    st.fixed_dictionaries({}, optional={"timestamp": times, "price": numbers, "quantity": numbers, "revenue": numbers}),
    st.dictionaries(st.text(max_size=5), st.recursive(scalars, lambda inner: st.lists(inner, max_size=2))),
)
records = st.one_of(
    st.none(),
    st.binary(max_size=40),
    scalars.map(lambda found: json.dumps(found).encode()),
    st.builds(lambda event, flaw: json.dumps({**event, **flaw}).encode(), valid, flaws),
    st.builds(lambda event, flaw: json.dumps({**event, **flaw}, ensure_ascii=False).encode(), valid, flaws),
    valid.map(lambda event: json.dumps({**event, "padding": "x" * MAX_BYTES}).encode()),
)


@given(records)
def test_verdict_is_the_one_of_the_contracts_text(value: bytes | None) -> None:
    expected = judge(value)
    try:
        event, micros, unknown = compile_contract(TOPIC).parse(value, MAX_BYTES, ARRIVAL_MICROS, EventRules())
    except RejectedRecordError as error:
        assert error.reason == expected
        return
    assert expected is None
    assert value is not None
    sent = json.loads(value)
    assert micros == micros_of(sent["timestamp"])
    assert event.currency == spell(sent.pop("currency", None))
    for name in [*STRINGS[:-1], "price", "quantity", "revenue"]:
        assert getattr(event, name) == sent.pop(name, None)
    assert json.loads(unknown or "{}") == sent


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"user_id": None, "price": "1", "event_type": "x"}, Reason.MISSING_FIELD),
        ({"price": "1", "event_type": "x", "timestamp": "?"}, Reason.WRONG_TYPE),
        ({"event_type": "x", "timestamp": "?", "revenue": -1}, Reason.UNKNOWN_EVENT_TYPE),
        ({"timestamp": "?", "revenue": -1}, Reason.BAD_TIMESTAMP),
        ({"quantity": 1.0}, Reason.WRONG_TYPE),
        ({"quantity": 2**31}, Reason.WRONG_TYPE),
        ({"quantity": True}, Reason.WRONG_TYPE),
        ({"price": -0.01}, Reason.NEGATIVE_AMOUNT),
    ],
)
def test_first_broken_rule_names_the_reason(change: dict[str, Any], reason: Reason) -> None:
    event = {"event_id": "e", "event_type": "purchase", "timestamp": "2026-03-01T11:00:00Z", "user_id": "u"}
    with pytest.raises(RejectedRecordError) as caught:
        compile_contract(TOPIC).parse(json.dumps({**event, **change}).encode(), MAX_BYTES, ARRIVAL_MICROS, EventRules())
    assert caught.value.reason is reason


@given(st.lists(records, min_size=1, max_size=12))
def test_parsed_batch_has_one_row_a_record_in_order_and_keeps_rejected_bytes(values: list[bytes | None]) -> None:
    batch = pa.record_batch(
        {
            "key": pa.array([b"k"] * len(values), pa.binary()),
            "value": pa.array(values, pa.binary()),
            "partition": pa.array([0] * len(values), pa.int32()),
            "offset": pa.array(range(len(values)), pa.int64()),
            "timestamp": pa.array([ARRIVAL_MICROS] * len(values)).cast(pa.timestamp("us", tz="UTC")),
        }
    )
    rows = parse_batch(batch, TOPIC, ARRIVAL_MICROS, MAX_BYTES, EventRules()).to_pylist()
    assert [row["kafka_offset"] for row in rows] == list(range(len(values)))
    for row, value in zip(rows, values, strict=True):
        expected = judge(value)
        assert row["_reason"] == expected
        assert (row["_key"], row["_value"]) == ((None, None) if expected is None else (b"k", value))
        sent = {} if expected else json.loads(value or b"")
        assert row["event_id"] == sent.get("event_id")
        assert row["revenue"] == sent.get("revenue")
        assert row["currency"] == spell(sent.get("currency"))
        assert (row["event_date"] is None) == (expected is not None)


def parse(event: dict[str, Any], rules: EventRules | None = None, topic: Topic = TOPIC) -> dict[str, Any]:
    """One event's row."""
    batch = pa.record_batch(
        {
            "key": pa.array([None], pa.binary()),
            "value": pa.array([json.dumps(event).encode()]),
            "partition": pa.array([0], pa.int32()),
            "offset": pa.array([0], pa.int64()),
            "timestamp": pa.array([ARRIVAL_MICROS]).cast(pa.timestamp("us", tz="UTC")),
        }
    )
    row: dict[str, Any]
    (row,) = parse_batch(batch, topic, ARRIVAL_MICROS, MAX_BYTES, rules or EventRules()).to_pylist()
    return row


EVENT = {"event_id": "e", "event_type": "purchase", "timestamp": "2026-03-01T11:00:00Z", "user_id": "u"}


@pytest.mark.parametrize("placeholder", PLACEHOLDERS)
@pytest.mark.parametrize("unknown", [{}, {"channel": "web"}])
def test_a_placeholder_is_no_event_id_and_a_user_of_many(placeholder: str, unknown: dict[str, str]) -> None:
    row = parse({**EVENT, **unknown, "event_id": placeholder})
    assert (row["_reason"], row["_detail"]) == ("missing_field", f"event_id is a placeholder: {placeholder!r}")
    row = parse({**EVENT, **unknown, "user_id": placeholder})
    assert (row["_reason"], row["user_id"], row["is_anonymous"]) == (None, placeholder, True)


@pytest.mark.parametrize(("user_id", "is_anonymous"), [("Guest", True), (" anonymous", True), ("guest-7", False)])
def test_guests_are_anonymous(user_id: str, is_anonymous: bool) -> None:
    assert parse({**EVENT, "user_id": user_id})["is_anonymous"] is is_anonymous


@pytest.mark.parametrize("text", ["Gäst", "Keine-Nümmer", "ГОСТЬ", "Invité", "İstanbul", "ẞ"])
@pytest.mark.parametrize("unknown", [{}, {"channel": "web"}])
def test_a_placeholder_of_any_alphabet_is_found_as_it_was_set(text: str, unknown: dict[str, str]) -> None:
    rules = EventRules("UTC", fold((text,)), fold((text,)))
    assert parse({**EVENT, **unknown, "event_id": f" {text}"}, rules)["_reason"] == "missing_field"
    assert parse({**EVENT, **unknown, "user_id": text}, rules)["is_anonymous"] is True


def test_a_shop_has_its_own_placeholders() -> None:
    rules = EventRules("UTC", fold(("none yet",)), fold(("house",)))
    assert parse({**EVENT, "event_id": "None yet"}, rules)["_reason"] == "missing_field"
    assert parse({**EVENT, "event_id": "null", "user_id": "HOUSE"}, rules)["is_anonymous"] is True
    assert parse({**EVENT, "user_id": "guest"}, rules)["is_anonymous"] is False


@pytest.mark.parametrize(
    ("sent", "utc"),
    [
        ("2026-02-01T11:00:00", "2026-02-01T10:00:00"),
        ("2025-07-01 11:00:00.5", "2025-07-01T09:00:00.500000"),
        ("2026-02-01T11:00:00Z", "2026-02-01T11:00:00"),
        ("2026-02-01T11:00:00+05:00", "2026-02-01T06:00:00"),
        ("2025-10-26T02:30:00", "2025-10-26T00:30:00"),  # the first of the two
    ],
)
def test_a_time_without_an_offset_is_in_the_topics_zone(sent: str, utc: str) -> None:
    row = parse({**EVENT, "timestamp": sent}, EventRules("Europe/Berlin"))
    assert row["event_time"].replace(tzinfo=None).isoformat() == utc


@pytest.mark.parametrize(
    ("sent", "kept", "reason"),
    [
        ("EUR", "EUR", None),
        (" usd\n", "USD", None),
        ("", None, None),
        (None, None, None),
        ("EURO", None, "wrong_type"),
        ("\u20ac", None, "wrong_type"),
        (978, None, "wrong_type"),
        ({"code": "EUR"}, None, "wrong_type"),
    ],
)
@pytest.mark.parametrize("unknown", [{}, {"channel": "web"}])
def test_a_currency_is_three_letters_in_one_spelling(
    sent: object, kept: str | None, reason: str | None, unknown: dict[str, str]
) -> None:
    row = parse({**EVENT, **unknown, "currency": sent})
    assert (row["currency"], row["_reason"]) == (kept, reason)


@pytest.mark.parametrize(
    ("sent", "revenue"),
    [
        ({"price": 19.99, "quantity": 3}, 59.97),
        ({"price": 20}, 20.0),
        ({"price": 20, "quantity": 0}, 0.0),
        ({"price": 20, "quantity": 3, "revenue": 1.5}, 1.5),
        ({"price": 20, "quantity": 3, "event_type": "page_view"}, None),
        ({"quantity": 3}, None),
        ({"price": 1e308, "quantity": 100}, None),
    ],
)
@pytest.mark.parametrize("unknown", [{}, {"channel": "web"}])
def test_price_times_quantity_is_revenue_only_where_the_shop_says_so(
    sent: dict[str, Any], revenue: float | None, unknown: dict[str, str]
) -> None:
    event = {**EVENT, **sent, **unknown}
    assert parse(event)["revenue"] == sent.get("revenue")
    assert parse(event, topic=replace(TOPIC, complete=fill_revenue))["revenue"] == revenue
