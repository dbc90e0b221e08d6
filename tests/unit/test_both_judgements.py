"""A record has the same row whether it is judged in bulk or, for a field that nobody knows, member by member."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.ingest.record_parser import parse_batch
from platform_assets.streaming.topic_spec import EventTime, Record, Topic, digits
from tests.unit.test_record_lists import MICROS, as_kafka_batch


def fold(text: str) -> str:
    """Small letters; refuses digits."""
    if any(sign.isdigit() for sign in text):
        raise ValueError(text)
    return text.lower()


class Step(Record):
    at: datetime


class Trip(Record):
    begun_at: datetime
    ended_at: datetime | None = None
    steps: list[Step] = []
    city: str | None = None
    price: Annotated[Decimal, digits(9, 2)] | None = None
    kind: Literal["a", "b"] | None = None
    level: int | None = 3
    weight: float = 1.5


TOPIC = Topic(
    name="trips", description="Trips.", kafka_topic="trips", record=Trip, event_time=EventTime("begun_at"),
    spellings={"city": fold, "kind": fold, "price": lambda text: Decimal(text.removeprefix("$"))},
)  # fmt: skip
MOMENTS = st.builds(
    lambda moment, digits, zone: f"{moment:%Y-%m-%dT%H:%M:%S}{f'.{digits}' if digits else ''}{zone}",
    st.datetimes(datetime(2001, 1, 1), datetime(2026, 2, 28)),  # noqa: DTZ001 the zone is drawn on its own
    st.text("0123456789", max_size=9),
    st.sampled_from(["Z", "+02:00", "-11:30", ""]),
)


def parse(**fields: Any) -> dict[str, Any]:
    batch = as_kafka_batch([json.dumps(fields).encode()], [(0, 0)])
    (row,) = parse_batch(batch, TOPIC, MICROS, 10_000, EventRules()).to_pylist()
    return {name: value for name, value in row.items() if name not in ("_value", "unknown_fields")}


@given(MOMENTS)
@example("2026-02-27T23:59:59.9999995Z")
def test_a_field_that_nobody_knows_changes_no_moment(moment: str) -> None:
    fields = {"begun_at": moment, "ended_at": moment, "steps": [{"at": moment}]}
    in_bulk = parse(**fields)
    assert in_bulk == parse(**fields, unknown=1)
    assert in_bulk["event_time"] == in_bulk["ended_at"] == in_bulk["steps"][0]["at"]


@pytest.mark.parametrize(("digits", "micros"), [("1234564", 123456), ("1234565", 123457), ("123456789", 123457)])
def test_digits_behind_the_microsecond_are_rounded(digits: str, micros: int) -> None:
    found = parse(begun_at=f"2026-02-27T12:00:00.{digits}Z")["event_time"]
    assert found == datetime(2026, 2, 27, 12, 0, 0, micros, UTC)


@given(st.none() | st.text(max_size=3), st.sampled_from([None, 1, "1", "$1", "$", 1.005, "1e1"]), st.text(max_size=2))
@example("Rome", "$2.50", "A")
@example("Rome", None, "a")
def test_a_field_that_nobody_knows_changes_no_spelling(city: str | None, price: float | str | None, kind: str) -> None:
    fields = {"begun_at": "2026-02-27T12:00:00Z", "city": city, "price": price, "kind": kind}
    assert parse(**fields) == parse(**fields, unknown=1)


def test_a_text_gets_its_spelling() -> None:
    row = parse(begun_at="2026-02-27T12:00:00Z", city="Rome", price="$2.50", kind="A")
    assert (row["city"], row["price"], row["kind"]) == ("rome", Decimal("2.50"), "a")
    assert parse(begun_at="2026-02-27T12:00:00Z", city="Rome")["city"] == "rome"


@given(st.fixed_dictionaries({}, optional={"level": st.none() | st.integers(), "weight": st.none() | st.floats(0, 9)}))
def test_a_field_that_nobody_knows_changes_no_default(optional: dict[str, Any]) -> None:
    fields = {"begun_at": "2026-02-27T12:00:00Z", **optional}
    assert parse(**fields) == parse(**fields, unknown=1)


def test_what_is_absent_has_its_default_and_null_is_null() -> None:
    row = parse(begun_at="2026-02-27T12:00:00Z", unknown=1)
    assert (row["level"], row["weight"], row["kind"]) == (3, 1.5, None)
    assert parse(begun_at="2026-02-27T12:00:00Z", level=None, unknown=1)["level"] is None
