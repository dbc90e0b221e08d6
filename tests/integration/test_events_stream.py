"""The stream `events` over a real broker: every record in exactly one table, once, whatever it is."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from platform_assets.checks.different_content import build_different_content_checks
from platform_assets.errors import CheckpointMismatchError
from platform_assets.streaming.delta.batch_writer import DeltaBatchWriter
from platform_assets.streams import load_streams
from resources.duckdb import DuckDBResource
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.integration.streams_under_test import StreamsUnderTest

NOW = datetime.now(UTC)


def event(event_id: str, **fields: Any) -> bytes:
    base = {
        "event_id": event_id,
        "event_type": "page_view",
        "timestamp": NOW.isoformat(),
        "user_id": "u1",
        "product_id": "p1",
        "price": 9.5,
        "quantity": 1,
        "revenue": 0.0,
    }
    return json.dumps(base | fields).encode()


@pytest.fixture
def streams(spark: Any, kafka: KafkaResource, lakehouse: LakehouseResource, settings: Settings,
            topic: Callable[..., str]) -> StreamsUnderTest:  # fmt: skip
    return StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic(3))


HOSTILE: list[tuple[bytes | None, str]] = [
    (None, "tombstone"),
    (b"x" * 5_000_000, "oversized"),
    (b"", "not_json"),
    (b"\xff\xfe{}", "not_json"),
    ('{"event_id":"a"}'.encode("utf-16"), "not_json"),
    (b'{"event_id": "a", "event_type": "purchase"', "not_json"),
    (event("a") + b" trailing", "not_json"),
    (event("a", price=1.0).replace(b"1.0", b"NaN"), "not_json"),
    (event("a", price=1.0).replace(b"1.0", b"-Infinity"), "not_json"),
    (b'{"a":' * 100_000, "not_json"),
    (
        b'{"event_id": "\\ud800", "event_type": "purchase", "timestamp": "2026-01-01T00:00:00Z", "user_id": "u"}',
        "not_json",
    ),
    (event("a", user_id=None), "missing_field"),
    (b"{}", "missing_field"),
    (b"[1, 2]", "wrong_type"),
    (event("a", user_id=7), "wrong_type"),
    (event("a", price="9.5"), "wrong_type"),
    (event("a", quantity=1.5), "wrong_type"),
    (event("a", quantity=2**31), "wrong_type"),
    (event("a", category={"deep": 1}), "wrong_type"),
    (event("a", price=1.0).replace(b"1.0", b"1e999"), "wrong_type"),
    (event("a", event_type="refund"), "unknown_event_type"),
    (event("a", timestamp="yesterday"), "bad_timestamp"),
    (event("a", timestamp="1999-12-31T23:59:59Z"), "bad_timestamp"),
    (event("a", timestamp=(NOW + timedelta(days=2)).isoformat()), "bad_timestamp"),
    (event("a", price=-0.01), "negative_amount"),
    # The first broken rule wins.
    (event("a", user_id=None, price="x", event_type="refund"), "missing_field"),
    (event("a", price="x", event_type="refund"), "wrong_type"),
]


def test_every_hostile_record_is_quarantined_with_its_bytes_and_reason(streams: StreamsUnderTest) -> None:
    streams.send(value for value, _ in HOSTILE)
    streams.send([event("good")])
    streams.drain("events")

    found = streams.rows("silver.quarantined_events", "select * from t order by kafka_offset")
    assert [row["reason"] for row in found] == [reason for _, reason in HOSTILE]
    assert [row["value"] for row in found] == [value for value, _ in HOSTILE]
    assert {row["key"] for row in found} == {b"user"}
    assert [row["event_id"] for row in streams.rows("silver.events")] == ["good"]


def test_odd_but_valid_records_are_accepted_unchanged(streams: StreamsUnderTest) -> None:
    late = event("late", timestamp="2001-01-01T00:00:00+02:00", extra={"a": [1, 1e300]}, coupon="Ü")
    null_byte = event("null\x00byte", category=" padded ")
    twice = b'{"event_id": "first", ' + event("last")[1:]
    minimal = b'{"event_id":"min","event_type":"purchase","timestamp":"2026-01-01T00:00:00Z","user_id":""}'
    streams.send([late, null_byte, twice, minimal])
    streams.drain("events")

    rows = {row["event_id"]: row for row in streams.rows("silver.events")}
    assert set(rows) == {"late", "null\x00byte", "last", "min"}
    assert rows["late"]["event_time"] == datetime(2000, 12, 31, 22, tzinfo=UTC)
    assert json.loads(rows["late"]["unknown_fields"]) == {"extra": {"a": [1, 1e300]}, "coupon": "Ü"}
    assert rows["null\x00byte"]["category"] == " padded "
    assert (rows["min"]["revenue"], rows["min"]["price"], rows["min"]["user_id"]) == (None, None, "")
    assert streams.rows("silver.quarantined_events") == []


def test_repeats_are_listed_with_the_kept_record_across_batches_and_restarts(
    streams: StreamsUnderTest,
) -> None:
    streams.send([event("a"), event("a"), event("b")], partition=1)
    streams.send([event("a")], partition=0)
    streams.drain("events")
    streams.send([event("b", timestamp="2003-01-01T00:00:00Z"), event("c")], partition=2)
    streams.drain("events")

    kept = {(r["event_id"], r["kafka_partition"], r["kafka_offset"]) for r in streams.rows("silver.events")}
    assert kept == {("a", 0, 0), ("b", 1, 2), ("c", 2, 1)}
    repeats = {
        (r["event_id"], r["kafka_partition"], r["kafka_offset"], r["kept_partition"], r["kept_offset"])
        for r in streams.rows("silver.deduplicated_events")
    }
    assert repeats == {("a", 1, 0, 0, 0), ("a", 1, 1, 0, 0), ("b", 2, 0, 1, 2)}


def test_what_is_sent_again_after_the_horizon_is_known_by_its_time_and_other_content_is_kept(
    streams: StreamsUnderTest,
) -> None:
    forgetful = dataclasses.replace(
        streams, context=dataclasses.replace(streams.context, deduplication_horizon_micros=1_000)
    )
    old = {"timestamp": "2003-01-01T00:00:00.123456Z"}
    forgetful.send([event("a", **old), event("b", **old), event("far", timestamp="2020-05-05T00:00:00Z")])
    forgetful.drain("events")
    forgetful.send([event("a", **old), event("a", **old), event("b", **old, price=7.25, coupon="x", user_id="u2")])
    forgetful.send([event("far", timestamp="2020-05-05T00:00:00Z")])
    forgetful.drain("events")
    forgetful.send([event("a", timestamp="2003-01-01T00:00:00.123457Z")])
    forgetful.drain("events")

    kept = [(row["event_id"], row["kafka_offset"]) for row in streams.rows("silver.events")]
    assert sorted(kept) == [("a", 0), ("a", 7), ("b", 1), ("far", 2)]
    repeats = streams.rows("silver.deduplicated_events", "select * from t order by kafka_offset")
    assert [(row["kafka_offset"], row["kept_offset"], row["is_same_content"]) for row in repeats] == [
        (3, 0, True), (4, 0, True), (5, 1, False), (6, 2, True)
    ]  # fmt: skip
    assert [row["other_user_id"] for row in repeats] == [None, None, "u2", None]
    content = json.loads(repeats[2]["content"])
    assert (content["price"], content["unknown_fields"], content["user_id"]) == (7.25, {"coupon": "x"}, "u2")
    (check,) = build_different_content_checks(load_streams())
    resources = {
        "lakehouse": LakehouseResource(root=streams.context.lakehouse_root),
        "duckdb": DuckDBResource(memory_mib=128),
    }
    verdict = check(dg.build_asset_check_context(resources=resources))
    assert isinstance(verdict, dg.AssetCheckResult) and not verdict.passed
    assert verdict.metadata["different_records"].value == 1 and "/0/5 (" in str(verdict.description)


def test_deduplication_can_be_turned_off(streams: StreamsUnderTest, spark: Any) -> None:
    off = dataclasses.replace(streams, context=dataclasses.replace(streams.context, deduplication_horizon_micros=None))
    off.send([event("a"), event("a")])
    off.drain("events")
    assert len(off.rows("silver.events")) == 2


def test_batches_are_capped_and_the_ledger_accounts_for_every_offset(streams: StreamsUnderTest) -> None:
    import dataclasses

    capped = dataclasses.replace(streams, context=dataclasses.replace(streams.context, max_offsets_per_trigger=7))
    for partition in range(3):
        capped.send(
            [event(f"{partition}-{n}") for n in range(10)] + [b"bad", event(f"{partition}-0")], partition=partition
        )
    capped.drain("events")

    ledger = capped.rows("platform.ledger")
    assert len({row["batch_id"] for row in ledger}) == 6
    for partition in range(3):
        entries = sorted((r for r in ledger if r["kafka_partition"] == partition), key=lambda r: r["batch_id"])
        assert entries[0]["from_offset"] == 0
        assert entries[-1]["until_offset"] == 12
        assert all(a["until_offset"] == b["from_offset"] for a, b in itertools.pairwise(entries))
        counts = ("rows_in", "accepted", "quarantined", "deduplicated")
        assert [sum(entry[name] for entry in entries) for name in counts] == [12, 10, 1, 1]


def test_aborted_transactions_are_gaps(streams: StreamsUnderTest) -> None:
    producer = streams.kafka.producer(**{"transactional.id": "test-" + streams.topic})
    producer.init_transactions(30)
    for name, commit in (("kept-1", True), ("aborted", False), ("kept-2", True)):
        producer.begin_transaction()
        producer.produce(streams.topic, value=event(name), partition=0)
        producer.flush(30)
        (producer.commit_transaction if commit else producer.abort_transaction)(30)
    streams.drain("events")

    assert {row["event_id"] for row in streams.rows("silver.events")} == {"kept-1", "kept-2"}
    entry = next(row for row in streams.rows("platform.ledger") if row["kafka_partition"] == 0)
    covered = {o for start, end in json.loads(entry["gaps"]) for o in range(start, end)}
    read = {row["kafka_offset"] for row in streams.rows("silver.events")}
    assert covered | read == set(range(entry["from_offset"], entry["until_offset"]))
    assert not covered & read


def die_before_writing(patch: pytest.MonkeyPatch, uri: str) -> None:
    commit = DeltaBatchWriter._commit

    def crash(self: DeltaBatchWriter, *batch: Any) -> bool:
        if self.uri == uri:
            raise CheckpointMismatchError("killed here by the test")
        return commit(self, *batch)

    patch.setattr(DeltaBatchWriter, "_commit", crash)


def send_and_die(streams: StreamsUnderTest, crash_before: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends an event, its repeat, a bad record and another event; their batch ends before this table is written."""
    streams.send([event("a"), event("a"), b"bad", event("b")])
    with monkeypatch.context() as patch:
        die_before_writing(patch, streams.context.table_uri(crash_before))
        with pytest.raises(CheckpointMismatchError, match="killed here"):
            streams.drain("events")


