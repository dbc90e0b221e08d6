"""The contract of a topic with every type: what its values become, why others are refused, and that both ways agree.

A plain value is decoded at once, any other is judged field by field; the second way can read plain values too.
"""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.ingest import record_parser
from platform_assets.streaming.ingest.record_contract import NOT_PLAIN, RecordContract, compile_contract
from platform_assets.streaming.ingest.record_parser import parse_batch
from tests.orders import TOPIC

ARRIVAL = datetime(2026, 3, 1, 12, tzinfo=UTC)
ARRIVAL_MICROS = int(ARRIVAL.timestamp()) * 1_000_000
BERLIN = EventRules("Europe/Berlin")
PLAIN: dict[str, Any] = {
    "order-number": "o1", "line": 1, "at": int(ARRIVAL.timestamp()) * 1000, "customer": 7, "state": "open",
    "total": 12.5,
}  # fmt: skip


class SlowContract(RecordContract):
    """Judges each value field by field."""

    @property
    def decode_plain(self) -> Any:
        def refuse(value: bytes) -> Any:
            raise TypeError

        return refuse


def parse(*values: Any, rules: EventRules = BERLIN) -> list[dict[str, Any]]:
    """The rows of these values: bytes, or what becomes JSON."""
    raw = [value if value is None or isinstance(value, bytes) else json.dumps(value).encode() for value in values]
    batch = pa.record_batch(
        {
            "key": pa.nulls(len(raw), pa.binary()),
            "value": pa.array(raw, pa.binary()),
            "partition": pa.array([0] * len(raw), pa.int32()),
            "offset": pa.array(range(len(raw)), pa.int64()),
            "timestamp": pa.array([ARRIVAL] * len(raw), pa.timestamp("us", tz="UTC")),
        }
    )
    rows: list[dict[str, Any]] = parse_batch(batch, TOPIC, ARRIVAL_MICROS, 10_000, rules).to_pylist()
    return rows


def test_each_type_has_its_column() -> None:
    types = {column.name: column.type for column in TOPIC.tables[0].columns}
    item = "struct<sku:string,price:decimal(8,2),count:bigint>"
    assert types | {
        "event_id": "string", "number": "string", "line": "bigint", "event_time": "timestamp", "customer": "string",
        "state": "string", "total": "decimal(8,2)", "items": f"array<{item}>", "tags": "array<string>",
        "labels": "map<string,double>", "first": item, "placed_on": "date", "paid_at": "timestamp", "seen": "timestamp",
        "printed": "timestamp", "is_gift": "boolean", "ratio": "double", "signature": "binary", "version": "bigint",
    } == types  # fmt: skip
    assert "at" not in types


def test_a_whole_record_becomes_a_row() -> None:
    (row,) = parse(
        {
            **PLAIN, "items": [{"sku": "a", "price": "0.10"}, {"sku": "b", "price": 3, "count": 2}],
            "tags": ["x", None], "labels": {"w": 1.5}, "first": {"sku": "a", "price": 1}, "placed_on": "2026-02-28",
            "paid_at": "2026-03-01T12:00:00", "seen": 1_772_366_400, "printed": "01.03.2026 13:00", "is_gift": False,
            "ratio": 1, "signature": b64encode(b"\x00\xff").decode(), "code": "DE",
            "client": {"device": "phone", "app": {"version": 3}},
        }
    )  # fmt: skip
    assert row["_reason"] is None and row["unknown_fields"] is None
    assert (row["event_id"], row["customer"], row["state"]) == ('["o1","1"]', "7", "open")
    assert row["event_time"] == ARRIVAL and row["event_date"] == ARRIVAL.date()
    assert row["total"] == Decimal("12.50")
    assert row["items"] == [
        {"sku": "a", "price": Decimal("0.10"), "count": 1}, {"sku": "b", "price": Decimal("3.00"), "count": 2},
    ]  # fmt: skip
    assert row["tags"] == ["x", None] and row["labels"] == [("w", 1.5)]
    assert row["first"] == {"sku": "a", "price": Decimal("1.00"), "count": 1}
    assert row["placed_on"] == date(2026, 2, 28)
    # 12:00 of a zone an hour ahead of UTC, and 13:00 there.
    assert row["paid_at"] == datetime(2026, 3, 1, 11, tzinfo=UTC) and row["printed"] == ARRIVAL
    assert row["seen"] == ARRIVAL and row["signature"] == b"\x00\xff" and row["is_gift"] is False
    assert (row["device"], row["version"], row["ratio"], row["code"]) == ("phone", 3, 1.0, "DE")


def test_what_is_absent_or_null_is_null_or_the_default() -> None:
    absent, null = parse(PLAIN, {**PLAIN, "items": None, "is_gift": None, "client": None, "labels": None})
    assert absent["_reason"] is null["_reason"] is None
    for row in (absent, null):
        assert (row["items"], row["tags"], row["labels"], row["device"], row["version"]) == ([], [], [], None, None)


