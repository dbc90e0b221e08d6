"""The streams' tables stay small in files and log, and no query of the group loses what it has not read."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.batch_writer import DeltaBatchWriter
from platform_assets.streaming.delta.commit_info import CommitInfo
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.engine import table_upkeep
from platform_assets.streaming.engine.table_upkeep import COMMITS_OF_ONE_CHECKPOINT, TableUpkeep
from platform_assets.streams import load_streams
from platform_assets.tables.platform import PLATFORM_TABLES
from platform_assets.topics.events import EVENTS
from resources.lakehouse import LakehouseResource
from tests.spark.test_streams_over_events import run_streams

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyspark.sql import SparkSession

# `make test` looks at one reader of silver.events, the long tests at two: each that lags is waited for.
READERS, TWO_READERS = ("revenue_by_category",), ("revenue_by_category", "sessions")
NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)


class Shop:
    """Writes silver.events, one row a commit, and reads its log's folder."""

    def __init__(self, context: StreamContext) -> None:
        self._table = DeltaBatchWriter(EVENTS, context)
        self._log = Path(self._table.uri, "_delta_log")
        self._batch = 0

    def commit(self, number: int) -> None:
        for _ in range(number):
            at = NOON + timedelta(seconds=self._batch)
            row = {"event_id": str(self._batch), "event_type": "purchase", "event_time": at, "user_id": "u"}
            row |= {"event_date": at.date(), "kafka_partition": 0, "kafka_offset": self._batch, "revenue": 1.0}
            rows = pa.Table.from_pylist([row], build_arrow_schema(EVENTS))
            self._table.append(rows, CommitInfo.of_batch("events", "app", self._batch, ranges=[]))
            self._batch += 1

    def files(self) -> set[str]:
        return {str(file.relative_to(self._log.parent)) for file in self._log.parent.rglob("*.parquet")}

    def age(self) -> None:
        """Makes all commits as old as those of yesterday."""
        yesterday = time.time() - 86_400
        for file in self._log.iterdir():
            os.utime(file, (yesterday, yesterday))

    def oldest_commit(self) -> int:
        return min(int(file.stem) for file in self._log.glob("[0-9]*.json"))


@pytest.fixture
def context(lakehouse: LakehouseResource) -> StreamContext:
    return StreamContext(lakehouse.root_uri, {}, "earliest", 1, 1.0, 1, None)


def start_upkeep(context: StreamContext, readers: Sequence[str]) -> TableUpkeep:
    """Upkeep of the stream `events` and these readers of its table."""
    streams = [stream for stream in load_streams() if stream.name in ("events", *readers)]
    for table in (*(table for stream in streams for table in stream.tables), *PLATFORM_TABLES):
        DeltaBatchWriter(table, context)
    return TableUpkeep(streams, context)


@pytest.mark.long
def test_commits_are_removed_when_they_are_old_and_every_reader_has_passed_them(
    spark: SparkSession, lakehouse: LakehouseResource, context: StreamContext
) -> None:
    shop, upkeep = Shop(context), start_upkeep(context, TWO_READERS)
    shop.commit(COMMITS_OF_ONE_CHECKPOINT)
    shop.age()
    upkeep.run()
    assert shop.oldest_commit() == 0  # nobody has read them

    run_streams(spark, lakehouse, TWO_READERS)
    shop.commit(COMMITS_OF_ONE_CHECKPOINT)
    upkeep.run()
    kept = shop.oldest_commit()
    assert kept > 0  # old, and read by all

    shop.age()
    shop.commit(COMMITS_OF_ONE_CHECKPOINT)
    upkeep.run()
    assert shop.oldest_commit() == kept  # the second hundred is old, but not read

    run_streams(spark, lakehouse, TWO_READERS)
    purchases = lakehouse.delta_table("gold.revenue_by_category").to_pyarrow_table()["purchase_count"].to_pylist()
    assert sum(purchases) == 2 * 3 * COMMITS_OF_ONE_CHECKPOINT  # each event is in two windows


