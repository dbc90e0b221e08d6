"""The rows of a source as they are now: whatever the order and the portions in which its changes come."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.operations.absent_rows import AbsentRows, build_deletes, choose_streams, find_absent
from platform_assets.checks.latest_parity import compare_latest
from platform_assets.checks.parity import build_parity_checks
from platform_assets.errors import SettingError, UsageError
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.current_rows import LATEST_BY, build_current_rows
from platform_assets.streaming.delta.batch_writer import DeltaBatchWriter
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.streaming.derive.latest_rows import keep_latest
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.ingest.record_parser import parse_batch
from platform_assets.streaming.ingest.record_rows import add_arrival, as_accepted
from platform_assets.streaming.repair.expiry import check_policy
from platform_assets.streaming.stream_spec import KafkaStream, Stream
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from tests.accounts import BEGIN, CURRENT, TOPIC, Database, Sent, found, histories
from tests.generated_cases import examples

NOON = int((BEGIN + timedelta(hours=1)).timestamp() * 1_000_000)
CHANGES = TOPIC.tables[0]


def as_changes(
    events: Sequence[Sent], offsets: Sequence[int] | None = None, partition: int = 0, sent_at: datetime = BEGIN
) -> pa.Table:
    """Rows of the table of changes."""
    batch = pa.record_batch(
        {
            "key": pa.array([each.key for each in events], pa.binary()),
            "value": pa.array([each.value for each in events], pa.binary()),
            "partition": pa.array([partition] * len(events), pa.int32()),
            "offset": pa.array(range(len(events)) if offsets is None else offsets, pa.int64()),
            "timestamp": pa.array([sent_at] * len(events), pa.timestamp("us", tz="UTC")),
        }
    )
    parsed = pa.Table.from_batches([parse_batch(batch, TOPIC, NOON, 100_000, EventRules())])
    assert parsed["_detail"].null_count == len(parsed), parsed["_detail"].to_pylist()
    return as_accepted(add_arrival(parsed, "accounts", NOON))


def apply_rule(changes: pa.Table) -> pa.Table:
    """The rows by the stream's rule."""
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.register("events", changes)
        assert CURRENT.rule is not None
        return connection.sql(CURRENT.rule).to_arrow_table()


@pytest.fixture
def lakehouse(tmp_path: Path) -> LakehouseResource:
    return LakehouseResource(root=str(tmp_path))


def open_context(root: str) -> StreamContext:
    return StreamContext(root, {}, "earliest", 1, 1.0, 1, None)


@given(histories(), st.randoms(use_true_random=False))
def test_the_rule_gives_what_the_database_has_in_any_order_of_arrival(
    database: Database, chance: random.Random
) -> None:
    if not database.events:
        return
    order = list(range(len(database.events)))
    chance.shuffle(order)
    rows = apply_rule(as_changes([database.events[place] for place in order])).to_pylist()
    assert found(rows) == database.expect()
    assert all(row["name"] is None and row["tags"] is None for row in rows if row["is_deleted"])


@given(histories(), st.integers(1, 5), st.randoms(use_true_random=False))
@settings(max_examples=12)
def test_the_table_has_what_the_database_has_after_batches_in_any_order(
    database: Database, portion: int, chance: random.Random
) -> None:
    """Each batch is written by what its tasks made of it, here several tables; some are written again."""
    if not database.events:
        return
    changes = as_changes(database.events)
    order = list(range(len(changes)))
    chance.shuffle(order)
    root = tempfile.mkdtemp()
    try:
        table = DeltaBatchWriter(CURRENT.main_table, open_context(root))
        for number, start in enumerate(range(0, len(order), portion)):
            places = order[start : start + portion]
            parts = [apply_rule(changes.take([place])) for place in places]
            rows = keep_latest([part for part in parts if len(part)] or parts[:1], ("id",), LATEST_BY)
            info = CommitInfo.of_batch("current_accounts", "app", number, source={"version": number})
            for _ in range(chance.choice([1, 1, 2])):
                table.put_latest(rows, LATEST_BY, info)
        present = table.read_arrow()
        assert found(present.to_pylist()) == database.expect()
        wanted = apply_rule(changes)
        names = wanted.column_names
        assert sorted(map(str, present.select(names).to_pylist())) == sorted(map(str, wanted.to_pylist()))
    finally:
        shutil.rmtree(root)


def test_the_latest_of_a_batch_is_found_among_keys_with_nulls() -> None:
    rows = pa.table(
        {"a": [1, None, 1, None], "b": ["x", "x", "x", "x"], "n": ["2", "1", "1", "3"], "v": [[1], [2], [3], [4]]}
    )
    kept = keep_latest([rows.slice(0, 1), rows.slice(1)], ("a", "b"), ("n",))
    assert sorted(kept["v"].to_pylist()) == [[1], [4]]


