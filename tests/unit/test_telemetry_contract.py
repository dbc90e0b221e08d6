"""The contract of readings: kinds, units and what becomes of values, against plain arithmetic."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any, get_args

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.ingest.reasons import RejectedRecordError
from platform_assets.streaming.ingest.record_contract import compile_contract
from platform_assets.topics import telemetry
from platform_assets.topics.telemetry import LARGEST_VALUE, MICROS_SQL, STANDARD_UNIT_SQL, TOPIC, UNITS, SensorKind

ARRIVAL = 1_800_000_000_000_000
READING = {
    "sensor": "s", "kind": "body_temperature", "timestamp": "2027-01-15T07:59:00Z", "value": 36.6, "unit": "Cel",
}  # fmt: skip


def parse(value: bytes) -> Any:
    return compile_contract(TOPIC).parse(value, 1_048_576, ARRIVAL, EventRules()).record


def test_each_kind_has_units_and_each_other_spelling_is_one_of_them() -> None:
    assert set(get_args(SensorKind)) == set(UNITS)
    known = {unit for units in UNITS.values() for unit in units}
    assert set(telemetry._SPELLINGS.values()) <= known and not known & set(telemetry._SPELLINGS)
    assert set(telemetry._IN_STANDARD_UNIT) == {(kind, unit) for kind, units in UNITS.items() for unit in units[1:]}


@pytest.mark.parametrize(("spelled", "unit"), [("°C", "Cel"), ("F", "[degF]"), ("K", "K"), ("[degF]", "[degF]")])
def test_common_spellings_of_a_unit_are_one_unit(spelled: str, unit: str) -> None:
    assert parse(json.dumps(READING | {"unit": spelled}).encode()).unit == unit


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"unit": "furlong"}, "unknown_unit"),
        ({"unit": "/min"}, "unknown_unit"),
        ({"unit": None}, "missing_field"),
        ({"value": "NaN"}, "wrong_type"),
        ({"value": "36.6"}, "wrong_type"),
        ({"value": None}, "missing_field"),
        ({"value": 2 * LARGEST_VALUE}, "bad_value"),
        ({"kind": "radiation"}, "unknown_event_type"),
        ({"quality": "fine"}, "bad_value"),
        ({"sensor": ""}, "bad_value"),
        ({"timestamp": "2027-01-16T08:01:00Z"}, "bad_timestamp"),
        ({"timestamp": "1999-12-31T00:00:00Z"}, "bad_timestamp"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_reason(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(RejectedRecordError) as refused:
        parse(json.dumps(READING | change).encode())
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("number", "reason"), [(b"NaN", "not_json"), (b"-Infinity", "not_json"), (b"1e400", "wrong_type")]
)
def test_numbers_that_are_none_are_refused(number: bytes, reason: str) -> None:
    with pytest.raises(RejectedRecordError) as refused:
        parse(json.dumps(READING).encode().replace(b"36.6", number))
    assert refused.value.reason == reason


def to_standard(kind: str, unit: str, value: Fraction) -> Fraction:
    """Each unit's definition, as exact numbers."""
    if unit == "[degF]":
        return (value - 32) * Fraction(5, 9)
    if unit == "K":
        return value - Fraction(27315, 100)
    pascals = Fraction(101325, 760)
    factors = {
        ("pm2_5", "mg/m3"): Fraction(1000),
        ("traffic_flow", "/min"): Fraction(60),
        ("water_level", "cm"): Fraction(1, 100),
        ("water_flow", "m3/h"): Fraction(1000, 3600),
        ("systolic_pressure", "kPa"): 1000 / pascals,
    }
    return value * factors.get((kind, unit), Fraction(1))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-LARGEST_VALUE, LARGEST_VALUE), min_size=1, max_size=10))
def test_values_come_to_millionths_of_the_standard_unit(values: list[float]) -> None:
    pairs = [(kind, unit) for kind, units in UNITS.items() for unit in units]
    rows = [(kind, unit, value) for kind, unit in pairs for value in values]
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE r (kind VARCHAR, unit VARCHAR, value DOUBLE)")
        connection.executemany("INSERT INTO r VALUES (?, ?, ?)", rows)
        found = connection.sql(f"SELECT kind, unit, value, {MICROS_SQL}, {STANDARD_UNIT_SQL} FROM r").fetchall()
    assert len(found) == len(rows)
    for kind, unit, value, micros, standard in found:
        exact = to_standard(kind, unit, Fraction(value)) * 1_000_000
        # Half a millionth by rounding, and the last bits of a double. A millimetre of mercury is 133.322387415 Pa by
        # one of its definitions and 101325/760 by the other.
        allowed = Fraction(1, 2) + abs(exact) * Fraction(2, 10**7 if unit == "kPa" else 10**15) + Fraction(1, 10**6)
        assert abs(micros - exact) <= allowed
        assert standard == UNITS[kind][0]
