"""The account of what streams over a table read: it balances over batches, late events and crashes, and tells."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from platform_assets.checks.hop_ledger import build_hop_ledger_checks, find_hop_breaches
from platform_assets.streaming.ledgers.hop_ledger import HopLedger
from platform_assets.streams import load_streams
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.integration.streams_under_test import StreamsUnderTest
from tests.integration.test_watermarks import MINUTE, NOW, purchase

NAMES = ("events", "revenue_by_category", "sessions")


@pytest.fixture
def streams(
    spark: Any, kafka: KafkaResource, lakehouse: LakehouseResource, settings: Settings, topic: Callable[..., str]
) -> StreamsUnderTest:
    return StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic(1), max_offsets_per_trigger=30)


def view(number: int, at: datetime) -> bytes:
    return purchase(number, at, event_type="page_view", revenue=0.0)


def check(streams: StreamsUnderTest, name: str) -> dg.AssetCheckResult:
    (definition,) = build_hop_ledger_checks([stream for stream in load_streams() if stream.name == name])
    context = dg.build_asset_check_context(
        resources={"lakehouse": LakehouseResource(root=streams.context.lakehouse_root)}
    )
    result = definition(context)
    assert isinstance(result, dg.AssetCheckResult)
    return result


def totals(result: dg.AssetCheckResult) -> dict[str, Any]:
    return {name.removeprefix("ledger/"): value.value for name, value in result.metadata.items()}


def test_every_row_of_the_source_is_accounted_for_over_batches_late_events_and_a_crash(
    streams: StreamsUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check(streams, "revenue_by_category").passed  # nothing has run
    began = datetime.now(UTC) - timedelta(seconds=1)
    early = NOW - timedelta(hours=5)
    streams.send([purchase(n, early + n * MINUTE) for n in range(60)])
    streams.send([view(n, early + n * MINUTE) for n in range(100, 140)])
    streams.drain(*NAMES)
    found = totals(check(streams, "revenue_by_category"))
    assert (found["rows_passed"], found["rows_in"], found["rows_read"]) == (100, 60, 60)
    assert found["rows_out"] == len(streams.rows("gold.revenue_by_category"))

    # Its batches end in the checkpoint; the account of them dies with the process.
    streams.send([purchase(n, early + timedelta(hours=4, minutes=n)) for n in range(200, 210)])
    monkeypatch.setattr(HopLedger, "write", lambda *_: None)
    streams.drain(*NAMES)
    monkeypatch.undo()
    streams.send([purchase(900, early + MINUTE), view(901, early + MINUTE)])  # late for every window
    streams.drain(*NAMES)

    for name in NAMES[1:]:
        result = check(streams, name)
        assert result.passed, result.description
        found = totals(result)
        assert found["rows_passed"] == 112
        assert found["rows_in"] == (71 if name == "revenue_by_category" else 112)
        assert 0 < found["batches_unread"] < 10
        assert found["rows_late"] == found["late_waiting"] + found["late_repaired"] > 0
    hops = streams.rows("platform.hop_ledger")
    assert all(hop["first_batch_id"] == hop["batch_id"] for hop in hops)  # the checkpoint still knew each of them
    assert all(began <= hop["planned_at"] <= datetime.now(UTC) for hop in hops)


def test_rows_that_a_stream_did_not_read_and_rows_that_left_the_source_are_breaches(streams: StreamsUnderTest) -> None:
    streams.send([purchase(n, NOW - n * MINUTE) for n in range(20)])
    streams.drain("events", "sessions")
    table = DeltaTable(streams.context.table_uri("platform.hop_ledger"))
    rows = table.to_pyarrow_table()
    write_deltalake(table, rows.set_column(rows.column_names.index("rows_read"), "rows_read",
                                           pc.add(rows["rows_read"], 1)), mode="overwrite")  # fmt: skip
    result = check(streams, "sessions")
    assert not result.passed and "whose writer wrote" in str(result.description)

    write_deltalake(table, rows, mode="overwrite")
    assert check(streams, "sessions").passed
    DeltaTable(streams.context.table_uri("silver.events")).delete("kafka_offset = 7")
    streams.send([purchase(99, NOW)])
    streams.drain("events", "sessions")
    result = check(streams, "sessions")
    assert not result.passed and "passed 21 rows, but the source had 20" in str(result.description)


def hop(batch: int, start: int, end: int, **changes: Any) -> dict[str, Any]:
    """A row of the account; `changes` are what is wrong with it."""
    row = {
        "first_batch_id": batch, "batch_id": batch, "from_version": start, "from_files": -1, "until_version": end,
        "until_files": -1, "rows_passed": 10, "rows_in": 5, "rows_read": 5,
    }  # fmt: skip
    return row | changes


@pytest.mark.parametrize(
    ("hops", "breaches"),
    [
        ([hop(0, -1, 3), hop(1, 3, 4), hop(2, 4, 4, rows_read=None)], 0),
        ([hop(0, -1, 3), hop(2, 4, 5, first_batch_id=1, from_version=3)], 0),
        ([hop(1, 3, 4)], 1),
        ([hop(0, -1, 3), hop(2, 3, 4)], 1),
        ([hop(0, -1, 3), hop(1, 4, 5)], 1),
        ([hop(0, -1, 3), hop(1, 2, 5)], 1),
        ([hop(0, -1, 3, until_files=4), hop(1, 3, 5)], 1),
        ([hop(0, -1, 3, rows_read=4), hop(1, 3, 5, rows_read=6)], 2),
    ],
)
def test_holes_overlaps_and_miscounts_are_told(hops: list[dict[str, Any]], breaches: int) -> None:
    table = pa.Table.from_pylist(hops)
    assert len(find_hop_breaches(table, 10 * len(hops))) == breaches
    assert len(find_hop_breaches(table, None)) == breaches
    assert len(find_hop_breaches(table, 10 * len(hops) + 1)) == breaches + 1
