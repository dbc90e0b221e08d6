"""Numbers and texts that no calendar has: the record is refused, and the others of its batch are not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import pyarrow as pa
import pytest

from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.ingest.record_parser import parse_batch
from platform_assets.streaming.moments import count_micros
from platform_assets.streaming.topic_spec import EventTime, Record, Topic, epoch, time_format

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 28, tzinfo=UTC)


class Tick(Record):
    at: float
    seen: Annotated[int, epoch("s")] | None = None
    sent: datetime | None = None
    day: Annotated[str, time_format("%Y-%m-%d %z")] | None = None


TOPIC = Topic("ticks", "Ticks.", "ticks", Tick, EventTime("at", unit="s"))
GOOD = b'{"at": 1795000000.5, "seen": -62135596800, "sent": "9999-12-31T23:59:59Z"}'


def parse(value: bytes) -> list[dict[str, Any]]:
    """The rows of this value and of a good one before it."""
    columns = {
        "key": pa.array([b"k", b"k"]), "value": pa.array([GOOD, value]), "partition": pa.array([0, 0], pa.int32()),
        "offset": pa.array([0, 1], pa.int64()), "timestamp": pa.array([NOW, NOW], pa.timestamp("us", "UTC")),
    }  # fmt: skip
    rows = parse_batch(pa.record_batch(columns), TOPIC, count_micros(NOW), 1_000, EventRules())
    return rows.select(["_reason", "_detail", "event_time", "seen", "sent"]).to_pylist()


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        (b'{"at": 1e308}', "bad_timestamp", "not a number of s since 1970: 1e+308"),
        (b'{"at": -1e308}', "bad_timestamp", "not a number of s since 1970"),
        (b'{"at": 1e17}', "bad_timestamp", "more than a day ahead"),
        (b'{"at": 1795000000.5, "seen": 1000000000000}', "wrong_type", "seen: a time beyond the years 1 to 9999"),
        (b'{"at": 1795000000.5, "seen": -62135596801}', "wrong_type", "seen: a time beyond the years 1 to 9999"),
        (b'{"at": 1795000000.5, "sent": "0001-01-01T00:00:00+14:00"}', "wrong_type", "sent: a time beyond"),
        (b'{"at": 1795000000.5, "day": "0001-01-01 +1400"}', "wrong_type", "day: a time beyond"),
    ],
)
def test_a_time_that_no_calendar_has_is_refused(value: bytes, reason: str, detail: str) -> None:
    good, odd = parse(value)
    assert good["_reason"] is None
    assert good["seen"] == datetime(1, 1, 1, tzinfo=UTC) and good["sent"].year == 9999
    assert odd["_reason"] == reason and detail in odd["_detail"]
