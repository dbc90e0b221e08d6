"""Filling fields from `unknown_fields` gives the rows that the newer contract would have given of the same records."""

from __future__ import annotations

import dataclasses
import json
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.ingest.filled_fields import UNKNOWN, fill_fields, list_fillable
from platform_assets.streaming.ingest.record_parser import parse_batch
from platform_assets.streaming.topic_spec import EventTime, Record, Topic, digits, epoch, time_format
from tests.unit.test_record_lists import MICROS, NOW, as_kafka_batch


class Old(Record):
    id: str
    at: datetime
    note: str | None = None


class Item(Record):
    sku: str
    count: int = 1


class New(Old):
    number: int | None = None
    ratio: float = 0.5
    price: Annotated[Decimal, digits(6, 2)] | None = None
    day: date | None = None
    seen_at: datetime | None = None
    packed_at: Annotated[int | None, epoch("ms")] = None
    told_at: Annotated[str | None, time_format("%d.%m.%Y")] = None
    state: Literal["open", "paid"] | None = None
    code: Annotated[str, Meta(pattern="^[a-z]+$")] | None = None
    items: list[Item] | None = None
    weight: float | None = msgspec.field(name="the-weight", default=None)
    raw: bytes | None = None
    flags: dict[str, bool] | None = None


ADDED = tuple(name for name in New.__struct_fields__ if name not in Old.__struct_fields__)
OLD = Topic(
    name="things", description="Things.", kafka_topic="things", record=Old, event_time=EventTime("at"),
    event_id=("id",), spellings={},
)  # fmt: skip
SPELLINGS = {"price": lambda text: Decimal(text.removesuffix("c"))}
NEW = dataclasses.replace(OLD, record=New, added_fields=ADDED, spellings=SPELLINGS)
RULES = EventRules()

_NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
_ANYTHING = st.none() | st.booleans() | _NUMBERS | st.text(max_size=3)
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "number": st.integers(-(2**70), 2**70), "ratio": st.floats(allow_nan=False, allow_infinity=False),
    "price": st.sampled_from([1, 2.5, 12.345, "150", "150c", "x", 99999.99]), "day": st.just("2026-03-01"),
    "seen_at": st.sampled_from(["2026-03-01T12:00:00Z", "2026-03-01T12:00:00.1234567Z", "never"]),
    "packed_at": st.sampled_from([1_772_366_400_000, 10**18]), "told_at": st.sampled_from(["01.03.2026", "2026"]),
    "state": st.sampled_from(["open", "lost"]), "code": st.sampled_from(["abc", "ABC"]),
    "items": st.lists(st.sampled_from([{"sku": "a"}, {"sku": "b", "count": 2}, {"count": 1}, {"sku": "c", "x": 1}])),
    "the-weight": st.sampled_from([1, 1.5, "1"]), "raw": st.sampled_from(["AAE=", "?"]),
    "flags": st.dictionaries(st.text(max_size=2), st.booleans()), "more": _ANYTHING,
}  # fmt: skip


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(sorted(_VALUES)), unique=True))
    own = {name: draw(st.none() | _VALUES[name]) for name in names}
    own |= {name: draw(_ANYTHING) for name in draw(st.lists(st.sampled_from(sorted(_VALUES)), max_size=1))}
    return {"id": "x", "at": NOW.isoformat(), **own}


def parse(topic: Topic, values: list[bytes]) -> pa.RecordBatch:
    return parse_batch(as_kafka_batch(values, [(0, row) for row in range(len(values))]), topic, MICROS, 10_000, RULES)


def widen(rows: pa.RecordBatch, like: pa.Schema) -> pa.RecordBatch:
    """Rows of the older table in the newer one, which has null in its new columns."""
    names = rows.schema.names
    columns = [rows.column(f.name) if f.name in names else pa.nulls(len(rows), f.type) for f in like]
    return pa.RecordBatch.from_arrays(columns, schema=like)


@given(st.lists(records(), min_size=1, max_size=4))
def test_filled_rows_are_those_of_the_newer_contract(sent: list[dict[str, Any]]) -> None:
    values = [json.dumps({**record, "id": f"i{row}"}).encode() for row, record in enumerate(sent)]
    expected = parse(NEW, values)
    filled = fill_fields(widen(parse(OLD, values), expected.schema), NEW, RULES)
    defaults = {"ratio": 0.5}
    for row, (found, right) in enumerate(zip(filled.to_pylist(), expected.to_pylist(), strict=True)):
        document = json.loads(values[row])
        if (
            right["_reason"] is not None
        ):  # a value of one of the new fields is wrong: it stays, and the others are filled
            kept = json.loads(found[UNKNOWN])
            assert all(document[name] == kept[name] for name in kept)
            assert kept.keys() - {"more"}
            continue
        for name, value in defaults.items():
            if document.get(name) is None:
                assert found[name] is None
                found[name] = value
        # The newer contract names what is unknown inside of an item by its place.
        of_found, of_right = (json.loads(each.pop(UNKNOWN) or "{}") for each in (found, right))
        assert {k: v for k, v in of_right.items() if "[" not in k} == of_found
        assert found == right


def test_what_is_not_taken_stays_to_the_letter() -> None:
    value = b'{"id": "x", "at": "%b", "number": "7", "more" : 1.50, "day":"2026-03-01"}' % NOW.isoformat().encode()
    (row,) = fill_fields(widen(parse(OLD, [value]), parse(NEW, [value]).schema), NEW, RULES).to_pylist()
    assert (row["day"], row["number"], row[UNKNOWN]) == (date(2026, 3, 1), None, '{"number":"7","more":1.50}')
    (again,) = fill_fields(
        fill_fields(widen(parse(OLD, [value]), parse(NEW, [value]).schema), NEW, RULES), NEW, RULES
    ).to_pylist()
    assert again == row


def test_only_fields_that_a_record_may_lack_are_filled() -> None:
    assert {each.name for each in list_fillable(NEW)} == {"note", *ADDED}


def test_a_row_of_which_nothing_is_taken_stays_as_it_is() -> None:
    value = b'{"id": "x", "at": "%b", "more": 1}' % NOW.isoformat().encode()
    rows = widen(parse(OLD, [value]), parse(NEW, [value]).schema)
    for text in ('{"z": 1 , "y":2}', '{"z":1,"z":2}', '{"na\u00efve":1}', "{}"):
        place = rows.schema.get_field_index(UNKNOWN)
        own = rows.set_column(place, rows.schema.field(place), pa.array([text]))
        assert fill_fields(own, NEW, RULES).equals(own)