def test_replaced_files_are_removed_when_every_reader_has_passed_their_commits(
    spark: SparkSession, lakehouse: LakehouseResource, context: StreamContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_upkeep, "COMMITS_OF_ONE_COMPACTION", 20)
    shop, upkeep = Shop(context), start_upkeep(replace(context, vacuum_hours=0), READERS)
    shop.commit(10)
    run_streams(spark, lakehouse, READERS)
    shop.commit(10)
    small = shop.files()
    upkeep.run()
    upkeep.run()
    assert len(lakehouse.delta_table("silver.events").file_uris()) == 1
    assert shop.files() > small  # ten of them are still to be read

    run_streams(spark, lakehouse, READERS)
    upkeep.run()
    assert len(shop.files()) == 1
    purchases = lakehouse.delta_table("gold.revenue_by_category").to_pyarrow_table()["purchase_count"].to_pylist()
    assert sum(purchases) == 2 * 20


def test_a_bounded_run_keeps_its_tables(
    spark: SparkSession, lakehouse: LakehouseResource, context: StreamContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each drain is a process of its own, and nothing else looks after the tables where streams run on a schedule."""
    monkeypatch.setattr(table_upkeep, "COMMITS_OF_ONE_COMPACTION", 3)
    monkeypatch.setattr(table_upkeep, "COMMITS_OF_ONE_CHECKPOINT", 3)
    shop = Shop(context)
    for _ in range(4):
        shop.commit(2)
        run_streams(spark, lakehouse, READERS)
    ledger = lakehouse.delta_table("platform.hop_ledger")
    assert len(ledger.to_pyarrow_table()) == 4 and len(ledger.file_uris()) < 4
    assert table_upkeep.find_checkpoint(ledger.table_uri, {}) > 0


@pytest.mark.long
def test_compaction_leaves_few_files_and_the_same_rows_under_a_writer_and_readers(
    spark: SparkSession, lakehouse: LakehouseResource, context: StreamContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_upkeep, "COMMITS_OF_ONE_COMPACTION", 50)
    shop, upkeep = Shop(context), start_upkeep(context, TWO_READERS)
    shop.commit(30)
    run_streams(spark, lakehouse, TWO_READERS)
    shop.commit(30)
    upkeep.run()
    assert len(lakehouse.delta_table("silver.events").file_uris()) == 1
    shop.commit(5)  # the writer's view of the table is older than the compaction
    run_streams(spark, lakehouse, TWO_READERS)
    events = lakehouse.delta_table("silver.events").to_pyarrow_table()
    assert sorted(events["kafka_offset"].to_pylist()) == list(range(65))
    purchases = lakehouse.delta_table("gold.revenue_by_category").to_pyarrow_table()["purchase_count"].to_pylist()
    assert sum(purchases) == 2 * 65

    # A query that begins now reads the compacted file first. It runs in a copy, because Spark's upkeep of state
    # writes to the checkpoint of a query that has ended, in its own time.
    copy = LakehouseResource(root=f"{lakehouse.root}-copy")
    shutil.copytree(lakehouse.table_uri("silver.events"), copy.table_uri("silver.events"))
    run_streams(spark, copy, ["revenue_by_category"])
    again = copy.delta_table("gold.revenue_by_category").to_pyarrow_table()["purchase_count"].to_pylist()
    assert sum(again) == sum(purchases)


def test_a_compaction_that_meets_an_upsert_is_made_on_top_of_it(
    context: StreamContext, lakehouse: LakehouseResource, caplog: pytest.LogCaptureFixture
) -> None:
    Shop(context).commit(5)
    table = lakehouse.delta_table("silver.events")
    lakehouse.delta_table("silver.events").update({"category": "'changed'"}, predicate="kafka_offset = 0")
    table_upkeep.compact(table)
    left = lakehouse.delta_table("silver.events")
    assert len(left.file_uris()) == 1 and not caplog.records
    assert left.to_pyarrow_table()["category"].to_pylist().count("changed") == 1


def test_a_compaction_that_always_loses_says_so(
    context: StreamContext,
    lakehouse: LakehouseResource,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The writer never rests: each time compaction looks again, another upsert follows."""
    Shop(context).commit(5)
    table = lakehouse.delta_table("silver.events")

    def rewrite() -> None:
        lakehouse.delta_table("silver.events").update({"category": "'changed'"}, predicate="kafka_offset = 0")

    look_again: Callable[[DeltaTable], None] = DeltaTable.update_incremental

    def look_again_and_lose(self: DeltaTable) -> None:
        look_again(self)
        rewrite()

    monkeypatch.setattr(DeltaTable, "update_incremental", look_again_and_lose)
    rewrite()
    table_upkeep.compact(table)
    assert "lost 3 times in a row" in caplog.text
    assert len(lakehouse.delta_table("silver.events").file_uris()) == 5
