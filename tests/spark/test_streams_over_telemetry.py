"""The stream over silver.telemetry: its table = its twin on a batch = its rule in SQL = plain Python with fractions."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal, localcontext
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.streams import telemetry_statistics
from platform_assets.topics.telemetry import LARGEST_VALUE, TELEMETRY, UNITS
from resources.lakehouse import LakehouseResource
from tests.generated_cases import examples
from tests.spark.streams_over_table import StreamsOverTable
from tests.spark.telemetry_cases import MINUTE, Reading, reading, sensors, telemetry_table

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NAME = telemetry_statistics.STREAM.name
CLOSER = reading("closer", datetime(2024, 12, 1, 12, tzinfo=UTC))
NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
SENSORS = StreamsOverTable(
    TELEMETRY, {NAME: telemetry_statistics.STREAM}, telemetry_table, CLOSER, {NAME: (300.0, 300.0)}, {}
)
# Hypothesis tries the simplest first: everything at one moment, which is no test of watermarks.
VARIED = sensors().filter(lambda found: len({each["event_time"] for each in found}) > 15)


def convert(each: Reading) -> float:
    """The value in its kind's standard unit."""
    value, unit = each["value"], each["unit"]
    if unit == UNITS[each["kind"]][0]:
        return float(value)
    by_unit = {
        "[degF]": lambda: (value - 32.0) * 5.0 / 9.0, "K": lambda: value - 273.15, "mg/m3": lambda: value * 1000.0,
        "/min": lambda: value * 60.0, "cm": lambda: value / 100.0, "m3/h": lambda: value / 3.6,
        "kPa": lambda: value * 7.500615758456564,
    }  # fmt: skip
    return float(by_unit[unit]())


def ask_python(readings: Sequence[Reading]) -> list[dict[str, Any]]:
    """The oracle: one window after the other."""
    groups: dict[tuple[datetime, str, str], list[Reading]] = defaultdict(list)
    for each in readings:
        at = each["event_time"]
        start = at - timedelta(minutes=at.minute % 5, seconds=at.second, microseconds=at.microsecond)
        groups[start, each["sensor"], each["kind"]].append(each)
    found = []
    for (start, sensor, kind), own in groups.items():
        good = [convert(each) for each in own if each["quality"] != "bad"]
        values = [Decimal(v * 1e6 + 0.5).to_integral_value(ROUND_FLOOR).scaleb(-6) for v in good]
        total = sum(values, Decimal(0))
        with localcontext(prec=60):  # squares can have more than the 28 digits that Python keeps of itself
            squares = sum((v * v for v in values), Decimal(0))
        found.append(
            {
                "window_start": start, "window_end": start + 5 * MINUTE, "sensor": sensor, "kind": kind,
                "unit": UNITS[kind][0], "readings": len(values), "bad_readings": len(own) - len(values),
                "min_value": float(min(values)) if values else None,
                "max_value": float(max(values)) if values else None,
                "mean_value": float(total) / len(values) if values else None,
                "total_value": total if values else None,
                "total_of_squares": squares if values else None,
            }
        )  # fmt: skip
    return sorted(found, key=lambda row: (row["window_start"], row["sensor"], row["kind"]))


def ask(spark: SparkSession, readings: list[Reading]) -> list[dict[str, Any]]:
    """The stream's rows of these readings; twin, rule and oracle must agree."""
    twin, rule = SENSORS.run_twin(spark, NAME, readings), SENSORS.ask_rule(NAME, readings)
    found, expected = (
        sorted(rows, key=lambda row: (row["window_start"], row["sensor"], row["kind"])) for rows in (twin, rule)
    )
    assert found == expected == ask_python(readings)
    return found


@examples(3)
@given(sensors())
def test_twin_and_rule_equal_plain_python(spark: SparkSession, readings: list[Reading]) -> None:
    ask(spark, readings)


@examples(1)
@given(VARIED, st.integers(0, 2**32).map(random.Random))
def test_stream_in_batches_with_restarts_equals_its_twin(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, readings: list[Reading], chance: random.Random
) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path_factory.mktemp("lakehouse")))
    SENSORS.assert_restarts_change_nothing(spark, lakehouse, readings, chance)


@pytest.mark.long
@examples(1)
@given(VARIED, st.integers(0, 2**32).map(random.Random))
def test_late_readings_are_counted_one_by_one_and_repaired(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, readings: list[Reading], chance: random.Random
) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path_factory.mktemp("lakehouse")))
    SENSORS.assert_late_are_listed_and_repaired(spark, lakehouse, readings, chance)


def test_units_are_brought_to_one_and_a_bad_reading_counts_in_no_value(spark: SparkSession) -> None:
    measured = [
        reading("s", NOON, 20.0), reading("s", NOON, 68.0, unit="[degF]"), reading("s", NOON, 293.15, unit="K"),
        reading("s", NOON, 999.0, quality="bad"), reading("s", NOON, 21.0, quality=None),
    ]  # fmt: skip
    (row,) = ask(spark, measured)
    assert (row["readings"], row["bad_readings"], row["unit"]) == (4, 1, "Cel")
    assert (row["min_value"], row["max_value"], row["mean_value"]) == (20.0, 21.0, 20.25)


def test_rows_of_two_windows_add_up_to_the_variance_of_both(spark: SparkSession) -> None:
    measured = [reading("s", NOON + n * MINUTE, float(n * n)) for n in range(10)]
    rows = ask(spark, measured)
    assert len(rows) == 2
    n, total, squares = (sum(row[name] for row in rows) for name in ("readings", "total_value", "total_of_squares"))
    values = [Decimal(n * n) for n in range(10)]
    mean = sum(values, Decimal(0)) / 10
    assert squares / n - (total / n) ** 2 == sum(((value - mean) ** 2 for value in values), Decimal(0)) / 10


def test_squares_keep_every_digit_of_a_large_and_a_small_value(spark: SparkSession) -> None:
    (row,) = ask(spark, [reading("s", NOON, value, "pm2_5", "mg/m3") for value in (-LARGEST_VALUE, 1 / 3)])
    assert row["total_of_squares"] == Decimal("1000000000000111111.110888888889")


def test_the_largest_values_fit_and_nothing_known_is_null(spark: SparkSession) -> None:
    largest = [reading("s", NOON, LARGEST_VALUE, "pm2_5", "mg/m3") for _ in range(50)]
    rows = ask(spark, [*largest, reading("bad", NOON, 5.0, quality="bad")])
    assert [(row["readings"], row["max_value"]) for row in rows] == [(0, None), (50, 1e9)]