@pytest.mark.parametrize(
    ("change", "reason", "said"),
    [
        ({"line": None, "total": "x"}, "missing_field", "line is missing or null"),
        ({"order-number": 5}, "wrong_type", "number is a JSON number, not a string"),
        ({"customer": "7"}, "wrong_type", "customer is a JSON string, not a number"),
        ({"customer": 2**63}, "wrong_type", "customer is no 64-bit integer"),
        ({"state": "lost"}, "unknown_event_type", "state is 'lost'"),
        ({"state": 1}, "wrong_type", "state is a JSON number, not a string"),
        ({"at": "2026-03-01T12:00:00Z"}, "wrong_type", "at is a JSON string, not a number"),
        ({"at": 1_772_366_400}, "bad_timestamp", "before the year 2000"),  # seconds, where milliseconds are promised
        ({"at": 10**18}, "bad_timestamp", "more than a day ahead"),
        ({"total": 1.234}, "wrong_type", "total is no decimal(8,2): 1.234"),
        ({"total": 1_000_000}, "wrong_type", "total is no decimal(8,2): 1000000"),
        ({"total": "twelve"}, "wrong_type", "total is no decimal(8,2): twelve"),
        ({"total": True}, "wrong_type", "total is a JSON boolean, not a number"),
        ({"line": -1}, "negative_amount", "line is -1"),
        ({"items": [{"sku": "a"}]}, "missing_field", "items[0].price is missing or null"),
        ({"items": [{"sku": "a", "price": 1}, {"sku": 2, "price": 1}]}, "wrong_type", "items[1].sku is a JSON number"),
        ({"items": [{"sku": "a", "price": 0.001}]}, "wrong_type", "items[0].price is no decimal(8,2)"),
        ({"items": [None]}, "wrong_type", "items[0] is null"),
        ({"items": {"sku": "a"}}, "wrong_type", "items is a JSON object, not an array"),
        ({"items": [{"sku": "a", "price": 1, "count": 0}]}, "bad_value", "`int` >= 1"),
        ({"labels": {"w": "1"}}, "wrong_type", "labels.w is a JSON string, not a number"),
        ({"first": []}, "wrong_type", "first is a JSON array, not an object"),
        ({"placed_on": "2026-02-30"}, "wrong_type", "placed_on is not an ISO-8601 date"),
        ({"paid_at": "2026-03-01"}, "wrong_type", "paid_at is not an ISO-8601 date and time"),
        ({"printed": "yesterday"}, "wrong_type", "printed"),
        ({"seen": 10**18}, "wrong_type", "seen"),
        ({"is_gift": 1}, "wrong_type", "is_gift is a JSON number, not a boolean"),
        ({"ratio": 2.5}, "bad_value", "`float` < 2.0"),
        ({"signature": "*"}, "wrong_type", "signature is not base64"),
        ({"code": "de"}, "bad_value", "matching regex"),
        ({"client": "phone"}, "wrong_type", "client is a JSON string, not an object"),
        ({"client": {"app": {"version": "3"}}}, "wrong_type", "version is a JSON string, not a number"),
        ({"state": "paid", "total": 0}, "paid_nothing", "the order o1 is paid, and its total is 0"),
    ],
)
def test_the_first_broken_rule_is_named(change: dict[str, Any], reason: str, said: str) -> None:
    good, row = parse(PLAIN, {**PLAIN, **change})
    assert good["_reason"] is None, good["_detail"]
    assert (row["_reason"], row["_value"]) == (reason, json.dumps({**PLAIN, **change}).encode())
    assert said in row["_detail"]
    assert row["event_id"] is None and row["items"] is None


def test_fields_that_nobody_knows_are_kept_with_their_place() -> None:
    value = (
        b'{"order-number": "o1", "line": 1, "at": 1772366400000, "customer": 7, "state": "open", "total": 1, '
        b'"big": 1.2300e400, "items": [{"sku": "a", "price": 1, "hue": [1.50, null]}], '
        b'"client": {"os": "x", "app": {"build": 7}}}'
    )
    (row,) = parse(value)
    assert row["_reason"] is None
    assert row["unknown_fields"] == (
        '{"big":1.2300e400,"client.os":"x","client.app.build":7,"items[0].hue":[1.50,null]}'
    )


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**65), 2**65), st.floats(allow_nan=False), st.text(max_size=4),
    st.sampled_from(["open", "2026-03-01", "2026-03-01T12:00:00Z", "1.5", "DE", "AA==", "0", "null"]),
)  # fmt: skip
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["sku", "price", "count", "device", "app", "version", "w"]), inner, max_size=3),
    ),
    max_leaves=6,
)
NAMES = [*(".".join(field.path) for field in TOPIC.fields if len(field.path) == 1), "client", "other"]


@given(st.lists(st.dictionaries(st.sampled_from(NAMES), anything, max_size=4), min_size=1, max_size=4))
def test_the_quick_way_and_the_slow_one_agree(changes: list[dict[str, Any]]) -> None:
    values = [json.dumps({**PLAIN, **change}).encode() for change in changes]
    quick = parse(*values)
    with pytest.MonkeyPatch.context() as patched:
        slow_contract = SlowContract(TOPIC)
        patched.setattr(record_parser, "compile_contract", lambda topic: slow_contract)
        slow = parse(*values)
    for one, other in zip(quick, slow, strict=True):
        one.pop("_detail"), other.pop("_detail")
        assert one == other


@given(st.binary(max_size=30))
def test_no_bytes_end_the_stream(value: bytes) -> None:
    (row,) = parse(value)
    assert row["_reason"] is not None


def test_a_plain_value_is_decoded_at_once() -> None:
    """Else what the tests above compare would be the same way twice."""
    decode = compile_contract(TOPIC).decode_plain
    assert decode(json.dumps({**PLAIN, "client": {"app": {"version": 3}}}).encode()).version == 3
    with pytest.raises(NOT_PLAIN):
        decode(json.dumps({**PLAIN, "client": {"os": "x"}}).encode())
