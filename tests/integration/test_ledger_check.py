"""The ledger check passes on what the stream wrote, and fails on each way in which data can be broken."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from platform_assets.checks.ledger import audit_stream, build_ledger_checks
from platform_assets.checks.ledger_breaches import find_gap_breaches, find_ledger_breaches, find_row_breaches
from platform_assets.checks.ledger_entries import Entry
from platform_assets.streaming.stream_spec import select_ingest
from platform_assets.streams import load_streams
from resources.kafka import KafkaResource
from resources.kafka_records import find_records
from resources.kafka_topics import ensure_topic
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.integration.streams_under_test import StreamsUnderTest
from tests.integration.test_events_stream import event

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
(EVENTS,) = select_ingest(load_streams())


@pytest.fixture(scope="module")
def written(spark: Any, kafka: KafkaResource, tmp_path_factory: pytest.TempPathFactory) -> StreamsUnderTest:
    """Two batches over one partition: accepted, repeated and malformed records, a transaction that was aborted."""
    root = tmp_path_factory.mktemp("ledger")
    topic = f"ledger-{root.name}"
    ensure_topic(kafka, topic, 1)
    lakehouse = LakehouseResource(root=str(root / "lakehouse"))
    settings = Settings(home=root / "home", kafka_bootstrap_servers="")
    streams = StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic)
    streams.send([event("a"), event("a"), b"bad", event("b")])
    streams.drain("events")
    producer = kafka.producer(**{"transactional.id": topic})
    producer.init_transactions(30)
    for name, finish in (("c", producer.commit_transaction), ("aborted", producer.abort_transaction)):
        producer.begin_transaction()
        producer.produce(topic, value=event(name), partition=0)
        producer.flush(30)
        finish(30)
    streams.send([event("d")])
    streams.drain("events")
    return streams


def audit(streams: StreamsUnderTest) -> tuple[str, ...]:
    return audit_stream(EVENTS, LakehouseResource(root=streams.context.lakehouse_root), streams.kafka).breaches


def run_check(streams: StreamsUnderTest) -> dg.AssetCheckResult:
    (check,) = build_ledger_checks([EVENTS])
    lakehouse = LakehouseResource(root=streams.context.lakehouse_root)
    # As it is: within Dagster the fixture's broker would be let go of.
    resources = {"lakehouse": lakehouse, "kafka": dg.ResourceDefinition.hardcoded_resource(streams.kafka)}
    with dg.DagsterInstance.ephemeral() as instance:
        verdict = check(dg.build_asset_check_context(instance=instance, resources=resources))
    assert isinstance(verdict, dg.AssetCheckResult)
    return verdict


@pytest.fixture
def lakehouse_copy(written: StreamsUnderTest, tmp_path: Any) -> StreamsUnderTest:
    """The same lakehouse in a folder of its own, to be broken."""
    return written.copy_to(tmp_path / "copy")


def test_a_healthy_stream_balances(written: StreamsUnderTest) -> None:
    found = audit_stream(EVENTS, LakehouseResource(root=written.context.lakehouse_root), written.kafka)
    assert found.breaches == ()
    assert found.totals["accepted"] == 4
    assert found.totals["quarantined"] == 1
    assert found.totals["deduplicated"] == 1
    assert found.totals["offsets_without_record"] == 3  # an aborted record and two transaction markers
    assert (found.totals["offsets_of_transactions"], found.totals["offsets_perhaps_compacted"]) == (3, 0)


@pytest.mark.parametrize("is_removed", [False, pytest.param(True, marks=pytest.mark.long)])
def test_of_a_compacted_topic_it_is_said_how_many_records_may_have_gone_unread(
    spark: Any, kafka: KafkaResource, tmp_path: Path, is_removed: bool
) -> None:
    """Ten records, of which compaction has removed some, a record that was aborted, and its marker."""
    topic = f"compacted-{tmp_path.name}"
    soon = {"segment.ms": "1000", "min.cleanable.dirty.ratio": "0.001", "max.compaction.lag.ms": "1000"}
    ensure_topic(kafka, topic, 1, {"cleanup.policy": "compact", **(soon if is_removed else {})})
    lakehouse = LakehouseResource(root=str(tmp_path / "lakehouse"))
    settings = Settings(home=tmp_path / "home", kafka_bootstrap_servers="")
    streams = StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic)
    streams.send([event(f"e{n}") for n in range(10)])
    held = 10
    deadline = time.monotonic() + 120
    while is_removed and held == 10:  # the cleaner looks each fifteen seconds, at segments that are closed
        assert time.monotonic() < deadline, "Kafka does not compact"
        time.sleep(1.0)
        streams.send([event("another")], key=b"another")
        held = len(find_records(kafka, topic, [(0, 0, 10)]))
    producer = kafka.producer(**{"transactional.id": topic})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, value=event("aborted"), key=b"aborted", partition=0)
    producer.flush(30)
    producer.abort_transaction(30)
    streams.send([event("last")])
    streams.drain("events")

    found = audit_stream(EVENTS, lakehouse, kafka)
    assert found.breaches == ()
    assert found.totals["offsets_of_transactions"] == 1
    assert found.totals["offsets_perhaps_compacted"] == found.totals["offsets_without_record"] - 1 >= 11 - held
    verdict = run_check(streams)
    assert (verdict.passed, verdict.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "at most that many records were removed" in str(verdict.description)


def test_a_lost_row_is_found(lakehouse_copy: StreamsUnderTest) -> None:
    DeltaTable(lakehouse_copy.context.table_uri("silver.events")).delete("event_id = 'b'")
    assert any("is lost" in breach and "/0/3" in breach for breach in audit(lakehouse_copy))


def test_a_doubled_row_is_found(lakehouse_copy: StreamsUnderTest) -> None:
    _append_again(lakehouse_copy, "silver.events", "a")
    assert any("more than one place" in breach for breach in audit(lakehouse_copy))


def test_a_row_in_two_tables_is_found(lakehouse_copy: StreamsUnderTest) -> None:
    uri = lakehouse_copy.context.table_uri("silver.deduplicated_events")
    rows = DeltaTable(uri).to_pyarrow_table()
    offsets = rows.schema.get_field_index("kafka_offset")
    moved = rows.set_column(offsets, "kafka_offset", pa.array([0] * len(rows), pa.int64()))
    write_deltalake(uri, moved, mode="append")
    assert any("accepted and deduplicated" in breach for breach in audit(lakehouse_copy))


def test_a_row_nobody_read_is_found(lakehouse_copy: StreamsUnderTest) -> None:
    uri = lakehouse_copy.context.table_uri("silver.events")
    rows = DeltaTable(uri).to_pyarrow_table().slice(0, 1)
    offsets = rows.schema.get_field_index("kafka_offset")
    write_deltalake(uri, rows.set_column(offsets, "kafka_offset", pa.array([999], pa.int64())), mode="append")
    assert any("read by no recorded batch" in breach for breach in audit(lakehouse_copy))


@pytest.mark.parametrize("table", [table.name for table in EVENTS.tables])
def test_a_table_that_is_gone_is_found(lakehouse_copy: StreamsUnderTest, table: str) -> None:
    shutil.rmtree(lakehouse_copy.context.table_uri(table))
    verdict = run_check(lakehouse_copy)
    assert (verdict.passed, verdict.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert f"{table} no longer exists" in str(verdict.description)


def test_nothing_is_missing_before_the_first_batch(written: StreamsUnderTest, tmp_path: Path) -> None:
    verdict = run_check(written.at(tmp_path / "new"))
    assert verdict.passed and "has not run yet" in str(verdict.description)


def test_a_checkpoint_ahead_of_the_table_is_found(lakehouse_copy: StreamsUnderTest) -> None:
    commits = Path(lakehouse_copy.context.checkpoint_uri("silver.events")) / "commits"
    (commits / "57").write_text("v1\n{}")
    assert any("checkpoint has batch 57" in breach for breach in audit(lakehouse_copy))


def test_a_gap_with_a_record_in_it_is_found(written: StreamsUnderTest) -> None:
    entry = Entry("app", 0, written.topic, 0, 0, 4, 3, 3, 0, 0, gaps=((3, 4),))
    assert find_gap_breaches([entry], written.kafka) != []


def _entry(batch: int, start: int, end: int, **counts: int) -> Entry:
    values: dict[str, Any] = {
        "rows_in": end - start,
        "accepted": end - start,
        "quarantined": 0,
        "deduplicated": 0,
    } | counts
    return Entry("app", batch, "t", 0, start, end, gaps=(), **values)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([_entry(0, 0, 5), _entry(1, 6, 9)], "offsets 5 to 5 were lost"),
        ([_entry(0, 0, 5), _entry(1, 4, 9)], "offsets 4 to 4 were read twice"),
        ([_entry(0, 0, 5, accepted=4)], "accounts for 4 rows"),
        ([_entry(0, 0, 5, rows_in=4, accepted=4)], "read 5 offsets but accounts for 4"),
    ],
)
def test_broken_accounts_are_found(entries: list[Entry], said: str) -> None:
    assert any(said in breach for breach in find_ledger_breaches(entries))


@pytest.mark.parametrize(
    ("accepted", "said"),
    [
        ([0, 1, 2], None),  # the erased record is there still
        ([0, 2], None),
        ([0, 1, 1, 2], "more than one place"),
        ([0, 0, 2], "more than one place"),
        ([1, 2], "is lost"),
    ],
)
def test_a_record_that_is_being_erased_is_in_one_place_or_two(accepted: list[int], said: str | None) -> None:
    erased = {"topic": "t", "kafka_partition": 0, "kafka_offset": 1, "arrived_at": NOON}
    rows = {"accepted": pa.Table.from_pylist([erased | {"kafka_offset": offset} for offset in accepted])}
    found = find_row_breaches(
        [_entry(0, 0, 3)], {**rows, "erased": pa.Table.from_pylist([erased])}, being_erased=[erased]
    )
    assert [said in breach for breach in found] == [True] if said else found == []


def _append_again(streams: StreamsUnderTest, table: str, event_id: str) -> None:
    uri = streams.context.table_uri(table)
    rows = DeltaTable(uri).to_pyarrow_table()
    write_deltalake(uri, rows.filter(pc.field("event_id") == event_id), mode="append")