class World:
    """A lakehouse whose table of changes has a history, and whose current table follows it."""

    def __init__(self, lakehouse: LakehouseResource) -> None:
        self.lakehouse, self.context = lakehouse, open_context(lakehouse.root_uri)
        self.table = DeltaBatchWriter(CURRENT.main_table, self.context)
        self.changes = DeltaWriter(CHANGES, self.context)
        self._batches: Iterator[int] = iter(range(100))
        self._count = 0

    def read(self, events: Sequence[Sent], sent_at: datetime = BEGIN) -> None:
        """The changes come, and the query reads them."""
        rows = as_changes(events, range(self._count, self._count + len(events)), sent_at=sent_at)
        self._count += len(events)
        self.changes.add(rows, CommitInfo(CommitKind.REPAIR, "accounts"))
        source = {"version": self.changes.version, "files": -1, "frontier": None}
        info = CommitInfo.of_batch(CURRENT.name, "app", next(self._batches), source=source)
        self.table.put_latest(apply_rule(rows), LATEST_BY, info)

    def find_absent(self) -> AbsentRows | None:
        """Does as the command does."""
        changes, table = (self.lakehouse.delta_table(each.name) for each in (CHANGES, CURRENT.main_table))
        with duckdb.connect() as connection:
            connection.execute("set timezone = 'UTC'")
            return find_absent(connection, CURRENT, changes, table)

    def check(self) -> dg.AssetCheckResult:
        """The verdict of the check `parity`."""
        (check,) = build_parity_checks([KafkaStream(TOPIC), CURRENT], "duckdb")
        resources = {"lakehouse": self.lakehouse, "duckdb": DuckDBResource(memory_mib=128)}
        verdict = check(dg.build_asset_check_context(resources=resources))
        assert isinstance(verdict, dg.AssetCheckResult)
        return verdict


@pytest.fixture
def world(lakehouse: LakehouseResource) -> World:
    return World(lakehouse)


def build_history() -> Database:
    database = Database()
    for account in range(1, 40):
        database.put(account, account * 100, f"n{account}")
    for account in range(1, 40, 3):
        database.delete(account)
    database.put(4, 1, "again")
    return database


def test_the_check_compares_all_keys_and_names_those_that_differ(world: World) -> None:
    assert world.check().passed and "has not read all" in str(world.check().description)
    database = build_history()
    world.read(database.events[:30])
    world.read(database.events[30:])
    assert world.check().passed, world.check().description
    assert "0 differences in 39 keys" in str(world.check().description)
    rows = world.table.read_arrow()
    broken = [{**row, "name": "other"} for row in rows.to_pylist() if row["id"] == "5"]
    world.table.put(pa.Table.from_pylist(broken, rows.schema), "true", CommitInfo(CommitKind.REPAIR, "somebody"))
    verdict = world.check()
    assert not verdict.passed
    assert "2 differences in 39 keys" in str(verdict.description)
    assert "headrace recompute current_accounts" in str(verdict.description)
    assert "'id': '5'" not in str(verdict.description), "the subject is not named"
    world.table.delete("id = '5'", CommitInfo(CommitKind.REPAIR, "somebody"))
    assert "1 differences" in str(world.check().description)


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_the_keys_are_compared_a_share_at_a_time(world: World, size: int) -> None:
    world.read(build_history().events)
    table, changes = (world.lakehouse.delta_table(table.name) for table in (CURRENT.main_table, CHANGES))
    with duckdb.connect() as connection:
        equal = compare_latest(connection, CURRENT, table, changes, None, 3, size)
        world.table.delete("id < '2'", CommitInfo(CommitKind.REPAIR, "somebody"))
        table = world.lakehouse.delta_table(CURRENT.main_table.name)
        unequal = compare_latest(connection, CURRENT, table, changes, None, 3, size)
    assert (equal.rows, equal.differences, equal.first) == (39, 0, [])
    assert (unequal.differences, len(unequal.first)) == (11, 3)


def test_changes_that_expired_do_not_make_the_rest_differ(world: World) -> None:
    database = Database()
    database.put(1, 1, "old")
    world.read(database.events)
    database.lsn += 2 * 86_400_000
    database.put(2, 2, "new")
    del database.events[:1]
    day = (BEGIN + timedelta(days=1)).date()
    with pytest.raises(AssertionError, match="more than a day ahead"):
        world.read(database.events)
    world.changes.delete(f"event_date < date '{day}'", CommitInfo(CommitKind.EXPIRY, day.isoformat()))
    assert not world.check().passed, "who has taken them out is not on record yet"
    with duckdb.connect() as connection:
        table, changes = (world.lakehouse.delta_table(table.name) for table in (CURRENT.main_table, CHANGES))
        kept_from = datetime.combine(day, datetime.min.time(), BEGIN.tzinfo)
        assert compare_latest(connection, CURRENT, table, changes, kept_from, 3).differences == 0


