"""A topic of change events with its current rows: a real broker, Spark, kills at each step, a user who is forgotten."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from deltalake import DeltaTable

from jobs.operations.explain import explain
from jobs.operations.forgetting.command import Erasure
from jobs.operations.forgetting.proof import search_files
from jobs.operations.recompute import empty_stream
from jobs.operations.replay.comparison import compare_with_live
from jobs.operations.replay.kafka_range import KafkaReplay
from jobs.operations.replay.row_replay import ReplayScope
from jobs.operations.replay.shadow import Shadow
from jobs.operations.replay.swap import swap_in
from jobs.supervision.stream_context import build_stream_context
from platform_assets.checks.hop_ledger import build_hop_ledger_checks
from platform_assets.checks.ledger import audit_stream
from platform_assets.checks.parity import build_parity_checks
from platform_assets.checks.schema_contract import find_contract_breaches
from platform_assets.errors import CheckpointMismatchError
from platform_assets.streaming.change_events import ChangeEvents
from platform_assets.streaming.current_rows import build_current_rows
from platform_assets.streaming.delta.batch_writer import DeltaBatchWriter
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.streaming.derive import batch_results
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.repair.requeue import RecordFilter, Requeuer
from platform_assets.streaming.stream_spec import KafkaStream
from resources.duckdb import DuckDBResource
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.registry.schema_registry import SchemaRegistry
from resources.settings import Settings
from tests.accounts import CURRENT, TOPIC, Database, Sent, found, with_schema
from tests.bounded_run import run_to_end
from tests.integration.streams_under_test import StreamsUnderTest
from tests.registered_accounts import ENVELOPE, KEY, as_avro

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclasses.dataclass(frozen=True)
class World:
    """The topic, and the streams over it."""

    streams: StreamsUnderTest
    stream: KafkaStream
    lakehouse: LakehouseResource

    def send(self, events: Sequence[Sent], partition: Callable[[int], int] = lambda account: account % 2) -> None:
        producer = self.streams.kafka.producer()
        for event in events:
            producer.produce(
                self.stream.topic.kafka_topic, value=event.value, key=event.key, partition=partition(event.account)
            )
        assert producer.flush(30) == 0

    def drain(self) -> None:
        run_to_end(QueryGroup(self.streams.session, [self.stream, CURRENT], self.streams.context))

    def current(self) -> dict[str, Any]:
        return found(self.streams.rows("silver.current_accounts"))

    def check_all(self) -> list[dg.AssetCheckResult]:
        """The verdicts of `parity` and `ledger` of the current rows."""
        resources = {"lakehouse": self.lakehouse, "duckdb": DuckDBResource(memory_mib=128)}
        checks = [*build_parity_checks([CURRENT], "duckdb"), *build_hop_ledger_checks([CURRENT])]
        verdicts = [check(dg.build_asset_check_context(resources=resources)) for check in checks]
        return [verdict for verdict in verdicts if isinstance(verdict, dg.AssetCheckResult)]

    def assert_well(self) -> None:
        audit = audit_stream(self.stream, self.lakehouse, self.streams.kafka)
        assert audit.breaches == ()
        assert len(verdicts := self.check_all()) == 2
        assert all(verdict.passed for verdict in verdicts), [verdict.description for verdict in verdicts]


@pytest.fixture
def world(spark: SparkSession, kafka: KafkaResource, topic: Callable[..., str], tmp_path: Path) -> World:
    stream = KafkaStream(dataclasses.replace(TOPIC, kafka_topic=topic(2)), 0.0)
    settings = Settings(
        home=tmp_path / "home", kafka_bootstrap_servers="", topic_partitions=2, max_offsets_per_trigger=60
    )
    lakehouse = LakehouseResource(root=str(tmp_path / "lakehouse"))
    context = build_stream_context(settings, kafka, lakehouse, (stream, CURRENT), close_windows=True)
    return World(StreamsUnderTest(spark, kafka, context), stream, lakehouse)


def build_history(wrap: Any = with_schema) -> Database:
    database = Database(wrap=wrap)
    for account in range(1, 31):
        database.put(account, account * 100, f"n{account}")
    for account in range(1, 31, 3):
        database.delete(account)
    database.snapshot()
    for account in range(1, 31, 6):
        database.put(account, 7, "again")
    return database


def test_a_table_is_followed_change_by_change_and_row_by_row(world: World) -> None:
    database = build_history()
    sent = list(database.events)
    world.send(sent)
    world.drain()
    assert world.current() == database.expect()
    rows = world.streams.rows("silver.accounts", "select change_operation, count(*) n from t group by all")
    letters = Counter("t" if e.value is None else json.loads(e.value)["payload"]["op"] for e in sent)
    words = {"c": "create", "u": "update", "d": "delete", "r": "snapshot", "t": "tombstone"}
    assert {row["change_operation"]: row["n"] for row in rows} == {words[name]: n for name, n in letters.items()}
    assert world.streams.rows("silver.quarantined_accounts") == []
    world.assert_well()
    for table in (*world.stream.tables, CURRENT.main_table):
        assert find_contract_breaches(DeltaTable(world.streams.context.table_uri(table.name)), table) == []

    # The connector begins again further back, keys move to the other partition, and older changes come late.
    database.repeat(40)
    again = database.events[len(sent) :]
    database.put(2, 5, "moved")
    database.delete(5)
    world.send([*again, *database.events[len(sent) + len(again) :]], lambda account: (account + 1) % 2)
    world.send(sent[:50], lambda account: 0)
    world.drain()
    assert world.current() == database.expect()
    world.assert_well()
    complete = world.streams.rows("platform.complete_until", "select * from t where query = 'current_accounts'")
    assert [row["late_events_pending"] for row in complete] == [0] and complete[0]["complete_until"] is not None
    said = explain([world.stream], world.lakehouse, world.streams.kafka, offset=f"{world.stream.topic.kafka_topic}/0/0")
    assert any("silver.accounts" in line for line in said)


def die(patch: pytest.MonkeyPatch, uri: str, *, after: bool) -> None:
    """The next commit of this table is not made, or is the last that happens."""
    commit = DeltaBatchWriter._commit

    def crash(self: DeltaBatchWriter, *batch: Any) -> bool:
        if self.uri == uri and not after:
            raise CheckpointMismatchError("killed here by the test")
        done = commit(self, *batch)
        if self.uri == uri:
            raise CheckpointMismatchError("killed here by the test")
        return done

    patch.setattr(DeltaBatchWriter, "_commit", crash)


def test_a_kill_before_or_after_any_commit_loses_and_doubles_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Batches of the current rows go by way of files, as large ones do.
    monkeypatch.setattr(batch_results, "_FEW_ROWS", 4)
    monkeypatch.setattr(batch_results, "_LEAST_ROWS", 1)
    database = build_history(lambda event: event)
    broken = Sent(b'{"id": 99}', b'{"op": "c", "after": {"id": 99}}', 99)
    places = [0, 30, 45, 60, len(database.events)]
    tables = ["silver.accounts", "silver.current_accounts"]
    for number, (start, end) in enumerate(pairwise(places)):
        world.send([*database.events[start:end], broken])
        with monkeypatch.context() as patch:
            uri = world.streams.context.table_uri(tables[number % 2])
            die(patch, uri, after=number >= 2)
            with pytest.raises(CheckpointMismatchError, match="killed here"):
                world.drain()
    world.drain()
    assert world.current() == database.expect()
    count = world.streams.rows(
        "silver.accounts", "select count(*) n, count(distinct (kafka_partition, kafka_offset)) d from t"
    )
    assert count == [{"n": len(database.events), "d": len(database.events)}]
    refused = world.streams.rows("silver.quarantined_accounts", "select reason from t")
    assert [row["reason"] for row in refused] == ["missing_field"] * (len(places) - 1)
    world.assert_well()


def test_a_requeued_change_that_is_old_by_now_changes_nothing(world: World) -> None:
    """What was refused and is accepted later is in the table of changes, and no newer row is replaced by it."""
    database = Database()
    database.put(1, -5, "debt")
    database.put(2, -5, "debt")
    database.put(1, 500, "paid")
    world.send(database.events)
    world.drain()
    assert set(world.current()) == {"1"}
    changed = dataclasses.replace(world.stream, topic=dataclasses.replace(world.stream.topic, rules=()))
    requeuer = Requeuer(changed, world.streams.context)
    requeuer.commit(requeuer.plan(RecordFilter(frozenset({"debt"})), "me", datetime.now(UTC)))
    world.drain()
    assert world.current() == database.expect()
    assert world.current()["2"][0] == Decimal("-0.05")
    world.assert_well()


def test_a_forgotten_account_is_in_no_table_and_no_file_and_stays_out(world: World) -> None:
    user, other = 9_876_543_210, 9_876_543_211
    database = Database()
    for account in (user, other):
        database.put(account, 100, "x")
        database.put(account, 200, "y")
    world.send([*database.events, Sent(f'{{"id": {user}}}'.encode(), b'{"op": "c"}', user)])
    world.drain()
    erasure = Erasure(str(user), [world.stream, CURRENT], world.streams.context, "a test", "asked to")
    _, rows = erasure.take_out(world.streams.session, lambda: None, lambda line: None)
    erasure.remove_files(lambda: None)
    assert (rows["silver.accounts"], rows["silver.current_accounts"]) == (2, 1)
    assert rows["silver.quarantined_accounts"] == 1
    assert set(world.current()) == {str(other)}
    world.assert_well()
    database.delete(user)
    world.send(database.events)
    world.drain()
    assert set(world.current()) == {str(other)}
    proof = search_files(world.lakehouse, str(user), [world.stream.topic])
    assert (proof.found, proof.files > 0) == ((), True)
    assert world.streams.rows("platform.late_events") == []
    world.assert_well()


def test_current_rows_are_computed_anew_next_to_the_live_ones_and_from_nothing(world: World) -> None:
    """A replay repairs what somebody has broken; what is recomputed is the same, whatever was replayed from Kafka."""
    session, context = world.streams.session, world.streams.context
    database = build_history()
    world.send(database.events)
    world.drain()
    DeltaWriter(CURRENT.main_table, context).delete("name = 'again'", CommitInfo(CommitKind.OTHER))
    assert [verdict.passed for verdict in world.check_all()] == [False, True]
    world.drain()  # a replay looks at the table as the group has last seen it
    shadow = Shadow(CURRENT, context, world.lakehouse)
    run_to_end(QueryGroup(session, [CURRENT], shadow.context))
    found_by_replay = compare_with_live(session, shadow)
    assert found_by_replay is not None
    assert (found_by_replay.added, found_by_replay.missing, found_by_replay.changed) == (5, 0, 0)
    swap_in(session, shadow)
    assert world.current() == database.expect()
    world.assert_well()

    replay = KafkaReplay(world.stream, context, world.lakehouse, world.streams.kafka, (CURRENT,), ReplayScope())
    compared = replay.compare(session)
    assert (compared.rows, compared.differences) == (len(database.events), 0)
    assert "headrace recompute current_accounts" in " ".join(compared.notes)
    database.put(3, 3, "newer")
    world.send(database.events[-1:])
    world.drain()
    assert world.current() == database.expect()

    empty_stream(CURRENT, world.lakehouse, lambda: None)
    assert world.streams.rows("silver.current_accounts") == []
    world.drain()
    assert world.current() == database.expect()
    world.assert_well()
    user = explain([world.stream, CURRENT], world.lakehouse, world.streams.kafka, user_id="3")
    assert any("as its latest change left it" in line for line in user)
    offset = f"{world.stream.topic.kafka_topic}/1/0"
    said = explain([world.stream, CURRENT], world.lakehouse, world.streams.kafka, offset=offset)
    assert "silver.current_accounts has of its key what the latest change says." in said


def test_a_table_is_followed_by_the_schemas_of_a_registry(
    spark: SparkSession,
    kafka: KafkaResource,
    schema_registry: SchemaRegistry,
    topic: Callable[..., str],
    tmp_path: Path,
) -> None:
    registered = dataclasses.replace(TOPIC, values=ChangeEvents(("id",), is_registered=True), kafka_topic=topic(1))
    stream, current = KafkaStream(registered, 0.0), build_current_rows(registered, 0.0)
    (url,) = schema_registry.access.urls
    settings = Settings(
        home=tmp_path / "home", kafka_bootstrap_servers="", topic_partitions=1, schema_registry_url=url,
    )  # fmt: skip
    lakehouse = LakehouseResource(root=str(tmp_path / "lakehouse"))
    context = build_stream_context(settings, kafka, lakehouse, (stream, current), close_windows=True)
    ids = [
        schema_registry.register(f"{registered.kafka_topic}-{part}", "avro", json.dumps(schema))
        for part, schema in (("key", KEY), ("value", ENVELOPE))
    ]
    database = build_history(lambda event: event)
    producer = kafka.producer()
    for event in (as_avro(each, *ids) for each in database.events):
        producer.produce(registered.kafka_topic, value=event.value, key=event.key, partition=0)
    assert producer.flush(30) == 0
    run_to_end(QueryGroup(spark, [stream, current], context))
    streams = StreamsUnderTest(spark, kafka, context)
    assert streams.rows("silver.quarantined_accounts") == []
    assert found(streams.rows("silver.current_accounts")) == database.expect()
    assert audit_stream(stream, lakehouse, kafka).breaches == ()
