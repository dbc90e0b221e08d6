"""What a topic's replication lacks, and that nothing is asked of one that can lose any broker."""

from __future__ import annotations

import dagster as dg
import pytest

from platform_assets.checks.replication import judge
from platform_assets.kafka_errors import find_no_leader
from platform_assets.kafka_replication import Replication, find_weaknesses
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.ingest.kafka_ranges import build_options


@pytest.mark.parametrize(
    "found", [Replication(3, 3, 2, False), Replication(5, 4, 3, False), Replication(1, 1, 1, True)]
)
def test_a_topic_that_suits_and_a_single_broker(found: Replication) -> None:
    assert find_weaknesses(found) == []
    assert judge(found, "events").passed


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Replication(3, 1, 1, False), ["1 of the 3 replicas"]),
        (Replication(3, 2, 2, False), ["2 of the 3 replicas", "nothing can be written while one broker is down"]),
        (Replication(3, 2, 1, False), ["2 of the 3 replicas", "set it to 2"]),
        (Replication(3, 3, 1, False), ["set it to 2"]),
        (Replication(3, 3, 3, False), ["set it to one less"]),
        (Replication(3, 3, 2, True), ["unclean.leader.election.enable=true"]),
        (Replication(1, 3, 1, True), ["set it to 2", "unclean.leader.election.enable=true"]),  # two of three are down
    ],
)
def test_each_weakness_is_named_with_what_to_set(found: Replication, words: list[str]) -> None:
    weaknesses = find_weaknesses(found)
    assert len(weaknesses) == len(words)
    for weakness, word in zip(weaknesses, words, strict=True):
        assert word in weakness
    verdict = judge(found, "events")
    assert not verdict.passed and verdict.severity is dg.AssetCheckSeverity.WARN
    assert all(word in (verdict.description or "") for word in words)


@pytest.mark.parametrize(
    "text",
    [
        'KafkaError{code=_NOENT,val=-156,str="Failed to query partition leaders: No leaders found"}',
        'KafkaError{code=OFFSET_NOT_AVAILABLE,val=78,str="Broker: Leader high watermark is not caught up"}',
        'KafkaError{code=NOT_ENOUGH_REPLICAS,val=19,str="Broker: Not enough in-sync replicas"}',
        "org.apache.kafka.common.errors.NotEnoughReplicasException: Messages are rejected since there are fewer",
        "org.apache.kafka.common.errors.LeaderNotAvailableException: There is no leader for this topic-partition",
    ],
)
def test_a_partition_without_a_leader_is_not_called_a_broker_that_is_away(text: str) -> None:
    found = find_no_leader(text, "topic events")
    assert found is not None and "brokers answer, and cannot serve topic events" in str(found)


def test_other_trouble_is_not_called_so() -> None:
    assert find_no_leader("Failed to resolve 'kafka:9092': Name or service not known", "topic events") is None


@pytest.mark.parametrize(
    ("own", "request_millis", "call_millis"),
    [({}, 10_000, 15_000), ({"kafka.request.timeout.ms": "40000"}, 40_000, 40_000)],
)
def test_a_call_may_take_as_long_as_each_of_its_requests(
    own: dict[str, str], request_millis: int, call_millis: int
) -> None:
    options = build_options(StreamContext("", own, "earliest", 1, 1.0, 1, None))
    assert options["kafka.request.timeout.ms"] == str(request_millis)
    assert options["kafka.default.api.timeout.ms"] == str(call_millis)
