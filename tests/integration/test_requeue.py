"""Quarantined records are re-ingested once, the streams count them, and the ledger still finds every loss."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from jobs.operations.explain import explain
from jobs.operations.requeue import build_record_filter
from platform_assets.checks.ledger import Audit, audit_stream
from platform_assets.checks.ledger_proof import Proof
from platform_assets.errors import CheckpointMismatchError, UsageError
from platform_assets.streaming.delta.batch_writer import DeltaBatchWriter
from platform_assets.streaming.repair.requeue import RecordFilter, Requeuer
from platform_assets.streaming.stream_spec import select_ingest
from platform_assets.streams import load_streams
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.integration.streams_under_test import StreamsUnderTest
from tests.integration.test_events_stream import event
from tests.power_cuts import PowerFailure, Steps
from tests.spark.test_parity import run_check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from platform_assets.streaming.repair.requeue import Requeue

STREAMS = {stream.name: stream for stream in load_streams()}
(EVENTS,) = select_ingest(load_streams())
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW = datetime(2026, 11, 1, tzinfo=UTC)
NAME = "sessions"


def at(minutes: int, event_id: str, **fields: Any) -> bytes:
    moment = (NOON + timedelta(minutes=minutes)).isoformat()
    return event(event_id, timestamp=moment, event_type="purchase", revenue=5.0, **fields)


def long(minutes: int, event_id: str) -> bytes:
    return at(minutes, event_id, product_name="x" * 1000)


@pytest.fixture(scope="module")
def written(spark: Any, kafka: KafkaResource, tmp_path_factory: pytest.TempPathFactory) -> StreamsUnderTest:
    """What is longer than 900 bytes was refused: two purchases of the past, and one that was sent again, shorter."""
    root = tmp_path_factory.mktemp("requeue")
    topic = f"requeue-{root.name}"
    ensure_topic(kafka, topic, 1)
    lakehouse = LakehouseResource(root=str(root / "lakehouse"))
    settings = Settings(home=root / "home", kafka_bootstrap_servers="", publish=False)
    streams = StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic, max_record_bytes=900)
    for records in (
        [at(0, "a"), long(5, "long"), b"bad", long(50, "twice"), long(6, "again"), at(10, "b")],
        [at(50, "twice"), at(300, "c")],
    ):
        streams.send(records)
        streams.drain("events", NAME)
    return replace(streams, context=replace(streams.context, max_record_bytes=100_000))  # the cause is fixed


@pytest.fixture
def streams(written: StreamsUnderTest, tmp_path: Path) -> StreamsUnderTest:
    """The same in a lakehouse of one's own."""
    return written.copy_to(tmp_path / "copy")


def audit(streams: StreamsUnderTest, proof: Proof | None = None) -> Audit:
    return audit_stream(EVENTS, LakehouseResource(root=streams.context.lakehouse_root), streams.kafka, proof)


def requeue(streams: StreamsUnderTest, record_filter: RecordFilter = RecordFilter()) -> Requeue:  # noqa: B008 (a frozen value)
    requeuer = Requeuer(EVENTS, streams.context)
    requeuer.finish()
    planned = requeuer.plan(record_filter, "a test", NOW)
    requeuer.commit(planned)
    return planned


def accepted(streams: StreamsUnderTest) -> list[str]:
    return [row["event_id"] for row in streams.rows("silver.events", "from t order by event_id")]


def test_records_are_taken_in_once_and_counted(streams: StreamsUnderTest) -> None:
    proof = audit(streams).proof
    before = streams.rows("gold.sessions", "from t order by session_start")
    planned = requeue(streams)
    assert (planned.count("accepted"), planned.count("deduplicated"), dict(planned.refused)) == (2, 1, {"not_json": 1})
    assert accepted(streams) == ["a", "again", "b", "c", "long", "twice"]
    for found in (audit(streams), audit(streams, proof)):
        assert found.breaches == () and found.totals["requeued"] == 3

    assert requeue(streams).marks == [], "each is taken in once"
    streams.drain("events", NAME)
    after = streams.rows("gold.sessions", "from t order by session_start")
    assert after[0]["event_count"] == before[0]["event_count"] + 2
    verdict = run_check(streams.session, Path(streams.context.lakehouse_root), NAME)
    assert verdict.passed, verdict.description

    # The stream goes on: what was taken in counts as accepted when it is sent again.
    streams.send([at(5, "long"), at(301, "d")])
    streams.drain("events", NAME)
    assert audit(streams).breaches == ()
    lakehouse = LakehouseResource(root=streams.context.lakehouse_root)
    said = "\n".join(explain(list(STREAMS.values()), lakehouse, streams.kafka, event_id="long"))
    assert "had been quarantined as oversized, and was re-ingested by a test" in said


