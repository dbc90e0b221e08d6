"""Kafka records that hold lists of records, from Kafka into tables, and what is done with them afterwards."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from deltalake import DeltaTable, write_deltalake

from jobs.operations.explain import explain
from jobs.operations.replay.kafka_range import KafkaReplay
from jobs.operations.replay.row_replay import ReplayScope
from jobs.supervision.stream_context import build_stream_context
from platform_assets.checks.ledger import audit_stream
from platform_assets.checks.schema_contract import find_contract_breaches
from platform_assets.errors import CheckpointMismatchError
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.register.found_traces import NOTHING_ELSE
from platform_assets.streaming.repair.erasure import Eraser
from platform_assets.streaming.repair.requeue import RecordFilter, Requeuer
from platform_assets.streaming.stream_spec import KafkaStream
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests import order_lists
from tests.bounded_run import run_to_end
from tests.integration.streams_under_test import StreamsUnderTest
from tests.integration.test_any_topic import over, send
from tests.integration.test_events_stream import die_before_writing

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOW = datetime.now(UTC).replace(microsecond=0)
ANN, BOB = 10_000_007, 20_000_008
ACCEPTED, QUARANTINED, DEDUPLICATED = (table.name for table in order_lists.TOPIC.tables)
PLACES = "select kafka_offset, record_index, record_length, number from t order by 1, 2"


def order(number: str, customer: int, **fields: Any) -> dict[str, Any]:
    at = int((NOW - timedelta(hours=1)).timestamp() * 1000)
    fixed = {"order-number": number, "line": 1, "at": at, "customer": customer, "state": "open", "total": 1}
    return fixed | {"items": [{"sku": "a", "price": "1.50"}]} | fields


LISTS: list[Any] = [
    [order("a1", ANN), order("a2", BOB)],
    [order("a1", ANN), order("a3", BOB), order("a3", BOB, total=2)],  # across lists, and within one
    [order("a4", BOB), order("a2", BOB), order("a5", BOB, total="1.005", note=1)],  # refused, and requeued below
    [],
    [order("a1", ANN)],  # repeats alone
    [order("a6", ANN), order("a7", ANN, total="1.005", note=1)],  # refused, and of a user who is forgotten below
    [order("a8", ANN), order("a9", BOB), order("a10", ANN)],
]


@dataclasses.dataclass(frozen=True)
class Lists:
    """The stream, and a lakehouse that has read all."""

    streams: StreamsUnderTest
    stream: KafkaStream

    @property
    def lakehouse(self) -> LakehouseResource:
        return LakehouseResource(root=self.streams.context.lakehouse_root)

    def audit(self) -> tuple[str, ...]:
        return audit_stream(self.stream, self.lakehouse, self.streams.kafka).breaches

    def rows(self, table: str, sql: str = PLACES) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in self.streams.rows(table, sql)]

    def explain(self, **asked: Any) -> list[str]:
        return explain((self.stream, over(self.stream.main_table)), self.lakehouse, self.streams.kafka, **asked)


@pytest.fixture(scope="module")
def written(spark: SparkSession, kafka: KafkaResource, tmp_path_factory: pytest.TempPathFactory) -> Lists:
    """The first batch dies before its last table, and runs again."""
    root = tmp_path_factory.mktemp("lists")
    topic = dataclasses.replace(order_lists.TOPIC, kafka_topic=f"order-lists-{root.name}")
    stream = KafkaStream(topic, 0.0)
    settings = Settings(home=root / "home", kafka_bootstrap_servers="", topic_partitions=1, max_offsets_per_trigger=4)
    group = (stream, over(stream.main_table))
    lakehouse = LakehouseResource(root=str(root / "lakehouse"))
    context = build_stream_context(settings, kafka, lakehouse, group, close_windows=True)
    send(kafka, stream, [json.dumps(found).encode() for found in LISTS])
    with pytest.MonkeyPatch.context() as patch:
        die_before_writing(patch, context.table_uri(ACCEPTED))
        with pytest.raises(CheckpointMismatchError, match="killed here"):
            run_to_end(QueryGroup(spark, group, context))
    run_to_end(QueryGroup(spark, group, context))
    return Lists(StreamsUnderTest(spark, kafka, context), stream)


@pytest.fixture
def lists(written: Lists, tmp_path: Path) -> Lists:
    """The same in a lakehouse of one's own."""
    return dataclasses.replace(written, streams=written.streams.copy_to(tmp_path / "copy"))


