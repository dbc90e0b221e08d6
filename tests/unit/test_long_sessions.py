"""Which sessions are cut, and which of their parts are listed for the repair that writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from platform_assets.checks.parity_by_rule import compare_with_rule
from platform_assets.delta_reader import register_pinned
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.delta.reader import DeltaReader
from platform_assets.streaming.derive.long_sessions import LongSessions, take_out_long
from platform_assets.streaming.result_span import is_comparable
from platform_assets.streams.sessions import SESSIONS, STREAM
from platform_assets.tables.platform import COMPLETE_UNTIL, LATE_EVENTS
from platform_assets.topics.events import EVENTS

pytestmark = pytest.mark.unit

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def as_sessions(*rows: tuple[str, datetime, datetime]) -> pa.Table:
    numbers = {"duration_seconds": 0.0, "event_count": 1, "purchase_count": 0, "unique_products": 0}
    fields = [
        {"user_id": user, "session_start": start, "session_end": end, "session_date": start.date(), **numbers}
        for user, start, end in rows
    ]
    return pa.Table.from_pylist(fields, build_arrow_schema(SESSIONS))


def list_parts(root: Path, sessions: pa.Table, watermark: datetime) -> list[tuple[datetime, str]]:
    """What is listed of a monitor and of somebody who sleeps at noon: both have events around each midnight."""
    context = StreamContext(str(root), {}, "earliest", 1, 1.0, 1, None)
    for table in (EVENTS, SESSIONS, LATE_EVENTS, COMPLETE_UNTIL):
        DeltaReader(table, context)
    moments = [MIDNIGHT - 14 * HOUR + number * HOUR / 3 for number in range(3 * 70)]
    events = [("monitor", at) for at in moments] + [("sleeper", at) for at in moments if at.hour != 12]
    rows = [{"user_id": user, "event_time": at, "event_date": at.date()} for user, at in events]
    write_deltalake(root / "silver/events", pa.Table.from_pylist(rows, build_arrow_schema(EVENTS)), mode="append")
    if len(sessions):
        write_deltalake(root / "gold/sessions", sessions, mode="append")
    LongSessions(STREAM, context).list_parts(watermark)
    found = DeltaReader(LATE_EVENTS, context).read_arrow().to_pylist()
    return sorted((row["event_time"], row["user_id"]) for row in found)


def part_of(midnight: datetime) -> datetime:
    """The moment by which the part that begins then, and the one before it, are listed."""
    return midnight - timedelta(microseconds=1)


SLEPT = ("sleeper", MIDNIGHT - 11 * HOUR, MIDNIGHT + 11.7 * HOUR)


def test_a_part_is_listed_when_the_limit_after_it_is_passed_and_settled(tmp_path: Path) -> None:
    assert list_parts(tmp_path / "early", as_sessions(SLEPT), MIDNIGHT + DAY + 0.9 * HOUR) == []
    assert list_parts(tmp_path / "late", as_sessions(SLEPT), MIDNIGHT + DAY + 1.1 * HOUR) == [
        (part_of(MIDNIGHT), "monitor")
    ]


def test_all_limits_that_one_batch_has_passed_are_looked_at(tmp_path: Path) -> None:
    slept_again = ("sleeper", MIDNIGHT + 13 * HOUR, MIDNIGHT + DAY + 11.7 * HOUR)
    listed = list_parts(tmp_path, as_sessions(SLEPT, slept_again), MIDNIGHT + 2 * DAY + 2 * HOUR)
    assert listed == [(part_of(MIDNIGHT), "monitor"), (part_of(MIDNIGHT + DAY), "monitor")]


def test_a_part_that_a_repair_has_written_does_not_hide_the_one_before_it(tmp_path: Path) -> None:
    repaired = ("monitor", MIDNIGHT, MIDNIGHT + 23.9 * HOUR)
    listed = list_parts(tmp_path / "first", as_sessions(SLEPT, repaired), MIDNIGHT + DAY + 2 * HOUR)
    assert listed == [(part_of(MIDNIGHT), "monitor")]
    both = as_sessions(SLEPT, repaired, ("monitor", MIDNIGHT - 14 * HOUR, MIDNIGHT - HOUR / 4))
    assert list_parts(tmp_path / "both", both, MIDNIGHT + DAY + 2 * HOUR) == []


def test_sessions_that_are_too_long_are_taken_out_by_their_first_and_last_event() -> None:
    exact, longer = ("u", MIDNIGHT, MIDNIGHT + DAY), ("v", MIDNIGHT, MIDNIGHT + DAY + HOUR)
    kept, listed = take_out_long(as_sessions(exact, longer), STREAM.span)
    assert kept == as_sessions(exact)
    assert listed.to_pylist() == [{"event_time": at, "user_id": "v"} for at in longer[1:]]


@pytest.mark.parametrize(
    ("start", "end", "is_to_come"),
    [
        (MIDNIGHT - 14 * HOUR, MIDNIGHT - HOUR / 4, True),
        (MIDNIGHT, MIDNIGHT + 3 * HOUR, True),
        (MIDNIGHT + HOUR, MIDNIGHT + 3 * HOUR, False),
        (MIDNIGHT - 3 * DAY, MIDNIGHT - 2 * DAY - HOUR / 4, False),
    ],
)
def test_rows_at_a_limit_are_not_looked_at_until_they_are_settled(
    start: datetime, end: datetime, *, is_to_come: bool
) -> None:

    with duckdb.connect() as connection:
        connection.register("rows", as_sessions(("u", start, end)))
        settled = is_comparable(STREAM.span, "r", MIDNIGHT + 20 * HOUR, None, "duckdb")
        assert connection.sql(f"SELECT {settled} FROM rows r").fetchall() == [(not is_to_come,)]


@pytest.mark.parametrize(("watermark", "is_equal"), [(MIDNIGHT + 20 * HOUR, True), (MIDNIGHT + 2.5 * DAY, False)])
def test_parity_waits_for_parts_and_misses_those_that_do_not_come(
    tmp_path: Path, watermark: datetime, *, is_equal: bool
) -> None:
    """The session is longer than a day at 20 o'clock, and its first part is listed after the next midnight."""
    list_parts(tmp_path, as_sessions(), MIDNIGHT)
    events, sessions, late = (
        DeltaTable(tmp_path / name) for name in ("silver/events", "gold/sessions", "platform/late_events")
    )
    with duckdb.connect() as connection:
        connection.execute("SET timezone = 'UTC'")
        register_pinned(connection, "all_events", events)
        seen = f"event_time <= TIMESTAMPTZ '{watermark + HOUR / 6}' AND user_id = 'monitor'"
        connection.execute(f"CREATE TEMP VIEW events AS SELECT * FROM all_events WHERE {seen}")
        state = {"watermark": watermark, "updated_at": watermark}
        rows, differences, _ = compare_with_rule(connection, STREAM, sessions, late, state, None, 5)
    assert (differences == 0) is is_equal
    assert rows == differences