def test_in_portions_the_outcome_is_that_of_the_whole(
    streams: StreamsUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = streams, streams.copy_to(tmp_path / "parts")
    expected = requeue(whole)
    monkeypatch.setattr("platform_assets.streaming.repair.requeue.BYTES_OF_ONE_PORTION", 1)

    def plan() -> Iterator[Requeue]:
        requeuer = Requeuer(EVENTS, parts.context)
        requeuer.finish()
        return requeuer.plan_portions(RecordFilter(), "a test", NOW)

    def count(found: list[Requeue]) -> list[int]:
        return [sum(each.count(outcome) for each in found) for outcome in ("accepted", "deduplicated")]

    looked_at = list(plan())
    assert len(looked_at) > 3 and count(looked_at) == count([expected])
    assert sum((Counter(each.refused) for each in looked_at), Counter()) == expected.refused
    # The command dies after the second portion, and is called again.
    taken = []
    for portion in islice(plan(), 2):
        Requeuer(EVENTS, parts.context).commit(portion)
        taken.append(portion)
    for portion in plan():
        Requeuer(EVENTS, parts.context).commit(portion)
        taken.append(portion)
    assert count(taken) == count([expected])
    assert accepted(parts) == accepted(whole)
    assert audit(parts).breaches == ()


def test_a_choice_names_reasons_times_and_places(streams: StreamsUnderTest) -> None:
    topic = streams.topic
    requeuer = Requeuer(EVENTS, streams.context)

    def offsets(record_filter: RecordFilter) -> list[int]:
        return [mark["kafka_offset"] for mark in requeuer.plan(record_filter, "a test", NOW).marks]

    assert offsets(build_record_filter([], None, None, [f"{topic}/0/4"])) == [4]
    assert offsets(build_record_filter(["oversized"], None, None, [])) == [1, 3, 4]
    assert offsets(build_record_filter(["not_json"], None, None, [])) == []
    assert offsets(build_record_filter([], "2000-01-01", "2000-01-02", [])) == []
    assert offsets(build_record_filter([], "2000-01-01T00:00:00Z", None, [])) == [1, 3, 4]
    with pytest.raises(UsageError, match="--offset"):
        build_record_filter([], None, None, ["0/4"])
    with pytest.raises(UsageError, match="--since"):
        build_record_filter([], "yesterday", None, [])


@pytest.mark.parametrize("table", ["silver.events", "silver.deduplicated_events", "silver.quarantined_events"])
def test_a_requeued_record_that_is_lost_or_doubled_is_found(streams: StreamsUnderTest, table: str) -> None:
    requeue(streams)
    proof = audit(streams).proof
    uri = streams.context.table_uri(table)
    row = DeltaTable(uri).to_pyarrow_table().filter(pc.field("kafka_offset").isin([1, 3]))
    assert len(row)
    DeltaTable(uri).delete("kafka_offset in (1, 3)")
    assert any("is lost" in breach for breach in audit(streams, proof).breaches)
    for _ in range(2):
        write_deltalake(uri, row, mode="append")
    assert any("more than one place" in breach for breach in audit(streams, proof).breaches)


def test_it_may_be_cut_short_anywhere(streams: StreamsUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch, {DeltaBatchWriter: ("append",)})
    for survived in range(3):
        cut = streams.copy_to(Path(streams.context.lakehouse_root).with_name(f"cut{survived}"))
        steps.taken, steps.last = 0, survived
        with pytest.raises(PowerFailure):
            requeue(cut)
        steps.last = None
        assert bool(audit(cut).breaches) == (survived > 0), "what is marked and not taken in is a loss until it is"
        if survived:
            old_code = replace(cut, context=replace(cut.context, max_record_bytes=900))
            with pytest.raises(CheckpointMismatchError, match="cut short"):
                requeue(old_code)
        requeue(cut)
        assert accepted(cut) == ["a", "again", "b", "c", "long", "twice"]
        assert audit(cut).breaches == ()
