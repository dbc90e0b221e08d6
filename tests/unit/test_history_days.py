"""History that nothing depends on goes after some days; what waits for its repair stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from platform_assets.checks.freshness import read_last_batch
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, open_table
from platform_assets.streaming.ledgers.history_days import HistoryDays
from platform_assets.tables.platform import LATE_EVENTS, QUERY_PROGRESS

NOW = datetime.now(UTC).replace(hour=12)


@pytest.fixture
def context(tmp_path: Path) -> StreamContext:
    return StreamContext(str(tmp_path), {}, "earliest", 1, 1.0, 1, None, history_days=10)


def append(context: StreamContext, name: str, rows: list[dict[str, object]]) -> None:
    spec = {spec.name: spec for spec in (QUERY_PROGRESS, LATE_EVENTS)}[name]
    write_deltalake(context.table_uri(name), pa.Table.from_pylist(rows, build_arrow_schema(spec)), mode="append")


def read_days(context: StreamContext, name: str, column: str) -> list[int | None]:
    """How many days ago each row was."""
    found = open_table(context.table_uri(name)).to_pyarrow_table()[column].to_pylist()
    ago = [None if moment is None else (NOW.date() - moment.date()).days for moment in found]
    return sorted(ago, key=lambda days: -1 if days is None else days)


def test_older_days_go_a_month_at_a_time(context: StreamContext) -> None:
    history = HistoryDays(context)
    for ago in (0, 9, 10, 11, 12, 50, 80):
        append(context, QUERY_PROGRESS.name, [{"query": "q", "started_at": NOW - timedelta(days=ago)}])
    assert history.remove(NOW) == {QUERY_PROGRESS.name}
    assert read_days(context, QUERY_PROGRESS.name, "started_at") == [0, 9, 10, 11, 12]
    assert history.remove(NOW) == {QUERY_PROGRESS.name}
    assert read_days(context, QUERY_PROGRESS.name, "started_at") == [0, 9, 10]
    version = open_table(context.table_uri(QUERY_PROGRESS.name)).version()
    assert history.remove(NOW) == set()
    assert open_table(context.table_uri(QUERY_PROGRESS.name)).version() == version
    assert history.remove(NOW + timedelta(days=1)) == {QUERY_PROGRESS.name}
    assert read_days(context, QUERY_PROGRESS.name, "started_at") == [0, 9]


def test_a_late_event_that_waits_stays_however_old_it_is(context: StreamContext) -> None:
    history = HistoryDays(context)
    repaired = [None, NOW - timedelta(days=30), NOW - timedelta(days=3)]
    old = NOW - timedelta(days=400)
    append(context, LATE_EVENTS.name, [{"query": "q", "event_time": old, "repaired_at": at} for at in repaired])
    history.remove(NOW)
    assert read_days(context, LATE_EVENTS.name, "repaired_at") == [None, 3]


def test_the_newest_batch_of_a_query_is_found_however_old_it_is(context: StreamContext) -> None:
    HistoryDays(context)
    ago = {"q": [0, 3], "stopped": [40, 50]}
    for query, days in ago.items():
        append(
            context, QUERY_PROGRESS.name,
            [{"query": query, "started_at": NOW - timedelta(days=each)} for each in days],
        )  # fmt: skip
    progress = open_table(context.table_uri(QUERY_PROGRESS.name))
    assert read_last_batch(progress, "q") == NOW
    assert read_last_batch(progress, "stopped") == NOW - timedelta(days=40)
    assert read_last_batch(progress, "new") is None