def test_each_record_of_a_list_is_in_one_table_once(written: Lists) -> None:
    assert written.rows(ACCEPTED) == [
        (0, 0, 2, "a1"), (0, 1, 2, "a2"), (1, 1, 3, "a3"), (6, 0, 3, "a8"), (6, 1, 3, "a9"), (6, 2, 3, "a10"),
    ]  # fmt: skip
    kept = "select kafka_offset, record_index, kept_offset, is_same_content from t order by 1, 2"
    assert written.rows(DEDUPLICATED, kept) == [(1, 0, 0, True), (1, 2, 1, False), (4, 0, 0, True)]
    refused = written.rows(QUARANTINED, "select kafka_offset, reason, detail, value from t order by 1")
    assert [row[:3] for row in refused] == [
        (2, "wrong_type", "[2] total is no decimal(8,2): 1.005"), (3, "bad_value", "the array has no record"),
        (5, "wrong_type", "[1] total is no decimal(8,2): 1.005"),
    ]  # fmt: skip
    assert [json.loads(value) for *_, value in refused] == [LISTS[2], LISTS[3], LISTS[5]]
    for table in written.stream.tables:
        assert find_contract_breaches(DeltaTable(written.streams.context.table_uri(table.name)), table) == []


def test_the_ledger_counts_each_offset_once_and_a_stream_reads_rows(written: Lists) -> None:
    audit = audit_stream(written.stream, written.lakehouse, written.streams.kafka)
    assert audit.breaches == ()
    names = ("rows_in", "accepted", "quarantined", "deduplicated", "erased")
    assert [audit.totals[name] for name in names] == [7, 3, 3, 1, 0]
    passed = written.rows("platform.hop_ledger", "select sum(rows_passed), sum(rows_read) from t")
    assert passed == [(6, 6)]
    assert written.rows("gold.item_totals", "select sum(total) from t") == [(Decimal("9.00"),)]


def test_the_audit_misses_a_row_and_sees_one_that_is_there_twice(lists: Lists) -> None:
    uri, topic = lists.streams.context.table_uri(ACCEPTED), lists.stream.topic.kafka_topic
    again = DeltaTable(uri).to_pyarrow_table().filter(_is_last())
    write_deltalake(uri, again, mode="append")
    assert lists.audit() == (f"{topic}/0/6[2] is in more than one place: accepted.",)
    DeltaTable(uri).delete("kafka_offset = 6 and record_index = 2")
    assert lists.audit() == (f"{topic}/0/6[2] is lost: no table.",)


def _is_last() -> Any:
    import pyarrow.compute as pc

    return (pc.field("kafka_offset") == 6) & (pc.field("record_index") == 2)


def test_a_replay_brings_back_what_was_lost_of_a_list(lists: Lists) -> None:
    uri, right = lists.streams.context.table_uri(ACCEPTED), lists.rows(ACCEPTED)
    DeltaTable(uri).delete("kafka_offset = 6 and record_index > 0 or kafka_offset = 1")
    DeltaTable(uri).update(updates={"total": "5"}, predicate="kafka_offset = 0 and record_index = 1")
    derived = [over(lists.stream.main_table)]
    scope = ReplayScope()
    replay = KafkaReplay(lists.stream, lists.streams.context, lists.lakehouse, lists.streams.kafka, derived, scope)
    found = replay.compare(lists.streams.session)
    assert (found.added, found.missing, found.changed, found.doubled) == (3, 0, 1, 0)
    assert found.notes == ("3 records were in no table: they are added.",)
    replay.swap(lists.streams.session)
    assert lists.rows(ACCEPTED) == right and lists.audit() == ()
    assert lists.rows(ACCEPTED, "select distinct total from t") == [(Decimal("1.00"),)]


