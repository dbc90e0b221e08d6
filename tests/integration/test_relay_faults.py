"""What the group `fraud` does when its broker is killed, and when another one, whose lease is lost, still works."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jobs.supervision.stream_context import build_stream_context
from platform_assets.errors import HeadraceError, TerminalError
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.engine.relay_group import RelayGroup
from platform_assets.streaming.stream_spec import KafkaStream, TableStream
from platform_assets.streams import fraud_alerts
from platform_assets.topics.fraud_scores import TOPIC
from resources.embedded.broker import EmbeddedBroker
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic
from resources.settings import Settings
from tests.bounded_run import LIMIT_SECONDS, run_to_end
from tests.integration.relay_process import RelayPlace, running_relay
from tests.integration.scored_payments import ScoredPayments, make_payment, make_scorecard, score_by_hand

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from resources.lakehouse import LakehouseResource

pytestmark = [pytest.mark.long, pytest.mark.release]

CARD = make_scorecard(1)


def keep_going(scored: ScoredPayments, group: RelayGroup, is_true: Callable[[], bool]) -> RelayGroup:
    """Waits as the supervisor does: a group that fails is started again, unless its error is a terminal one."""
    while True:
        try:
            scored.wait(group, is_true)
            return group
        except TerminalError:
            raise
        except HeadraceError:
            group.stop(30)
            group = scored.start()


def send_until_taken(scored: ScoredPayments, numbers: range) -> None:
    """Sends payments to a broker that may be away, as a sender does: what was not taken is sent again."""
    left, producer = set(numbers), scored.kafka.producer()

    def note(number: int, error: object, _: object) -> None:
        if error is None:
            left.discard(number)

    while left:
        for number in sorted(left):
            producer.produce(
                scored.relay.source.kafka_topic, value=json.dumps(make_payment(number)), partition=0,
                on_delivery=partial(note, number),
            )  # fmt: skip
        assert producer.flush(LIMIT_SECONDS) == 0


def count_scored(scored: ScoredPayments) -> int:
    return len({each["score_id"] for each in scored.scores()})


def demand_each_once(scored: ScoredPayments, settings: Settings, total: int) -> None:
    """Each payment has its one score in the topic, however often, and one row in the tables."""
    found = scored.scores()
    by_id: dict[str, set[float]] = {}
    for each in found:
        by_id.setdefault(each["score_id"], set()).add(each["score"])
    expected = {f"t{number}": score_by_hand(CARD, make_payment(number)) for number in range(total)}
    assert by_id.keys() == expected.keys()
    for name, scores in by_id.items():
        assert [*scores] == [pytest.approx(expected[name], rel=1e-12)]
    ingest = KafkaStream(dataclasses.replace(TOPIC, kafka_topic=scored.relay.outputs[0]))
    streams: list[KafkaStream | TableStream] = [ingest, fraud_alerts.STREAM]
    context = build_stream_context(settings, scored.kafka, scored.lakehouse, streams)
    run_to_end(QueryGroup(scored.session, streams, context))
    tables = {each.name: scored.lakehouse.delta_table(each.name).to_pyarrow_table() for each in TOPIC.tables}
    accepted, quarantined, deduplicated = tables.values()
    assert sorted(accepted["score_id"].to_pylist()) == sorted(expected)
    assert (len(quarantined), len(deduplicated)) == (0, len(found) - total)
    alerts = scored.lakehouse.delta_table("gold.fraud_alerts").to_pyarrow_table()["score_id"].to_pylist()
    assert sorted(alerts) == sorted(name for name, score in expected.items() if score >= CARD.threshold)


def test_a_killed_broker_costs_no_payment_its_score(
    spark: SparkSession, lakehouse: LakehouseResource, settings: Settings, tmp_path: Path
) -> None:
    broker = EmbeddedBroker(tmp_path / "broker-home")
    state = broker.start()
    names = iter(("payments", "scores", "alerts"))
    try:
        with KafkaResource.from_settings(Settings(home=tmp_path / "broker-home", kafka_bootstrap_servers="")) as kafka:

            def make_topic(partitions: int = 1) -> str:
                name = next(names)
                ensure_topic(kafka, name, partitions)
                return name

            scored = ScoredPayments.build(spark, kafka, lakehouse, settings, make_topic)
            scored.add_model(CARD)
            scored.promote(CARD)
            group = scored.start()
            try:
                scored.send(make_payment(number) for number in range(500))
                group = keep_going(scored, group, lambda: count_scored(scored) > 0)
                os.kill(state.jvm.pid, signal.SIGKILL)
                assert broker.start().port == state.port
                send_until_taken(scored, range(500, 1000))
                group = keep_going(scored, group, lambda: count_scored(scored) == 1000)
            finally:
                group.stop(30)
            demand_each_once(scored, settings, 1000)
    finally:
        broker.stop()


def test_one_that_lost_its_lease_and_works_on_takes_no_score_away(
    spark: SparkSession, kafka: KafkaResource, lakehouse: LakehouseResource, settings: Settings,
    topic: Callable[..., str],
) -> None:  # fmt: skip
    """Both read on from one checkpoint: records are scored twice, and none is left out when either ends."""
    scored = ScoredPayments.build(spark, kafka, lakehouse, settings, topic)
    scored.add_model(CARD)
    scored.promote(CARD)
    topics = (scored.relay.source.kafka_topic, *scored.relay.outputs)
    place = RelayPlace(str(settings.home / "old"), kafka.servers(), scored.context.lakehouse_root, topics)
    with running_relay(place):
        scored.send(make_payment(number) for number in range(300))
        while not scored.scores():
            pass
        group = scored.start()
        try:
            # Of several batches of each: what one has recorded the other finds recorded.
            for sent in range(300, 900, 50):
                scored.send(make_payment(number) for number in range(sent, sent + 50))
                group = keep_going(scored, group, lambda: count_scored(scored) == sent + 50)  # noqa: B023
        finally:
            group.stop(30)
    scored.send(make_payment(number) for number in range(900, 1000))
    group = scored.start()
    try:
        group = keep_going(scored, group, lambda: count_scored(scored) == 1000)
    finally:
        group.stop(30)
    demand_each_once(scored, settings, 1000)
