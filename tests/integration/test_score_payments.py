"""Payments get scores in real-time mode: whatever a record holds, whichever version judges, and across stops."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from confluent_kafka.admin import NewPartitions

from platform_assets.errors import NotReadyError, TaskSlotsError
from platform_assets.fraud.features import FEATURES
from platform_assets.fraud.scorecard import Part
from platform_assets.streaming.delta.delta_tables import create_table
from platform_assets.streaming.engine.relay_group import RelayGroup
from platform_assets.streaming.moments import count_micros
from platform_assets.streaming.topic_snapshot import Relayed
from platform_assets.streams.spend_by_card import SPEND_BY_CARD
from platform_assets.streams.velocity import CARD_VELOCITY
from platform_assets.tables.fraud import CARD_RELEASES, FRAUD_SERVING
from tests.bounded_run import run_to_end
from tests.integration.relay_process import RelayPlace, running_relay
from tests.integration.scored_payments import ScoredPayments, make_payment, make_scorecard, score_by_hand
from tests.known_cards import write_gold
from tests.payments_with_fraud import write_reports
from tests.spark.card_cases import transaction
from tests.unit.test_damaged_tables import garble_log
from tests.unit.test_streams_progress import write_query

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from resources.kafka import KafkaResource
    from resources.lakehouse import LakehouseResource
    from resources.settings import Settings

Build = Callable[..., ScoredPayments]


@pytest.fixture
def build(
    spark: SparkSession,
    kafka: KafkaResource,
    lakehouse: LakehouseResource,
    settings: Settings,
    topic: Callable[..., str],
) -> Build:
    """Makes the relay over topics of its own; by default of one partition."""
    return lambda partitions=1: ScoredPayments.build(spark, kafka, lakehouse, settings, topic, partitions)


def test_each_record_gets_one_score_whatever_it_holds(build: Build) -> None:
    scored, card = build(), make_scorecard(1)
    payments = [make_payment(number) for number in range(20)]
    odd: list[Any] = [
        make_payment(20, amount=None),
        make_payment(21, amount="not a number"),
        make_payment(22, amount=0),
        make_payment(23, merchant_category="never seen"),
        make_payment(24, merchant_category=None, timestamp="no time"),
        make_payment(25, amount=10**20),
        make_payment(26, customer_id=None),
        b"no JSON",
        b'{"transaction_id": "t27"}',
        b"[1, 2]",
        None,
    ]
    scored.add_model(card)
    scored.promote(card)
    group = scored.start()
    try:
        scored.send([*payments, *odd])
        found = scored.wait_for_scores(group, len(payments) + len(odd))
    finally:
        group.stop(30)

    by_id = {each["score_id"]: each for each in found}
    assert len(found) == len(by_id) == len(payments) + len(odd)
    unreadable = {"t27", "0-27", "0-29", "0-30"}
    assert {name for name, each in by_id.items() if each.get("unscored_reason") == "unreadable"} == unreadable
    known = {each["transaction_id"]: each for each in (*payments, *odd) if isinstance(each, dict)}
    known["t21"] = known["t25"] = known["t21"] | {"amount": None}
    for name, payment in known.items():
        each = by_id[name]
        assert each["score"] == pytest.approx(score_by_hand(card, payment | {"amount": payment["amount"]}), rel=1e-12)
        assert each["verdict"] == ("alert" if each["score"] >= card.threshold else "clear")
        assert each["model_version"] == 1
    assert by_id["t20"]["marks"] == ["no amount", "unknown card"]
    assert by_id["t23"]["marks"] == ["unknown merchant_category", "unknown card"]
    assert by_id["t24"]["timestamp"].startswith("20")
    words = {each.name: each.words for each in FEATURES}
    alerts = scored.alerts()
    assert {each["score_id"] for each in alerts} == {n for n, each in by_id.items() if each["verdict"] == "alert"}
    assert by_id["t5"]["reasons"] == [words["ln_amount"], words["merchant_category"]]
    assert all(each["scored_at"] >= each["received_at"] for each in found)
    assert len(scored.lakehouse.delta_table(CARD_RELEASES.name).to_pyarrow_table()) == 0  # for who looks for releases


def test_texts_too_long_for_kafka_and_odd_values_end_nothing(build: Build) -> None:
    """A score repeats what the record says, the ids twice: what is too long to be sent again counts as not there."""
    scored, card = build(), make_scorecard(1)
    scored.add_model(card)
    scored.promote(card)
    long = "x" * 700_000
    quoted = dict.fromkeys(("merchant_id", "customer_id", "currency", "country", "kind"), '"' * 1000)
    values: list[Any] = [
        make_payment(0, merchant_id="x" * 2_000_000),
        make_payment(1, transaction_id=long),
        make_payment(2, card_id=long),
        make_payment(3, merchant_category=long, device=long, channel=long),
        make_payment(4, **dict.fromkeys(quoted, "\x01" * 300000)),
        make_payment(5, **quoted),
        make_payment(6, merchant_id={"a": ["b"]}, currency=[1], country=True, device=7),
        make_payment(7, amount=float("nan")),
        make_payment(8, amount=float("inf")),
        make_payment(9, timestamp="+294247-01-10T04:00:54Z"),
        make_payment(10, timestamp="-9999-01-01T00:00:00Z"),
        b'{"transaction_id": "t11", "card_id": "a", "amount": 1, "amount": 5000, "amount": {}}',
        b'{"transaction_id": "t12", "card_id": "\xff\xfe", "country": "\\ud800"}',
        b'{"transaction_id": "t13", "card_id": ' + b"[" * 20_000,
        b'{"transaction_id": "t14", "card_id": "a", "amount": ' + b"9" * 100_000 + b"}",
        b"",
        make_payment(16),
    ]
    group = scored.start()
    try:
        scored.send(values)
        found = {each["source_offset"]: each for each in scored.wait_for_scores(group, len(values))}
    finally:
        group.stop(30)
    assert sorted(found) == list(range(len(values)))
    assert [n for n, each in found.items() if each["verdict"] == "unscored"] == [1, 2, 13, 14, 15]
    assert "merchant_id" not in found[0] and "merchant_id" not in found[4]
    assert found[3]["marks"] == ["no merchant_category", "no channel", "unknown card"]
    assert {name: found[5][name] for name in quoted} == quoted
    assert found[16]["score"] == pytest.approx(score_by_hand(card, values[16]), rel=1e-12)


def test_a_payment_from_a_device_of_reported_cards_says_so(build: Build, lakehouse: LakehouseResource) -> None:
    scored, yesterday = build(), datetime.now(UTC) - timedelta(days=1, minutes=1)
    write_gold(lakehouse, [transaction(f"c{n}", yesterday, channel="online", device="ring") for n in range(3)])
    for place in range(2):
        write_reports(lakehouse, [(f"t{place}", yesterday)], f"c{place}")
    part = Part("device_fraud_cards", "number", -0.4, (-1.0, 0.5, 4.0), (0.3, 0.3, 0.2, 0.2), (0.0, 1.0))
    card = dataclasses.replace(make_scorecard(1), parts=(part,))
    scored.add_model(card)
    scored.promote(card)
    payments = [
        make_payment(0, channel="online", device="ring"),
        make_payment(1, channel="recurring", device="not known"),
        make_payment(2, channel="chip", device="ring"),
        make_payment(3, channel="online", device=None),
    ]
    group = scored.start()
    try:
        scored.send(payments)
        found = {each["score_id"]: each for each in scored.wait_for_scores(group, len(payments))}
    finally:
        group.stop(30)
    counts = {"t0": 2.0, "t1": 0.0, "t2": None, "t3": None}
    for name, count in counts.items():
        expected = float(card.score(pa.table({part.feature: pa.array([count], pa.float64())}))[0])
        assert found[name]["score"] == pytest.approx(expected, rel=1e-12)
    assert found["t0"]["reasons"] == ["cards that were used with this device were reported as fraud"]


def test_a_version_is_swapped_and_rolled_back_without_a_stop(build: Build) -> None:
    scored = build()
    first, second = make_scorecard(1), make_scorecard(2, large=-3.0)
    for card in (first, second):
        scored.add_model(card)
    scored.promote(first, shadow=2)
    group = scored.start()
    sent = 0
    try:
        query = group._queries[scored.relay.name]
        started_at = query.started_at
        expected = (first, second, first)
        for place, champion in enumerate(expected):
            if place:
                scored.promote(champion, shadow=3 - champion.version, action=("", "promote", "roll_back")[place])

            def is_judging() -> bool:
                nonlocal sent
                scored.send([make_payment(sent + number) for number in range(10)])
                sent += 10
                return scored.wait_for_scores(group, sent)[-1]["model_version"] == champion.version  # noqa: B023

            scored.wait(group, is_judging)
        assert query.started_at == started_at
    finally:
        group.stop(30)
    found = scored.scores()
    assert [each["score_id"] for each in found] == [f"t{number}" for number in range(sent)]
    versions = [each["model_version"] for each in found]
    assert [a for a, b in zip(versions, [*versions[1:], None], strict=True) if a != b] == [1, 2, 1]
    cards = {1: first, 2: second}
    for number, each in enumerate(found):
        payment = make_payment(number)
        assert each["score"] == pytest.approx(score_by_hand(cards[each["model_version"]], payment), rel=1e-12)
        assert each["shadow_score"] == pytest.approx(score_by_hand(cards[each["shadow_version"]], payment), rel=1e-12)


def test_a_stop_leaves_nothing_out(build: Build, spark_log: Path) -> None:
    said_before = _count_interrupts(spark_log)
    scored, card = build(2), make_scorecard(1)
    bad = make_scorecard(2)
    group = scored.start()
    try:
        scored.send([make_payment(number) for number in range(10)])
        scored.wait_for_scores(group, 10)
    finally:
        group.stop(30)
    assert {each["unscored_reason"] for each in scored.scores()} == {"no_model"}

    scored.add_model(card)
    scored.promote(card)
    scored.send([make_payment(number) for number in range(10, 20)])
    group = scored.start()
    try:
        scored.send([make_payment(number) for number in range(20, 30)], partition=1)
        scored.wait_for_scores(group, 30)
        # A version that is on its way in: the query starts again, and a text that is no scorecard ends nothing.
        scored.add_model(bad, text="{}")
        scored.promote(bad)
        reasons: set[str | None] = set()
        sent = 30

        def is_unscored() -> bool:
            nonlocal sent
            scored.send([make_payment(sent)], partition=sent % 2)
            sent += 1
            newest = max(scored.wait_for_scores(group, sent), key=lambda each: each["scored_at"])
            reasons.add(newest.get("unscored_reason"))
            return "no_model" in reasons

        scored.wait(group, is_unscored)
        scored.wait(group, lambda: group.progress()[scored.relay.name].lag_records == 0)
    finally:
        group.stop(30)
    by_id = {each["score_id"]: each for each in scored.scores()}
    assert by_id.keys() == {f"t{number}" for number in range(sent)}
    assert _count_interrupts(spark_log) == said_before


def test_what_is_old_is_used_and_marked(build: Build, lakehouse: LakehouseResource) -> None:
    """The streams over payments stand still: what they had read is as old as that, whatever the clock says."""
    scored, now = build(), datetime.now(UTC)
    write_gold(lakehouse, [transaction("card-0", now - timedelta(days=1), "200.00")])
    reached = now - timedelta(minutes=6)
    for table in (CARD_VELOCITY, SPEND_BY_CARD):
        write_query(Path(scored.context.checkpoint_uri(table.name)), reached, done=1)
    part = Part("amount_to_usual", "number", -0.4, (-1.0, 1.5), (0.3, 0.5, 0.2), (0.0,))
    card = dataclasses.replace(make_scorecard(1), parts=(part,))
    scored.add_model(card)
    scored.promote(card)
    # Where Spark's threads are this process's, batches join files of its own: a table that is broken ends nothing.
    create_table(lakehouse.table_uri(FRAUD_SERVING.name), FRAUD_SERVING)
    garble_log(Path(lakehouse.table_uri(FRAUD_SERVING.name)))
    group = scored.start()
    try:
        scored.send([make_payment(0, amount=1000), make_payment(1)])
        known, unknown = sorted(scored.wait_for_scores(group, 2), key=lambda each: str(each["score_id"]))
    finally:
        group.stop(30)
    assert (known["marks"], unknown["marks"]) == (["stale features"], ["unknown card"])
    assert known["features_as_of"] == count_micros(reached) // 1000
    rows = pa.table({part.feature: pa.array([math.log(5)], pa.float64())})
    assert known["score"] == pytest.approx(float(card.score(rows)[0]), rel=1e-12)


def test_a_paused_relay_goes_on_where_it_was_and_a_drain_ends(build: Build) -> None:
    scored, card = build(), make_scorecard(1)
    scored.add_model(card)
    scored.promote(card)
    group, name = scored.start(), scored.relay.name
    query = group._queries[name]
    try:
        scored.send([make_payment(number) for number in range(5)])
        scored.wait_for_scores(group, 5)
        group.reconcile(frozenset({name}))
        assert not query.is_active and group.failure() is None
        scored.send([make_payment(number) for number in range(5, 10)])
        paused_at = query.started_at
        group.reconcile()
        scored.wait_for_scores(group, 10)
        assert (resumed_at := query.started_at) > paused_at
        group.reconcile(restart_at={name: time.time()})
        assert query.started_at > resumed_at
        scored.send([make_payment(number) for number in range(10, 15)])
        scored.wait_for_scores(group, 15)
    finally:
        group.stop(30)
    scored.send([make_payment(number) for number in range(15, 20)])
    run_to_end(RelayGroup(scored.session, [scored.relay], scored.context))
    assert {each["score_id"] for each in scored.scores()} == {f"t{number}" for number in range(20)}


def test_a_killed_relay_leaves_nothing_out(build: Build, settings: Settings, kafka: KafkaResource) -> None:
    """Another version is promoted while it lies dead: what is scored once more may then be judged by that."""
    scored, cards = build(), {1: make_scorecard(1), 2: make_scorecard(2, large=-3.0)}
    scored.add_model(cards[1])
    scored.promote(cards[1])
    topics = (scored.relay.source.kafka_topic, *scored.relay.outputs)
    place = RelayPlace(str(settings.home / "killed"), kafka.servers(), scored.context.lakehouse_root, topics)
    total = 4_000
    with running_relay(place):
        scored.send(make_payment(number) for number in range(total // 2))
        while not scored.scores():  # in the middle of a batch: it has passed on some, and recorded none
            scored.send(make_payment(number) for number in range(total // 2, total // 2 + 1))
    scored.add_model(cards[2])
    scored.promote(cards[2])
    group = scored.start()
    try:
        scored.send(make_payment(number) for number in range(total // 2, total))
        scored.wait(group, lambda: len({each["score_id"] for each in scored.scores()}) == total)
    finally:
        group.stop(30)
    found: dict[str, dict[int, set[float]]] = {}
    for each in scored.scores():
        found.setdefault(each["score_id"], {}).setdefault(each["model_version"], set()).add(each["score"])
    assert found.keys() == {f"t{number}" for number in range(total)}
    assert all(len(scores) == 1 for by_version in found.values() for scores in by_version.values()), (
        "what is passed on again has the same score"
    )
    assert {2} == set().union(*(found[f"t{number}"] for number in range(total // 2 + 1, total)))
    for number in range(0, total, 97):
        for version, scores in found[f"t{number}"].items():
            assert min(scores) == pytest.approx(score_by_hand(cards[version], make_payment(number)), rel=1e-12)


def test_what_others_write_among_the_scores_is_no_answer(build: Build) -> None:
    """Any account that may write to the topic could keep the group from running."""
    scored = build(3)
    scored.send([make_payment(number) for number in range(4)], partition=1)
    producer, answers = scored.kafka.producer(), scored.relay.outputs[0]
    for partition, value in enumerate(
        [b"no JSON", b'{"source_partition": 1, "source_offset": 2}', b'{"source_offset": "x"}']
    ):
        producer.produce(answers, value=value, partition=partition)
    producer.produce(answers, value=None, partition=2)
    assert producer.flush(30) == 0
    fetch = scored.context.ingest[scored.relay.name].fetch_relayed
    assert fetch is not None
    assert fetch({0: 0, 1: 1, 2: 0}) == Relayed(passed_on=3, waiting=1)


def _count_interrupts(log: Path) -> int:
    """Messages of tasks that a stop has interrupted."""
    text = log.read_text() if log.exists() else ""
    return text.count("Aborting task") + text.count("Lost task")


def test_partitions_that_would_not_be_read_are_refused(build: Build, kafka: KafkaResource, spark: SparkSession) -> None:
    slots = int((spark.sparkContext.master or "").removeprefix("local[").removesuffix("]"))
    many = build(slots + 1)
    with pytest.raises(TaskSlotsError, match=f"{slots + 1} of .* Spark has {slots}"):
        RelayGroup(spark, [many.relay], many.context).start()
    in_batches = dataclasses.replace(many, context=dataclasses.replace(many.context, real_time_batch_seconds=None))
    group = in_batches.start()
    group.stop(30)

    scored = build()
    group = scored.start()
    try:
        name = scored.relay.source.kafka_topic
        kafka.admin().create_partitions([NewPartitions(name, 2)])[name].result(30)
        with pytest.raises(NotReadyError, match="2 partitions now, and had 1"):
            scored.wait(group, lambda: False)
    finally:
        group.stop(30)
