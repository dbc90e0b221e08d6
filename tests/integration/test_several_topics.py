"""One group reads two topics in one application; records of equal ids in both have nothing to do with one another."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobs.operations.explain import explain
from jobs.operations.forgetting.command import Erasure
from jobs.supervision.stream_context import build_stream_context
from platform_assets.checks.ledger import Audit, audit_stream
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.repair.requeue import RecordFilter, Requeuer
from platform_assets.streaming.stream_spec import Stream, select_derived, select_ingest
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.bounded_run import run_to_end
from tests.integration.second_topic import SHOP, build_orders
from tests.integration.test_watermarks import MINUTE, purchase

NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=6)
LARGE = "x" * 2000


@dataclass(frozen=True)
class TwoTopics:
    """Streams over the shop's topic and over another one, as one group."""

    session: Any
    kafka: KafkaResource
    lakehouse: LakehouseResource
    streams: Sequence[Stream]
    context: StreamContext

    def send(self, name: str, values: Sequence[bytes]) -> None:
        producer = self.kafka.producer()
        for value in values:
            producer.produce(self.context.ingest[name].topic, value, partition=0)
        assert producer.flush(30) == 0

    def drain(self, *, derived_only: bool = False) -> None:
        streams = select_derived(self.streams) if derived_only else self.streams
        run_to_end(QueryGroup(self.session, streams, self.context))

    def audit(self) -> dict[str, Audit]:
        return {s.name: audit_stream(s, self.lakehouse, self.kafka) for s in select_ingest(self.streams)}

    def rows(self, table: str) -> list[dict[str, Any]]:
        return self.lakehouse.delta_table(table).to_pyarrow_table().to_pylist()

    def ask(self, **question: str) -> str:
        return "\n".join(explain(self.streams, self.lakehouse, self.kafka, **question))


@pytest.fixture
def two(
    spark: Any, kafka: KafkaResource, lakehouse: LakehouseResource, settings: Settings, topic: Callable[..., str]
) -> TwoTopics:
    streams = (*SHOP, *build_orders(topic(1)))
    of_shop = settings.model_copy(update={"topic": topic(1), "max_record_bytes": 1000})
    found = TwoTopics(spark, kafka, lakehouse, streams, build_stream_context(of_shop, kafka, lakehouse, streams))
    for name, first in (("events", 0), ("orders", 5)):
        values = [purchase(n, NOW + n * MINUTE, user_id=f"u{n % 3}") for n in range(first, first + 30)]
        large = [purchase(n, NOW + n * MINUTE, user_id="u1", product_name=LARGE) for n in (100, 101)]
        found.send(name, [*values, values[0], b"no JSON", *large])
    found.drain()
    return found


def test_each_topic_has_its_own_ledger_frontier_and_repetitions(two: TwoTopics) -> None:
    audits = two.audit()
    assert [audit.breaches for audit in audits.values()] == [(), ()]
    assert {audit.totals["rows_in"] for audit in audits.values()} == {34}
    for name in ("events", "orders"):
        assert len(two.rows(f"silver.{name}")) == 30
        assert len(two.rows(f"silver.deduplicated_{name}")) == 1
        assert len(two.rows(f"silver.quarantined_{name}")) == 3
    derived = [stream.name for stream in select_derived(two.streams)]
    assert Counter(row["query"] for row in two.rows("platform.complete_until")) == Counter(derived)
    tables = ("gold.revenue_by_category", "gold.revenue_by_category_of_orders")
    first, of_orders = (min(row["window_start"] for row in two.rows(name)) for name in tables)
    assert of_orders - first == 5 * MINUTE


def test_records_are_explained_by_the_stream_that_read_them(two: TwoTopics) -> None:
    said = two.ask(event_id="e7")
    assert "accepted into silver.events by batch" in said and "accepted into silver.orders by batch" in said
    orders = two.context.ingest["orders"].topic
    assert "accepted into silver.orders by batch 0 of orders" in two.ask(offset=f"{orders}/0/0")
    assert "of revenue_by_category_of_orders" in two.ask(offset=f"{orders}/0/0").replace("gold.", "of ")
    nowhere = two.ask(event_id="none")
    assert "silver.quarantined_events" in nowhere and "silver.quarantined_orders" in nowhere
    assert "gold.sessions_of_orders" in two.ask(user_id="u1", at=(NOW + 8 * MINUTE).isoformat())


def test_each_topic_requeues_its_own_records_whatever_the_other_does(two: TwoTopics) -> None:
    wider = replace(two.context, max_record_bytes=4000)
    events, orders = (Requeuer(stream, wider) for stream in select_ingest(two.streams))
    # Both are planned before one is written: two people, or two groups, at the same time.
    plans = [requeuer.plan(RecordFilter(), "a test", datetime.now(UTC)) for requeuer in (events, orders)]
    assert [plan.count("accepted") for plan in plans] == [2, 2]
    for requeuer, plan in zip((events, orders), plans, strict=True):
        requeuer.commit(plan)
    assert (events.finish(), orders.finish()) == (0, 0)
    assert [len(two.rows(f"silver.{name}")) for name in ("events", "orders")] == [32, 32]
    audits = two.audit()
    assert [audit.breaches for audit in audits.values()] == [(), ()]
    assert [audit.totals["requeued"] for audit in audits.values()] == [2, 2]


def test_a_requeue_that_was_cut_short_is_finished_after_another_topics(
    two: TwoTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    wider = replace(two.context, max_record_bytes=4000)
    events, orders = (Requeuer(stream, wider) for stream in select_ingest(two.streams))
    with monkeypatch.context() as killed:
        killed.setattr(events, "finish", lambda: 0)
        events.commit(events.plan(RecordFilter(), "a test", datetime.now(UTC)))
    orders.commit(orders.plan(RecordFilter(), "a test", datetime.now(UTC)))
    assert len(two.rows("silver.events")) == 30
    assert events.finish() == 2
    assert [audit.breaches for audit in two.audit().values()] == [(), ()]


def test_a_user_is_forgotten_in_each_topic(two: TwoTopics) -> None:
    erasure = Erasure("u1", two.streams, two.context, "a test", "asked to")
    found, rows = erasure.take_out(two.session, lambda: two.drain(derived_only=True), lambda line: None)
    erasure.remove_files(lambda: None)
    assert {traces.table: len(traces.events) for traces in found} == {"silver.events": 10, "silver.orders": 10}
    assert (rows["silver.events"], rows["silver.orders"]) == (10, 10)
    audits = two.audit()
    assert [audit.breaches for audit in audits.values()] == [(), ()]
    assert {audit.totals["erased_in_all"] for audit in audits.values()} == {12}
    # The user stays out of both.
    for name in ("events", "orders"):
        two.send(name, [purchase(200, NOW, user_id="u1"), purchase(201, NOW, user_id="u2")])
    two.drain()
    assert [audit.breaches for audit in two.audit().values()] == [(), ()]
    for name in ("events", "orders"):
        assert "u1" not in {row["user_id"] for row in two.rows(f"silver.{name}")}
    (user,) = two.rows("platform.forgotten_users")
    assert user["events_erased"] == 10
    assert [(rows, table) for _, rows, table in json.loads(user["earlier_erasures"])] == [(10, "silver.orders")]
