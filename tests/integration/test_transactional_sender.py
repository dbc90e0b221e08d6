"""`simulate --transactional`: who reads what is committed has each transaction as a whole or not at all."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobs.simulator.producer import PRODUCER_OPTIONS, send_records
from jobs.simulator.transactions import transactional_options
from platform_assets.alerting.channels import KafkaChannel
from platform_assets.checks.ledger import audit_stream
from platform_assets.errors import AlertNotTakenError, BrokerUnavailableError, UsageError
from platform_assets.streaming.stream_spec import select_ingest
from platform_assets.streams import load_streams
from resources.kafka import KafkaResource
from resources.kafka_open_transactions import read_ends
from resources.kafka_records import find_records
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.integration.streams_under_test import StreamsUnderTest
from tests.integration.test_simulator import simulate

NewTopic = Callable[..., str]
(EVENTS,) = select_ingest(load_streams())


def find_all(kafka: KafkaResource, topic: str, *, committed: bool) -> set[tuple[int, int]]:
    """(partition, offset) of every record, of aborted transactions too where not `committed`."""
    whole = [(partition, 0, end) for partition, end in kafka.end_offsets(topic).items()]
    return set(find_records(kafka, topic, whole, committed=committed))


def test_all_records_are_committed(kafka: KafkaResource, topic: NewTopic) -> None:
    name = topic()
    simulate(["--transactional", "--rate", "max", "--count", "4321", "--topic", name, "--quiet"], kafka)
    assert len(find_all(kafka, name, committed=True)) == len(find_all(kafka, name, committed=False)) == 4321
    assert kafka.end_offsets(name) == kafka.end_offsets(name, committed=True)


def test_what_is_aborted_is_sent_again(kafka: KafkaResource, topic: NewTopic) -> None:
    name = topic()
    simulate(
        ["--transactional", "--aborted", "1", "--rate", "max", "--count", "2000", "--topic", name, "--quiet"], kafka
    )
    assert len(find_all(kafka, name, committed=True)) == 2000
    assert len(find_all(kafka, name, committed=False)) == 4000
    with pytest.raises(UsageError, match="add --transactional"):
        simulate(["--aborted", "0.1"], kafka)


def test_a_second_sender_ends_the_first_and_its_open_transaction(kafka: KafkaResource, topic: NewTopic) -> None:
    name = topic(1)
    options = PRODUCER_OPTIONS | transactional_options(name)
    is_open, is_taken_over = threading.Event(), threading.Event()

    def records() -> Iterator[tuple[int, bytes, bytes]]:
        for number in itertools.count():
            if number == 3_000:  # of which two looks are past, and the last ones are in no transaction that has ended
                is_open.set()
                assert is_taken_over.wait(60)
            yield number, b"first", b"%d" % number

    reports: list[Any] = []
    first = threading.Thread(
        target=lambda: reports.append(send_records(records(), kafka.producer(**options), name, is_transactional=True))
    )
    first.start()
    assert is_open.wait(60)
    second = send_records([(0, b"second", b"{}")] * 50, kafka.producer(**options), name, is_transactional=True)
    is_taken_over.set()
    first.join(60)
    (report,) = reports
    assert (second.acknowledged, second.failed) == (50, 0)
    assert report.failed > 0 and report.sent == report.acknowledged + report.failed
    with pytest.raises(BrokerUnavailableError, match="Another sender has begun transactions"):
        report.raise_if_failed()
    assert len(find_all(kafka, name, committed=True)) == report.acknowledged + 50


def test_a_sender_that_waits_for_a_record_hears_of_a_newer_one(kafka: KafkaResource, topic: NewTopic) -> None:
    name = topic(1)
    options = PRODUCER_OPTIONS | transactional_options(name)

    def records() -> Iterator[tuple[int, bytes, bytes]]:
        yield 0, b"first", b"1"
        kafka.producer(**options).init_transactions(30)
        yield 0, b"first", b"2"
        yield 3_600_000_000, b"first", b"3"  # while it waits for this one's time, the refusal of the one before arrives

    report = send_records(records(), kafka.producer(**options), name, pace=1.0, is_transactional=True)
    assert report.failed == report.sent > 0
    assert report.seconds < 60, "of an hour"
    with pytest.raises(BrokerUnavailableError, match="Another sender has begun transactions"):
        report.raise_if_failed()


def test_a_channel_whose_producer_has_ended_for_good_tells_again(kafka: KafkaResource, topic: NewTopic) -> None:
    name = topic(1)
    channel = KafkaChannel(kafka, name)
    channel._producer = kafka.producer(**transactional_options(name))
    channel._producer.init_transactions(30)
    channel._producer.begin_transaction()
    kafka.producer(**transactional_options(name)).init_transactions(30)
    row = dict.fromkeys(
        ["alert_id", "alert", "key", "transition", "at", "severity", "owner", "text", "rows", "event_time", "raised_at",
         "source_table", "source_version", "by", "reason"],
        "value",
    )  # fmt: skip
    with pytest.raises(AlertNotTakenError, match="They are sent again"):
        channel.send([row, row])
    assert channel.send([row]) == 1  # by a producer of its own


@pytest.mark.long
def test_a_killed_sender_leaves_a_proven_gap_and_its_successor_goes_on(
    spark: Any, kafka: KafkaResource, lakehouse: LakehouseResource, settings: Settings, topic: NewTopic
) -> None:
    name = topic(3)
    arguments = ["--transactional", "--aborted", "0.4", "--malformed", "0.02", "--duplicates", "0.02", "--topic", name]
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", "simulate", *arguments, "--rate", "2000", "--quiet"],
        env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka.servers()},
    )
    try:
        _stop_within_a_transaction(kafka, name, process)
    finally:
        process.kill()
        process.wait()
    assert any(stable < end for stable, end in read_ends(kafka, name).values()), "nobody has ended it yet"

    simulate([*arguments, "--rate", "max", "--count", "2000", "--quiet"], kafka)
    assert all(stable == end for stable, end in read_ends(kafka, name).values()), "the next start has"
    committed, sent = find_all(kafka, name, committed=True), find_all(kafka, name, committed=False)
    assert committed < sent

    streams = StreamsUnderTest.build(spark, kafka, lakehouse, settings, name)
    streams.drain("events")
    audit = audit_stream(EVENTS, LakehouseResource(root=streams.context.lakehouse_root), kafka)
    assert audit.breaches == ()
    offsets = sum(kafka.end_offsets(name).values())
    assert audit.totals["offsets_of_transactions"] == offsets - len(committed) > len(sent - committed)
    rows = [
        (row["kafka_partition"], row["kafka_offset"])
        for table in EVENTS.tables
        for row in streams.rows(table.name, "select kafka_partition, kafka_offset from t")
    ]
    assert sorted(rows) == sorted(committed), "each committed record is in one table, and no other one is"


def _stop_within_a_transaction(kafka: KafkaResource, topic: str, process: subprocess.Popen[bytes]) -> None:
    """Freezes the sender while one transaction is committed and another one is open."""
    deadline = time.monotonic() + 120
    while True:
        assert time.monotonic() < deadline and process.poll() is None
        if sum(kafka.end_offsets(topic, committed=True).values()):
            process.send_signal(signal.SIGSTOP)
            if any(stable < end for stable, end in read_ends(kafka, topic).values()):
                return
            process.send_signal(signal.SIGCONT)
        time.sleep(0.05)