def requeue(lists: Lists, dies: bool = False) -> None:
    topic = dataclasses.replace(lists.stream.topic, spellings={"total": lambda text: Decimal("1.01")})
    places = RecordFilter(frozenset({"wrong_type"}))
    for _ in range(1 + dies):
        requeuer = Requeuer(dataclasses.replace(lists.stream, topic=topic), lists.streams.context)
        requeuer.finish()
        planned = requeuer.plan(places, "me", datetime.now(UTC))
        if dies and planned.marks:
            with pytest.MonkeyPatch.context() as patch, pytest.raises(CheckpointMismatchError, match="killed here"):
                die_before_writing(patch, lists.streams.context.table_uri(ACCEPTED))
                requeuer.commit(planned)
        else:
            requeuer.commit(planned)


@pytest.mark.parametrize("dies", [False, True])
def test_a_requeued_list_comes_in_with_all_its_records(lists: Lists, dies: bool) -> None:
    requeue(lists, dies)
    assert [row for row in lists.rows(ACCEPTED) if row[0] in (2, 5)] == [
        (2, 0, 3, "a4"), (2, 2, 3, "a5"), (5, 0, 2, "a6"), (5, 1, 2, "a7"),
    ]  # fmt: skip
    repeated = "select kafka_offset, record_index, record_length, kept_offset from t where kafka_offset = 2"
    assert lists.rows(DEDUPLICATED, repeated) == [(2, 1, 3, 0)]
    audit = audit_stream(lists.stream, lists.lakehouse, lists.streams.kafka)
    assert audit.breaches == () and audit.totals["requeued"] == 2


@pytest.mark.parametrize("is_requeued", [False, True])
def test_of_a_list_of_several_users_only_the_one_is_erased(lists: Lists, is_requeued: bool) -> None:
    if is_requeued:
        requeue(lists)
        run_to_end(QueryGroup(lists.streams.session, (over(lists.stream.main_table),), lists.streams.context))
    eraser = Eraser(str(ANN), "hash", lists.stream, [over(lists.stream.main_table)], [], lists.streams.context)
    for _ in range(2):  # cut short, it is called again
        eraser.erase(lists.streams.session, eraser.find_traces(NOTHING_ELSE))
    requeued = [(2, 0, 3, "a4"), (2, 2, 3, "a5")] if is_requeued else []
    assert lists.rows(ACCEPTED) == [(0, 1, 2, "a2"), (1, 1, 3, "a3"), *requeued, (6, 1, 3, "a9")]
    places = "select kafka_offset, record_index from t order by 1, 2"
    assert lists.rows(DEDUPLICATED, places) == [(1, 2), *([(2, 1)] if is_requeued else [])]
    assert lists.rows(QUARANTINED, "select kafka_offset from t order by 1") == [(2,), (3,)]
    erased = lists.rows("platform.erased_records", "select kafka_offset, was from t order by 1")
    assert erased == [
        (0, "accepted"), (1, "deduplicated"), (4, "deduplicated"),
        (5, "accepted" if is_requeued else "quarantined"), (6, "accepted"),
    ]  # fmt: skip
    assert lists.audit() == ()


def test_a_record_of_a_list_and_a_whole_list_are_explained(written: Lists) -> None:
    topic = written.stream.topic.kafka_topic
    said = [line for line in written.explain(offset=f"{topic}/0/1") if line.startswith("Record")]
    assert [line.split(" ")[1] for line in said] == [f"{topic}/0/1[{index}]" for index in range(3)]
    assert "deduplicated against" in said[0] and "accepted into" in said[1] and "deduplicated" in said[2]
    said = [line for line in written.explain(event_id='["a3","1"]') if line.startswith("Record")]
    assert [line.split(" ")[1] for line in said] == [f"{topic}/0/1[1]", f"{topic}/0/1[2]"]
    (refused,) = written.explain(offset=f"{topic}/0/3")
    assert "bad_value" in refused