def test_a_table_that_begins_anew_is_not_compared(world: World) -> None:
    world.read(build_history().events)
    world.table.delete("true", CommitInfo(CommitKind.RECOMPUTE, CURRENT.name))
    assert "has not read all" in str(world.check().description)


def test_what_is_taken_out_of_both_tables_is_missed_in_neither(world: World) -> None:
    world.read(build_history().events)
    for table in (world.table, world.changes):
        table.delete("id = '5'", CommitInfo(CommitKind.ERASURE, "hash"))
    assert "0 differences in 38 keys" in str(world.check().description)
    rows: Any = world.changes.read_arrow().slice(0, 1)
    write_deltalake(world.lakehouse.table_uri(CHANGES.name), rows, mode="append")
    assert world.check().passed, "what the query has not read yet is not compared"


def test_rows_that_hold_now_do_not_expire() -> None:
    streams = (KafkaStream(TOPIC), CURRENT)
    check_policy(streams, {CHANGES.name: 30})
    with pytest.raises(SettingError, match=r"silver\.current_accounts has the rows that hold now"):
        check_policy(streams, {CURRENT.main_table.name: 30})


def test_a_time_range_of_current_rows_is_not_replayed(lakehouse: LakehouseResource) -> None:
    from jobs.operations.replay.row_replay import ReplayScope
    from jobs.operations.replay.time_range import RangeReplay

    with pytest.raises(UsageError, match="Replay all: headrace replay current_accounts --swap"):
        RangeReplay(CURRENT, open_context(lakehouse.root_uri), lakehouse, ReplayScope()).describe()


def test_a_column_that_is_added_comes_last() -> None:
    """Delta adds columns at the end."""
    topic = dataclasses.replace(TOPIC, added_fields=("opened_on",))
    assert build_current_rows(topic).main_table.columns[-1].name == "opened_on"
    assert {c.name for c in build_current_rows(topic).main_table.columns} == {
        c.name for c in CURRENT.main_table.columns
    }


def mark_last(event: Sent, mark: str) -> Sent:
    """The snapshot's row with Debezium's mark."""
    document = json.loads(event.value or b"")
    document["source"]["snapshot"] = mark
    return dataclasses.replace(event, value=json.dumps(document).encode())


