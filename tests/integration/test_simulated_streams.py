"""What `headrace dev` and the demonstration send: records for each enabled topic that has a simulator of its own."""

from __future__ import annotations

import dataclasses
import os
import time

import pytest

from jobs.platform.simulated_streams import select_senders, select_simulated, sending
from platform_assets.streaming.stream_spec import KafkaStream, select_ingest
from platform_assets.streams import load_streams
from platform_assets.topics.transactions import TOPIC
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic


@pytest.mark.usefixtures("fresh_settings")
@pytest.mark.parametrize(
    ("groups", "topics"),
    [
        ("clickstream", ["events"]),
        ("payments", ["fraud_reports", "transactions"]),
        ("access_logs", ["access_logs"]),
        ("all", ["access_logs", "events", "fraud_reports", "telemetry", "transactions"]),
    ],
)
def test_the_enabled_topics_are_sent(groups: str, topics: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_GROUPS", groups)
    streams = load_streams()
    assert sorted(stream.name for stream in select_ingest(select_simulated(streams))) == topics
    # Reports come with the payments.
    assert sorted(stream.name for stream in select_senders(streams)) == [n for n in topics if n != "fraud_reports"]
    # Scores come of payments, not from a simulator.
    scored = {"fraud_scores", "fraud_alerts", "card_holds"}
    assert {stream.name for stream in select_simulated(streams)} == {stream.name for stream in streams} - scored


def test_somebodys_own_topic_is_left_to_its_producers() -> None:
    own = KafkaStream(dataclasses.replace(TOPIC, name="meters"))
    assert own not in select_simulated([*load_streams(), own])


def test_records_come_for_the_length_of_the_block_and_no_longer(kafka: KafkaResource) -> None:
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka.servers()}

    def count() -> int:
        return sum(kafka.end_offsets(TOPIC.kafka_topic).values())

    ensure_topic(kafka, TOPIC.kafka_topic, 1)
    before = count()
    with sending(KafkaStream(TOPIC), "--rate", "500", environment=environment):
        deadline = time.monotonic() + 60
        while count() < before + 100:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    after = count()
    assert (after > before, count()) == (True, after)
