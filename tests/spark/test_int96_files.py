"""What another Spark has written with INT96 timestamps is not rewritten into wrong dates."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from platform_assets.checks.table_files import build_table_files_checks
from platform_assets.errors import TableSchemaError
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.batch_writer import DeltaBatchWriter
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.engine import table_upkeep
from platform_assets.streaming.engine.table_upkeep import TableUpkeep
from platform_assets.streaming.stream_spec import select_derived
from platform_assets.streams import load_streams
from platform_assets.tables.spec import Column, TableSpec
from resources.lakehouse import LakehouseResource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

SPEC = TableSpec(
    "gold.offers", "Offers", "an offer", ("until",),
    (Column("until", "timestamp", "When it ends"), Column("n", "bigint", "A number")),
)  # fmt: skip
TIMESTAMPS = "spark.sql.parquet.outputTimestampType"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FOR_EVER = datetime(9999, 12, 31, tzinfo=UTC)
REPAIR = CommitInfo(CommitKind.REPAIR, "q")


@pytest.fixture
def other_spark(spark: SparkSession) -> Iterator[SparkSession]:
    """A session with Spark's default, as that of somebody else."""
    session = spark.newSession()
    session.conf.set(TIMESTAMPS, "INT96")
    yield session
    session.conf.unset(TIMESTAMPS)


@pytest.fixture
def context(lakehouse: LakehouseResource) -> StreamContext:
    return StreamContext(lakehouse.root_uri, {}, "earliest", 1, 1.0, 1, None)


def row(at: datetime, n: int) -> pa.Table:
    return pa.Table.from_pylist([{"until": at, "n": n}], build_arrow_schema(SPEC))


def append_by(session: SparkSession, uri: str) -> None:
    rows = session.sql("select timestamp'9999-12-31 00:00:00' as until, 1L as n")
    rows.write.format("delta").mode("append").save(uri)


def read(uri: str, session: SparkSession) -> list[tuple[datetime, int]]:
    rows = session.read.format("delta").load(uri).selectExpr("cast(until as string)", "n").orderBy("n").collect()
    return [(datetime.fromisoformat(row[0]).replace(tzinfo=UTC), row[1]) for row in rows]


def test_a_file_with_int96_is_left_alone_until_that_spark_has_rewritten_it(
    spark: SparkSession, other_spark: SparkSession, context: StreamContext, lakehouse: LakehouseResource,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(table_upkeep, "COMMITS_OF_ONE_COMPACTION", 1)
    table = DeltaBatchWriter(SPEC, context)
    table.append(row(FOR_EVER, 0), CommitInfo.of_batch("q", "app", 0))
    append_by(other_spark, table.uri)
    upkeep = TableUpkeep([replace(select_derived(load_streams())[0], name="q", tables=(SPEC,))], context)

    upkeep.run()
    assert "gold.offers is not compacted" in caplog.text and f"{TIMESTAMPS}=TIMESTAMP_MICROS" in caplog.text
    for rewrite in (
        lambda: table.upsert(row(NOON, 2), CommitInfo.of_batch("q", "app", 1)),
        lambda: table.put(row(FOR_EVER, 3), "true", REPAIR),
        lambda: table.replace(row(FOR_EVER, 3), row(NOON, 2), "true", REPAIR),
        lambda: table.erase(row(FOR_EVER, 0).select(["n"]), "true", REPAIR),
        lambda: table.delete("n = 0", REPAIR),
    ):
        with pytest.raises(TableSchemaError, match="INT96 timestamps \\(column until\\)"):
            rewrite()
    (check,) = build_table_files_checks([SPEC])
    verdict = check(dg.build_asset_check_context(resources={"lakehouse": lakehouse}))
    assert isinstance(verdict, dg.AssetCheckResult)
    assert not verdict.passed and "INT96" in str(verdict.description)
    assert read(table.uri, spark) == [(FOR_EVER, 0), (FOR_EVER, 1)]

    spark.sql(f"UPDATE delta.`{table.uri}` SET n = n")
    upkeep.run()
    table.delete("n = 0", REPAIR)
    assert len(DeltaTable(table.uri).file_uris()) == 1
    assert read(table.uri, spark) == [(FOR_EVER, 1)]


def test_files_of_ours_are_looked_at_once(context: StreamContext, monkeypatch: pytest.MonkeyPatch) -> None:
    table, looked_at = DeltaBatchWriter(SPEC, context), list[str]()
    read_metadata = pq.read_metadata

    def note(path: str, **options: Any) -> Any:
        looked_at.append(path)
        return read_metadata(path, **options)

    monkeypatch.setattr(pq, "read_metadata", note)
    for number in range(4):
        at = datetime(2026, 1, 1 + number, tzinfo=UTC)
        table.upsert(row(at, number), CommitInfo.of_batch("q", "app", number))
    assert len(looked_at) == len(set(looked_at)) == 3
