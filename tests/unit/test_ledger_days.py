"""Days of `platform.ledger` that are over are rolled up, in one commit each, and readers find the same accounts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from platform_assets.checks.ledger_breaches import find_ledger_breaches
from platform_assets.checks.ledger_entries import Batches, Entry, read_all_entries, read_entries_with
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table, name_transaction, open_table
from platform_assets.streaming.ledgers import rolled_up
from platform_assets.streaming.ledgers.ledger_days import LedgerDays
from platform_assets.streaming.ledgers.platform_tables import name_projection
from platform_assets.tables.platform import LEDGER
from platform_assets.topics.events import EVENTS

START = datetime(2026, 3, 1, tzinfo=UTC)
NOW = START + timedelta(days=3, hours=7)
BATCHES_A_DAY = 24
NEWEST = 4 * BATCHES_A_DAY - 1


@pytest.fixture
def context(tmp_path: Path) -> StreamContext:
    return StreamContext(str(tmp_path), {}, "earliest", 1, 1.0, 1, None)


def account(batch: int, query: str = "events") -> dict[str, Any]:
    return {
        "query": query, "txn_app_id": f"headrace/{query}/a", "batch_id": batch, "table_version": batch, "topic": "t",
        "kafka_partition": 0, "from_offset": 10 * batch, "until_offset": 10 * batch + 10, "rows_in": 10,
        "accepted": 10, "quarantined": 0, "deduplicated": 0, "erased": 0, "gaps": "[]",
        "arrived_at": START + timedelta(hours=24 // BATCHES_A_DAY * batch), "is_compacted": None,
    }  # fmt: skip


def append(context: StreamContext, rows: list[dict[str, Any]], spec: Any = LEDGER) -> None:
    table = create_table(context.table_uri(LEDGER.name), spec)
    newest = {row["query"]: row["table_version"] for row in rows}
    app = [name_transaction(name_projection(query), version) for query, version in newest.items()]
    write_deltalake(
        table, pa.Table.from_pylist(rows, build_arrow_schema(spec)), mode="append",
        commit_properties=CommitProperties(app_transactions=app),
    )  # fmt: skip


def open_ledger(context: StreamContext) -> DeltaTable:
    return open_table(context.table_uri(LEDGER.name))


def open_events(version: int) -> Any:
    """A main table that has come to this version, whose log holds no batch any more."""

    class Events:
        def version(self) -> int:
            return version

        def history(self, newest: int | None) -> list[Any]:
            raise AssertionError("the ledger has all of it")

    return Events()


def read(context: StreamContext, query: str = "events", newest: int = NEWEST) -> list[Entry]:
    return read_all_entries(query, open_events(newest), open_ledger(context))


def count_rows(context: StreamContext) -> int:
    return len(open_ledger(context).to_pyarrow_table())


def test_days_that_are_over_become_a_row_and_the_others_stay(context: StreamContext) -> None:
    append(context, [account(n, query) for query in ("events", "payments") for n in range(4 * BATCHES_A_DAY)])
    before, days = read(context), LedgerDays(context, ["events"])
    assert days.roll_up(NOW)
    # Three days of the one query; one that is not over yet, and all of the other group's.
    assert count_rows(context) == 3 + BATCHES_A_DAY + 4 * BATCHES_A_DAY
    assert read(context) == before
    assert not days.roll_up(NOW)
    assert LedgerDays(context, ["payments"]).roll_up(NOW)
    assert count_rows(context) == 2 * (3 + BATCHES_A_DAY)
    assert read(context) == before
    assert [entry.batch_id for entry in read(context, "payments")] == [23, 47, 71, 95]


def test_a_day_is_kept_as_it_is_for_hours(context: StreamContext) -> None:
    append(context, [account(n) for n in range(BATCHES_A_DAY)])
    days = LedgerDays(context, ["events"])
    assert not days.roll_up(START + timedelta(hours=29))
    assert days.roll_up(START + timedelta(hours=30))


def test_a_batch_that_comes_late_joins_its_day(context: StreamContext) -> None:
    append(context, [account(n) for n in range(BATCHES_A_DAY - 1)])
    days = LedgerDays(context, ["events"])
    assert days.roll_up(NOW)
    append(context, [account(BATCHES_A_DAY - 1)])
    assert days.roll_up(NOW + timedelta(days=1))
    [row] = open_ledger(context).to_pyarrow_table().to_pylist()
    assert (row["first_batch_id"], row["batch_id"], row["batches"], row["until_offset"]) == (0, 23, 24, 240)


def test_what_does_not_add_up_stays_a_row_and_is_found(context: StreamContext) -> None:
    rows = [account(n) for n in range(BATCHES_A_DAY)]
    rows[7]["accepted"] += 1
    rows[8]["accepted"] -= 1
    append(context, [row for row in rows if row["batch_id"] != 12])
    said = find_ledger_breaches(read(context, newest=23))
    assert len(said) == 3
    LedgerDays(context, ["events"]).roll_up(NOW)
    assert count_rows(context) == 5
    assert find_ledger_breaches(read(context, newest=23)) == said


def test_a_ledger_of_older_code_is_read_and_rolled_up(context: StreamContext) -> None:
    older = replace(LEDGER, columns=LEDGER.columns[:-3])
    append(context, [account(n) for n in range(4 * BATCHES_A_DAY)], older)
    before = read(context)
    assert [entry.first for entry in before] == [0, 24, 48, 72]
    assert LedgerDays(context, ["events"]).roll_up(NOW)
    assert read(context) == before
    assert len(Batches(before)) == 4 * BATCHES_A_DAY


def test_the_very_batch_is_found_of_a_recent_record_and_of_older_ones_the_days(context: StreamContext) -> None:
    append(context, [account(n) for n in range(4 * BATCHES_A_DAY)])
    LedgerDays(context, ["events"]).roll_up(NOW)

    def find(offset: int) -> list[tuple[int, int]]:
        found = read_entries_with("events", open_events(NEWEST), open_ledger(context), {0: [offset], 7: [5]})
        return [(entry.first, entry.batch_id) for entry in found]

    assert find(245) == [(24, 47)]
    assert find(905) == [(90, 90)]
    assert find(4 * 240) == []


def test_another_groups_rows_that_come_meanwhile_stay(context: StreamContext, monkeypatch: pytest.MonkeyPatch) -> None:
    append(context, [account(n) for n in range(BATCHES_A_DAY)])
    read_rows, late = rolled_up.read_rolled_up, iter([account(5, "payments")])

    def read_while_another_writes(*args: Any) -> pa.Table:
        found = read_rows(*args)
        if (row := next(late, None)) is not None:
            append(context, [row])
        return found

    monkeypatch.setattr(rolled_up, "read_rolled_up", read_while_another_writes)
    assert LedgerDays(context, ["events"]).roll_up(NOW)
    assert count_rows(context) == 2
    assert next(late, None) is None


def test_batches_that_the_table_has_not_yet_are_left_out(context: StreamContext) -> None:
    append(context, [account(n) for n in range(4)])
    [entry] = read_all_entries("events", open_events(2), open_ledger(context))
    assert entry.until_offset == 30


def test_commits_that_are_not_in_the_ledger_are_read_from_the_log(context: StreamContext) -> None:
    append(context, [account(n) for n in range(2)])
    events = create_table(context.table_uri(EVENTS.name), EVENTS)
    for batch in range(1, 5):
        text = (
            f'{{"headrace": {{"app": "headrace/events/a", "batch": {batch}, "partitions": [{{"topic": "t", '
            f'"kafka_partition": 0, "from_offset": {10 * batch}, "until_offset": {10 * batch + 10}, "rows_in": 10, '
            '"accepted": 10, "quarantined": 0, "deduplicated": 0, "gaps": []}]}}'
        )
        empty = build_arrow_schema(EVENTS).empty_table()
        properties = CommitProperties(custom_metadata={"userMetadata": text})
        write_deltalake(events, empty, mode="append", commit_properties=properties)
    entries = read_all_entries("events", open_table(context.table_uri(EVENTS.name)), open_ledger(context))
    assert [(e.first, e.batch_id) for e in entries] == [(0, 1), (2, 2), (3, 3), (4, 4)]