@examples(6)
@given(
    st.sets(st.integers(1, 12), min_size=1),
    st.sets(st.integers(1, 12)),
    st.sets(st.integers(1, 12)),
    st.integers(0, 12),
)
def test_rows_that_were_deleted_unseen_are_those_that_a_complete_snapshot_lacks(
    put: set[int], deleted: set[int], again: set[int], unread: int
) -> None:
    """Some of the snapshot's rows, and what comes after it, are read after the deletes were sent."""
    database = Database()
    for account in sorted(put):
        database.put(account, account, "before")
    seen = len(database.events)
    for account in sorted(deleted & put)[: len(put) - 1]:
        database.delete(account)
    lost, database.events[seen:] = len(database.events) - seen, []  # the connector is away
    database.lsn += 8
    database.snapshot()
    database.events[-1] = mark_last(database.events[-1], "last")
    early = [*database.events[:seen], *database.events[seen + unread :], database.events[-1]]
    begun = len(database.events)
    for account in sorted(again):
        database.put(account, 500 + account, "after")
    late = [*database.events[seen : seen + unread], *database.events[begun:]]
    with tempfile.TemporaryDirectory() as root:
        world = World(LakehouseResource(root=root))
        world.read(early)
        absent = world.find_absent()
        assert absent is not None and (unread or len(absent.keys) == lost // 2)
        deletes = [Sent(key, value, 0) for key, value in build_deletes(TOPIC, absent)]
        if deletes or late:
            world.read([*deletes, *late])
        assert found(world.table.read_arrow().to_pylist()) == database.expect()
        assert world.check().passed
        left = world.find_absent()
        assert left is not None and not left.keys


@pytest.mark.parametrize("mark", ["true", "first", "first_in_data_collection", "incremental", "false"])
def test_a_snapshot_that_has_not_ended_says_nothing(world: World, mark: str) -> None:
    database = build_history()
    database.snapshot()
    world.read([*database.events[:-1], mark_last(database.events[-1], mark)])
    assert world.find_absent() is None
    world.read([mark_last(database.events[-1], "last_in_data_collection")])
    assert world.find_absent() is not None


@examples(4)
@given(st.sets(st.integers(1, 6), min_size=1), st.sets(st.integers(7, 9), min_size=1))
def test_changes_of_a_transaction_that_was_open_during_the_snapshot_are_not_absent(
    put: set[int], changed: set[int]
) -> None:
    """Postgres: they stand in the log before the snapshot, and Debezium sends them when they are committed."""
    database = Database()
    for account in sorted(put):
        database.put(account, account, "before")
    seen = len(database.events)
    rows, places = dict(database.rows), database.lsn
    for account in sorted(changed):
        database.put(account, account, "open")
    opened = database.events[seen:]
    database.events[seen:], database.rows, committed = [], rows, dict(database.rows)
    database.lsn = places + 1_000
    database.snapshot()
    database.events[-1] = mark_last(database.events[-1], "last")
    database.rows = committed
    with tempfile.TemporaryDirectory() as root:
        world = World(LakehouseResource(root=root))
        world.read(database.events)
        world.read(opened, sent_at=BEGIN + timedelta(seconds=1))
        assert found(world.table.read_arrow().to_pylist()) == database.expect()
        absent = world.find_absent()
        assert absent is not None and not absent.keys


def of_source(event: Sent, **source: Any) -> Sent:
    """The change with these members in its source; None takes one out."""
    document = json.loads(event.value or b"")
    merged = document["source"] | source
    document["source"] = {name: value for name, value in merged.items() if value is not None}
    return dataclasses.replace(event, value=json.dumps(document).encode())


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"lsn": None}, "Postgres, MySQL and MariaDB"),
        ({"lsn": None, "commit_lsn": "00000027:00000ac0:0002"}, "Postgres, MySQL and MariaDB"),
    ],
)
def test_rows_of_a_source_without_places_of_snapshots_are_not_shown(world: World, source: Any, said: str) -> None:
    """Each of them would stand before the last one, and be called absent."""
    database = Database()
    for account in range(3):
        database.put(account, account, "before")
    database.events.clear()
    database.snapshot()
    database.events[-1] = mark_last(database.events[-1], "last")
    world.read([of_source(event, **source) for event in database.events])
    with pytest.raises(UsageError, match=said):
        world.find_absent()


@pytest.mark.parametrize("other", [{"table": "accounts_2"}, {"schema": "b"}, {"db": "b"}, {"db": "b", "schema": None}])
def test_rows_of_several_tables_in_a_topic_are_not_shown(world: World, other: dict[str, str | None]) -> None:
    """The snapshot of one may have ended where that of the other was cut short."""
    database = Database()
    database.put(1, 1, "of the other")
    first = of_source(database.events.pop(), **other)
    database.rows.clear()
    database.put(2, 2, "of the first")
    database.snapshot()
    world.read([first, *database.events[:-1], mark_last(database.events[-1], "last_in_data_collection")])
    with pytest.raises(UsageError, match="rows of several tables"):
        world.find_absent()


def test_a_source_without_a_place_before_the_snapshot_is_refused() -> None:
    source = {"commit_lsn": "00000027:00000ac0:0002", "ts_ms": 1}
    absent = AbsentRows("x", json.dumps(source), BEGIN, [{"id": "1"}])
    with pytest.raises(UsageError, match="Postgres, MySQL and MariaDB"):
        list(build_deletes(TOPIC, absent))
    of_mysql = {"file": "binlog.000007", "pos": 120, "row": 0, "ts_ms": 5, "snapshot": "last"}
    ((key, value),) = build_deletes(TOPIC, dataclasses.replace(absent, source=json.dumps(of_mysql)))
    assert json.loads(key) == {"id": 1}
    event = json.loads(value)
    assert (event["op"], event["before"], event["after"]) == ("d", {"id": 1}, None)
    assert event["source"] == of_mysql | {"pos": 119, "snapshot": "false"}


def test_topics_for_which_no_deletes_can_be_sent_are_named() -> None:
    streams: list[Stream] = [KafkaStream(TOPIC, 0.0), CURRENT]
    assert choose_streams(streams, "accounts") == (streams[0], CURRENT)
    with pytest.raises(UsageError, match="orders is no topic with current rows"):
        choose_streams(streams, "orders")
    with pytest.raises(UsageError, match="accounts is no topic"):
        choose_streams(streams[:1], "accounts")
    packed = dataclasses.replace(TOPIC, compression="gzip")
    with pytest.raises(UsageError, match="no plain JSON"):
        choose_streams([KafkaStream(packed, 0.0), CURRENT], "accounts")
