"""Generated readings of sensors: what the tests of the streams and reports over telemetry share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.topics.telemetry import LARGEST_VALUE, TELEMETRY, UNITS

Reading = dict[str, Any]

MICROSECOND, MINUTE = timedelta(microseconds=1), timedelta(minutes=1)
# Before, at and after midnight of a leap day.
STARTS = [
    datetime(2024, 2, 28, 23, 56, tzinfo=UTC),
    datetime(2024, 2, 29, 0, 0, tzinfo=UTC),
    datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=UTC),
    datetime(2024, 3, 1, 0, 0, tzinfo=UTC) - MICROSECOND,
]
PAUSES = [
    timedelta(0), MICROSECOND, timedelta(seconds=7), MINUTE, 5 * MINUTE - MICROSECOND, 5 * MINUTE, 17 * MINUTE,
]  # fmt: skip


def reading(
    sensor: str,
    event_time: datetime,
    value: float = 20.0,
    kind: str = "air_temperature",
    unit: str | None = None,
    quality: str | None = "good",
    place: str | None = "p",
) -> Reading:
    return {
        "sensor": sensor, "event_time": event_time, "value": value, "kind": kind,
        "unit": unit or UNITS[kind][0], "quality": quality, "place": place,
    }  # fmt: skip


@st.composite
def channels(draw: st.DrawFn) -> list[Reading]:
    """One sensor's readings of one kind, in any of its units, in any order of arrival."""
    time, kind = draw(st.sampled_from(STARTS)), draw(st.sampled_from(sorted(UNITS)))
    readings = []
    for _ in range(draw(st.integers(1, 9))):
        value = draw(st.sampled_from([0.1, -0.0, 21.4, 1e-7, 0.0000005, LARGEST_VALUE, -LARGEST_VALUE, 70.1, 1 / 3]))
        quality = draw(st.sampled_from(["good", "good", "uncertain", None, "bad"]))
        readings.append(reading("", time, value, kind, draw(st.sampled_from(UNITS[kind])), quality))
        time += draw(st.sampled_from(PAUSES))
    return draw(st.permutations(readings))


def sensors(least: int = 20) -> st.SearchStrategy[list[Reading]]:
    """Many sensors in one table, some with two kinds: one Spark job then tries dozens of generated cases."""
    return st.lists(channels(), min_size=least, max_size=least + 10).map(
        lambda found: [each | {"sensor": f"s{n // 2}"} for n, own in enumerate(found) for each in own]
    )


def telemetry_table(readings: Sequence[Reading], first_offset: int = 0) -> pa.Table:
    """Readings as rows of silver.telemetry; the position is the Kafka offset."""
    rows = [
        {
            **each, "event_id": f"r{number}", "topic": "t", "kafka_partition": number % 3, "kafka_offset": number,
            "kafka_timestamp": each["event_time"], "ingested_at": each["event_time"],
            "event_date": each["event_time"].astimezone(UTC).date(), "is_anonymous": False,
        }
        for number, each in enumerate(readings, first_offset)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, build_arrow_schema(TELEMETRY))