def assert_each_once(streams: StreamsUnderTest) -> None:
    """Asserts it of the records of `send_and_die`."""
    assert sorted(row["event_id"] for row in streams.rows("silver.events")) == ["a", "b"]
    assert [row["kafka_offset"] for row in streams.rows("silver.deduplicated_events")] == [1]
    assert [row["kafka_offset"] for row in streams.rows("silver.quarantined_events")] == [2]


@pytest.mark.parametrize("crash_before", ["silver.deduplicated_events", "silver.quarantined_events", "silver.events"])
def test_a_crash_between_the_tables_writes_is_made_good_once(
    streams: StreamsUnderTest, crash_before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_and_die(streams, crash_before, monkeypatch)
    streams.drain("events")

    assert_each_once(streams)


@pytest.mark.parametrize(
    ("crash_before", "batches"), [("silver.deduplicated_events", [3, 1]), ("silver.quarantined_events", [4])]
)
def test_a_batch_that_was_planned_too_large_is_planned_again_while_nothing_of_it_is_written(
    streams: StreamsUnderTest, crash_before: str, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    send_and_die(streams, crash_before, monkeypatch)
    lower = dataclasses.replace(streams.context, max_offsets_per_trigger=3)
    dataclasses.replace(streams, context=lower).drain("events")

    ledger = streams.rows("platform.ledger", "select rows_in from t order by batch_id")
    assert [row["rows_in"] for row in ledger if row["rows_in"]] == batches
    assert_each_once(streams)


def test_a_batch_committed_before_the_checkpoint_knows_it_is_skipped(streams: StreamsUnderTest) -> None:
    streams.send([event("a"), event("a"), b"bad"])
    streams.drain("events")
    before = {
        t: streams.version(t) for t in ("silver.events", "silver.quarantined_events", "silver.deduplicated_events")
    }
    _forget_last_commit(streams)
    streams.drain("events")
    assert {t: streams.version(t) for t in before} == before
    assert len(streams.rows("silver.events")) == 1


def test_a_restored_checkpoint_with_other_offsets_is_refused(streams: StreamsUnderTest) -> None:
    checkpoint = streams.context.checkpoint_uri("silver.events")
    streams.send([event("a")])
    streams.drain("events")
    shutil.copytree(checkpoint, checkpoint + ".backup")
    streams.send([event("b")])
    streams.drain("events")
    streams.send([event("c")])
    shutil.rmtree(checkpoint)
    shutil.move(checkpoint + ".backup", checkpoint)

    with pytest.raises(CheckpointMismatchError, match="restored from a backup"):
        streams.drain("events")
    assert sorted(row["event_id"] for row in streams.rows("silver.events")) == ["a", "b"]


def test_a_lost_checkpoint_doubles_nothing(streams: StreamsUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new one begins behind the last commit; what an unfinished batch left in the side tables is written again."""
    streams.send([event("a"), event("a"), b"bad"])
    streams.drain("events")
    with monkeypatch.context() as patch:
        die_before_writing(patch, streams.context.table_uri("silver.events"))
        streams.send([event("b"), event("b"), b"bad"])
        with pytest.raises(CheckpointMismatchError, match="killed here"):
            streams.drain("events")
    shutil.rmtree(streams.context.checkpoint_uri("silver.events"))
    streams.send([event("c")])
    streams.drain("events")
    assert [row["event_id"] for row in streams.rows("silver.events", "from t order by 1")] == ["a", "b", "c"]
    for table, offsets in (("silver.deduplicated_events", [1, 4]), ("silver.quarantined_events", [2, 5])):
        assert [row["kafka_offset"] for row in streams.rows(table, "from t order by kafka_offset")] == offsets
    ranges = streams.rows("platform.ledger", "from t where kafka_partition = 0 order by from_offset")
    assert [(row["from_offset"], row["until_offset"]) for row in ranges] == [(0, 3), (3, 7)]


def test_revenue_counts_purchases_by_window_and_category(streams: StreamsUnderTest) -> None:
    at = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
    streams.send(
        [
            event("1", event_type="purchase", timestamp=at.isoformat(), category="toys", revenue=0.1),
            event("2", event_type="purchase", timestamp=at.isoformat(), category="toys", revenue=0.2),
            event("3", event_type="page_view", timestamp=at.isoformat(), category="toys", revenue=5.0),
        ]
    )
    streams.drain("events", "revenue_by_category")
    rows = streams.rows("gold.revenue_by_category", "select * from t order by window_start")
    assert [(r["window_start"], r["total_revenue"], r["purchase_count"], r["avg_order_value"]) for r in rows] == [
        (at - timedelta(seconds=30), 0.3, 2, 0.15),
        (at, 0.3, 2, 0.15),
    ]


def _forget_last_commit(streams: StreamsUnderTest) -> None:
    """What a kill between the table's commit and Spark's own commit log leaves behind."""
    from pathlib import Path

    commits = Path(streams.context.checkpoint_uri("silver.events")) / "commits"
    newest = max(int(found.name) for found in commits.iterdir() if found.name.isdigit())
    for found in commits.glob(f"*{newest}*"):
        found.unlink()
