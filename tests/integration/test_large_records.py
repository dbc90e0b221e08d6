"""Batches that several tasks read, a few records at a time: the same outcome, however large the records are."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from platform_assets.checks.ledger import audit_stream
from platform_assets.errors import CheckpointMismatchError
from platform_assets.streaming.ingest import read_tasks
from platform_assets.streaming.register.forgotten_users import Register
from platform_assets.streaming.stream_spec import KafkaStream
from platform_assets.topics.events import TOPIC
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.range_reader import RangeReader
from resources.settings import Settings
from tests.integration.streams_under_test import StreamsUnderTest
from tests.integration.test_events_stream import die_before_writing

NOW = datetime.now(UTC)
TABLES = ("silver.events", "silver.quarantined_events", "silver.deduplicated_events", "platform.erased_records")
TIMES = {"ingested_at", "quarantined_at", "deduplicated_at", "arrived_at", "erased_at"}


def event(event_id: str, **fields: Any) -> bytes:
    base = {"event_id": event_id, "event_type": "purchase", "timestamp": NOW.isoformat(), "user_id": "u1"}
    return json.dumps(base | fields).encode()


@pytest.fixture
def streams(spark: Any, kafka: KafkaResource, lakehouse: LakehouseResource, settings: Settings,
            topic: Callable[..., str]) -> StreamsUnderTest:  # fmt: skip
    return StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic(3))


def send_all_kinds(streams: StreamsUnderTest) -> None:
    """Records of each kind in each of three partitions, some repeated in another."""
    for partition in range(3):
        wide = [event(f"e{n}", user_id=f"u{n % 5}", note=os.urandom(400).hex()) for n in range(40)]
        own = [event(f"p{partition}-{n}", user_id="gone" if n % 4 == 0 else "u") for n in range(8)]
        old = [event("old", timestamp=(NOW - timedelta(days=1)).isoformat())]
        streams.send([*wide, b"bad", *own, os.urandom(150_000), None, event("e1", revenue=7.0), *old], None, partition)


def forget(streams: StreamsUnderTest, user: str) -> None:
    row = dict.fromkeys(("forgotten_by", "reason", "events_version", "events_erased", "earlier_erasures"))
    Register(streams.context).write(user, {**row, "forgotten_at": NOW, "erased_at": NOW})


def read_all(streams: StreamsUnderTest) -> dict[str, list[dict[str, Any]]]:
    return {
        table: [
            {name: value for name, value in row.items() if name not in TIMES}
            for row in streams.rows(table, "from t order by kafka_partition, kafka_offset")
        ]
        for table in TABLES
    }


def read_ledger(streams: StreamsUnderTest) -> list[dict[str, Any]]:
    return streams.rows("platform.ledger", "select * exclude (arrived_at) from t order by batch_id, kafka_partition")


def in_pieces(streams: StreamsUnderTest, patch: pytest.MonkeyPatch, records: int) -> StreamsUnderTest:
    """The streams with this number of records a task at least, which reads a third of them at a time."""
    patch.setattr(read_tasks, "_LEAST_RECORDS", records)
    reader = streams.context.read_records
    assert isinstance(reader, RangeReader)
    few = dataclasses.replace(reader, most_records=records // 3)
    return dataclasses.replace(streams, context=dataclasses.replace(streams.context, read_records=few))


@pytest.mark.parametrize("horizon_micros", [3_600_000_000, 1_000_000])
def test_a_batch_in_pieces_has_the_outcome_of_a_whole_one(
    streams: StreamsUnderTest, lakehouse: LakehouseResource, tmp_path: Path, horizon_micros: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The short horizon makes the second run look in the files for what the first has accepted."""
    context = dataclasses.replace(streams.context, deduplication_horizon_micros=horizon_micros)
    streams = dataclasses.replace(streams, context=context)
    streams.send([event("e0"), event("old", timestamp=(NOW - timedelta(days=1)).isoformat())])
    forget(streams, "gone")
    streams.drain("events")
    whole = streams.copy_to(tmp_path / "whole")
    send_all_kinds(streams)

    with monkeypatch.context() as patch:
        in_pieces(streams, patch, 60).drain("events")
    whole.drain("events")

    found = read_all(streams)
    assert found == read_all(whole)
    assert read_ledger(streams) == read_ledger(whole)
    assert {table: len(rows) for table, rows in found.items()} == {
        "silver.events": 1 + 1 + 39 + 3 * 6, "silver.quarantined_events": 9,
        "silver.deduplicated_events": 3 * 40 - 39 + 3 + 3, "platform.erased_records": 6,
    }  # fmt: skip
    audit = audit_stream(KafkaStream(TOPIC), lakehouse, streams.kafka)
    assert audit.breaches == ()


@pytest.mark.parametrize("crash_before", TABLES)
def test_a_crash_within_a_batch_of_pieces_loses_and_doubles_nothing(
    streams: StreamsUnderTest, crash_before: str, lakehouse: LakehouseResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(streams, "gone")
    send_all_kinds(streams)
    with monkeypatch.context() as patch:
        small = in_pieces(streams, patch, 60)
        die_before_writing(patch, streams.context.table_uri(crash_before))
        with pytest.raises(CheckpointMismatchError, match="killed here"):
            small.drain("events")
    # Cut in another way than before.
    in_pieces(streams, monkeypatch, 90).drain("events")

    assert audit_stream(KafkaStream(TOPIC), lakehouse, streams.kafka).breaches == ()
    assert len(streams.rows("silver.events")) == 40 + 1 + 3 * 6


@pytest.mark.release
@pytest.mark.parametrize("letter", [b"x", None])
def test_sixty_records_of_sixteen_megabytes_are_quarantined_with_their_bytes(
    streams: StreamsUnderTest, lakehouse: LakehouseResource, letter: bytes | None
) -> None:
    """Records of one letter are small on the broker and in no message; random bytes are large everywhere."""
    size = 16 * 1024 * 1024 - 1024
    for number in range(60):
        streams.send([letter * size if letter else os.urandom(size)], None, number % 3)
    streams.send([event("good")])
    streams.drain("events")

    assert audit_stream(KafkaStream(TOPIC), lakehouse, streams.kafka).breaches == ()
    counted = "select count(*)::int as n, min(octet_length(value))::int as least, min(reason) as reason from t"
    assert streams.rows("silver.quarantined_events", counted) == [{"n": 60, "least": size, "reason": "oversized"}]
    assert [row["event_id"] for row in streams.rows("silver.events")] == ["good"]
