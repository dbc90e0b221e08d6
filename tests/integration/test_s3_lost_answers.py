"""Each way to write a table of an object store whose answers to commits get lost: what is written is there once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from jobs.operations.audit import audited, describe_act
from platform_assets.object_store import delta_options
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.appended_once import append_once
from platform_assets.streaming.delta.batch_writer import DeltaBatchWriter
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.portion_files import PortionWriter
from platform_assets.tables.platform import AUDIT_LOG
from platform_assets.tables.spec import Column, TableSpec
from resources.lakehouse import LakehouseResource
from tests.integration.s3_lakehouse import build_settings
from tests.s3_faults import Trouble, TroubledStore, troubled
from tests.s3_server import BUCKET, running_s3

SPEC = TableSpec(
    "gold.numbers", "Numbers", "one number", ("n",),
    (Column("n", "bigint", "Number"), Column("at", "timestamp", "When")),
)  # fmt: skip
NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
REPAIR = CommitInfo(CommitKind.REPAIR, "q")


@pytest.fixture(scope="module")
def store() -> Iterator[TroubledStore]:
    with running_s3() as server, troubled(server) as found:
        yield found


def build(*numbers: int) -> pa.Table:
    schema = pa.schema([("n", pa.int64()), ("at", pa.timestamp("us", tz="UTC"))])
    return pa.table([list(numbers), [NOON] * len(numbers)], schema=schema)


def test_what_is_written_is_there_once(store: TroubledStore) -> None:
    root = f"s3://{BUCKET}/lost"
    options = delta_options(root, store.options)
    context = StreamContext(root, {}, "earliest", 1, 1.0, 1, None, storage_options=options)
    table = DeltaBatchWriter(SPEC, context)
    store.begin(Trouble(lose_commits=True))

    table.add(build(1, 2), REPAIR)
    table.put(build(2, 3), "true", REPAIR)
    table.append(build(4), CommitInfo.of_batch("q", "app", 0, source=0))
    writer = PortionWriter(table.folder)
    writer.write(build(5, 6))
    table.append_files(writer.close(), CommitInfo.of_batch("q", "app", 1, source=1))
    table.delete("n = 6", REPAIR)
    table.replace(build(7), build(1), "true", REPAIR)
    append_once(DeltaTable(table.uri, storage_options=options), build(8), "other", 0)

    assert store.begin(Trouble())["lost"] == 7
    found = DeltaTable(table.uri, storage_options=options)
    assert sorted(found.to_pyarrow_table()["n"].to_pylist()) == [2, 3, 4, 5, 7, 8]
    assert found.version() == 7, "no commit is made twice: a reader of commits would read its rows twice"


def test_a_row_of_the_audit_log_is_there_once(store: TroubledStore, tmp_path: Path) -> None:
    lakehouse = LakehouseResource.from_settings(build_settings(tmp_path, f"s3://{BUCKET}/audited", store.options))
    store.begin(Trouble(lose_commits=True))
    with audited(lakehouse, describe_act("recompute", "a test", {"stream": "sessions"})):
        pass
    assert store.begin(Trouble())["lost"] >= 2
    rows = lakehouse.delta_table(AUDIT_LOG.name).to_pyarrow_table()
    assert sorted(rows["outcome"].to_pylist()) == ["begun", "finished"]
