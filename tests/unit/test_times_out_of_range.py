"""Numbers and texts that no calendar has: the record is refused, and the others of its batch are not."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, Any

import pyarrow as pa
import pytest

from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.ingest.record_contract import compile_contract
from platform_assets.streaming.ingest.record_parser import parse_batch
from platform_assets.streaming.moments import count_micros
from platform_assets.streaming.time_spellings import read_spelled
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


class Mail(Record):
    at: str
    read: Annotated[str, time_format("%H:%M %d.%m.%Y %Z")] | None = None


MAILS = Topic("mails", "Mails.", "mails", Mail, EventTime("at", format="%a, %d %b %Y %H:%M:%S %Z"))
BERLIN = EventRules(time_zone="Europe/Berlin")


@pytest.mark.parametrize("zone", ["GMT", "UTC", "utc"])
def test_a_zone_that_a_text_names_is_its_own(zone: str) -> None:
    value = f'{{"at": "Fri, 27 Nov 2026 08:00:00 {zone}", "read": "09:00 27.11.2026 {zone}"}}'
    assert compile_contract(MAILS).parse(value.encode(), 1_000, count_micros(NOW), BERLIN).time_micros == count_micros(
        datetime(2026, 11, 27, 8, tzinfo=UTC)
    )
    assert read_spelled(f"09:00 {zone}", "%H:%M %Z").tzinfo is UTC
    assert read_spelled("09:00", "%H:%M").tzinfo is None


def test_a_zone_whose_name_says_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")  # strptime knows the names of the host's own zone
    time.tzset()
    with pytest.raises(ValueError, match="names another zone than UTC"):
        read_spelled("09:00 IST", "%H:%M %Z")
    monkeypatch.undo()
    time.tzset()
