"""Besides the newest rows, parity compares each older day in its turn, and finds what is wrong there."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from platform_assets.checks.parity import Comparison, compare, compare_older_day
from platform_assets.checks.parity_in_turn import choose_day
from platform_assets.delta_reader import register_pinned
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table, open_table
from platform_assets.streams.sessions import SESSIONS, STREAM
from platform_assets.tables.platform import LATE_EVENTS
from platform_assets.topics.events import EVENTS
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource

FIRST = date(2026, 3, 1)
DAYS = 6
START = datetime(2026, 3, 1, tzinfo=UTC)
UNTIL = START + timedelta(days=DAYS)
# Each session has three events; of each day one goes on beyond midnight.
EACH_DAY = 12


def write_events(root: str) -> None:
    table = create_table(f"{root}/silver/events", EVENTS)
    rows: list[dict[str, Any]] = []
    for n in range(DAYS * EACH_DAY):
        begins = START + timedelta(days=n // EACH_DAY, hours=2 * (n % EACH_DAY) + 1, minutes=55)
        for minute in (0, 4, 9):
            at = begins + timedelta(minutes=minute)
            rows.append(
                {
                    "event_id": f"{n}-{minute}", "event_type": "page_view", "event_time": at, "event_date": at.date(),
                    "user_id": f"u{n}", "is_anonymous": False, "topic": "t", "kafka_partition": 0,
                    "kafka_offset": len(rows), "kafka_timestamp": at, "ingested_at": at, "revenue": 0.0,
                }
            )  # fmt: skip
    write_deltalake(table, pa.Table.from_pylist(rows, build_arrow_schema(EVENTS)), mode="append")


@pytest.fixture
def resources(tmp_path: Path) -> Any:
    """A lakehouse with the events of some days, and the sessions that follow from them."""
    root = str(tmp_path)
    write_events(root)
    create_table(f"{root}/platform/late_events", LATE_EVENTS)
    with duckdb.connect() as connection:
        connection.execute("SET timezone = 'UTC'")
        register_pinned(connection, "events", open_table(f"{root}/silver/events"), columns=build_arrow_schema(EVENTS))
        columns = ", ".join(f'"{column.name}"' for column in SESSIONS.columns)
        rows = connection.sql(f"SELECT {columns} FROM ({STREAM.rule})").to_arrow_table()
    table = create_table(f"{root}/gold/sessions", SESSIONS)
    write_deltalake(table, rows.cast(build_arrow_schema(SESSIONS)), mode="append")
    return SimpleNamespace(lakehouse=LakehouseResource(root=root), duckdb=DuckDBResource(memory_mib=256))


STATE = {"watermark": UNTIL + timedelta(hours=1), "updated_at": UNTIL, "table_version": 1, "source_version": 1}


def find_newest(resources: Any) -> Comparison:
    return compare(resources, STREAM, STATE, "duckdb", max_events=3 * EACH_DAY + 1)


def compare_all(resources: Any) -> dict[date, Comparison]:
    newest = find_newest(resources)
    turns = (compare_older_day(resources, STREAM, STATE, newest, START + timedelta(hours=hour)) for hour in range(DAYS))
    return {found.older_day: found for found in turns if found is not None and found.older_day is not None}


def test_each_older_day_has_its_turn_and_is_equal(resources: Any) -> None:
    newest = find_newest(resources)
    assert newest.start is not None and newest.differences == 0
    found = compare_all(resources)
    assert sorted(found) == [FIRST + timedelta(days=n) for n in range(len(found))] and len(found) >= DAYS - 2
    for day, comparison in found.items():
        assert comparison.differences == 0, comparison.first
        # Sessions that begin at midnight sharp or later, those of the next day's first minutes perhaps.
        assert comparison.rows >= EACH_DAY - 1, day


@pytest.mark.parametrize("column", ["event_count", "user_id"])
def test_what_is_wrong_on_an_old_day_is_found_in_its_turn(resources: Any, column: str) -> None:
    table = open_table(resources.lakehouse.table_uri("gold.sessions"))
    value = {"event_count": "7", "user_id": "'somebody'"}[column]
    table.update({column: value}, predicate="user_id = 'u17'")  # of the second day
    assert find_newest(resources).differences == 0
    wrong = {day for day, comparison in compare_all(resources).items() if comparison.differences}
    assert wrong == {FIRST + timedelta(days=1)}


def test_days_of_too_many_events_and_expired_ones_are_passed_over(resources: Any) -> None:
    events = open_table(resources.lakehouse.table_uri("silver.events"))

    def choose(hour: int, max_events: int, kept_from: datetime | None = None) -> date | None:
        now = START + timedelta(hours=hour)
        found = choose_day(STREAM, events, UNTIL - timedelta(days=2), kept_from, now, max_events)
        return None if found is None else found.day

    assert {choose(hour, 10_000) for hour in range(24)} == {FIRST + timedelta(days=n) for n in range(3)}
    assert choose(0, 5) is None
    kept_from = START + timedelta(hours=1)
    assert FIRST not in {choose(hour, 10_000, kept_from) for hour in range(24)}


def test_a_lakehouse_that_is_compared_whole_has_no_older_day(resources: Any) -> None:
    whole = compare(resources, STREAM, STATE, "duckdb")
    assert whole.start is None and whole.differences == 0
    assert compare_older_day(resources, STREAM, STATE, replace(whole), START) is None
