"""An audit that goes on from an earlier proof finds what a full one finds, and reads only what was appended since."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from platform_assets.checks import ledger
from platform_assets.checks.ledger import Audit, audit_stream
from platform_assets.checks.ledger_proof import FULL_AUDIT_EVERY, Proof
from platform_assets.errors import CheckpointMismatchError
from platform_assets.streaming.stream_spec import select_ingest
from platform_assets.streams import load_streams
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.integration.streams_under_test import StreamsUnderTest
from tests.integration.test_events_stream import die_before_writing, event

(EVENTS,) = select_ingest(load_streams())


@pytest.fixture
def streams(
    spark: Any, kafka: KafkaResource, lakehouse: LakehouseResource, settings: Settings, topic: Callable[..., str]
) -> StreamsUnderTest:
    """One batch of an accepted, a repeated and a malformed record."""
    streams = StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic(1))
    streams.send([event("a"), event("a"), b"bad"])
    streams.drain("events")
    return streams


def audit(streams: StreamsUnderTest, proof: Proof | None = None) -> Audit:
    return audit_stream(EVENTS, LakehouseResource(root=streams.context.lakehouse_root), streams.kafka, proof)


@pytest.fixture
def no_full_audit(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes a full audit fail the test, from the call on."""

    def forbid() -> None:
        monkeypatch.setattr(ledger, "read_all_entries", lambda *_: pytest.fail("everything was read again"))

    return forbid


def test_later_batches_are_added_to_what_is_proved(
    streams: StreamsUnderTest, no_full_audit: Callable[[], None]
) -> None:
    first = audit(streams)
    assert Proof.load(first.proof.dump()) == first.proof
    streams.send([event("b"), event("a"), b"bad"])
    streams.drain("events")
    full = audit(streams)
    no_full_audit()
    second = audit(streams, first.proof)
    assert (second.breaches, second.totals) == ((), full.totals)
    assert second.proof.tables == full.proof.tables and set(second.proof.until) == set(full.proof.until)
    third = audit(streams, second.proof)
    assert (third.breaches, third.totals) == ((), full.totals)


def test_a_batch_in_flight_is_left_to_the_next_audit(
    streams: StreamsUnderTest, monkeypatch: pytest.MonkeyPatch, no_full_audit: Callable[[], None]
) -> None:
    with monkeypatch.context() as patch:
        die_before_writing(patch, streams.context.table_uri("silver.events"))
        streams.send([event("b"), event("b"), b"bad"])
        with pytest.raises(CheckpointMismatchError, match="killed here"):
            streams.drain("events")
    during = audit(streams)
    assert during.breaches == ()
    streams.drain("events")
    no_full_audit()
    after = audit(streams, during.proof)
    assert after.breaches == ()
    assert {name: after.totals[name] for name in ("accepted", "deduplicated", "quarantined")} == {
        "accepted": 2, "deduplicated": 2, "quarantined": 2,
    }  # fmt: skip


def test_a_row_that_was_lost_or_doubled_after_the_proof_is_found(streams: StreamsUnderTest, tmp_path: Path) -> None:
    proof = audit(streams).proof
    lost, doubled = (streams.copy_to(tmp_path / name) for name in ("lost", "doubled"))

    DeltaTable(lost.context.table_uri("silver.events")).delete("event_id = 'a'")
    assert any("is lost" in breach for breach in audit(lost, proof).breaches)

    uri = doubled.context.table_uri("silver.events")
    write_deltalake(uri, pa.table(DeltaTable(uri).to_pyarrow_table()), mode="append")
    assert any("was read by no recorded batch" in breach for breach in audit(doubled, proof).breaches)


def test_a_hole_behind_what_is_proved_is_found(streams: StreamsUnderTest) -> None:
    found = audit(streams)
    ((topic, partition, offset),) = found.proof.until
    streams.send([event("b")])
    streams.drain("events")
    earlier = replace(found.proof, until=((topic, partition, offset - 1),))
    assert any("offsets 2 to 2 were lost" in breach for breach in audit(streams, earlier).breaches)


def test_everything_is_read_again_once_a_day_and_when_the_log_does_not_reach_back(streams: StreamsUnderTest) -> None:
    proof = audit(streams).proof
    yesterday = (datetime.fromisoformat(proof.full_at) - FULL_AUDIT_EVERY - timedelta(minutes=1)).isoformat()
    another = {outcome: ("another table", version) for outcome, (_, version) in proof.tables.items()}
    for stale in (replace(proof, full_at=yesterday), replace(proof, tables=another)):
        again = audit(streams, stale)
        assert again.breaches == () and again.proof.full_at > proof.full_at


@pytest.mark.parametrize("text", [None, "", "{}", "[]", '{"tables": 1}', '{"tables": {"a": [1]}}'])
def test_a_text_that_is_no_proof_is_none(text: str | None) -> None:
    assert Proof.load(text) is None
