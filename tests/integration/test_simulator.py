"""The simulator against a real broker: what is read back is what it says it sent."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource
from rich.console import Console

from jobs.cli import simulate_command
from jobs.definitions.simulate_shop import simulate_shop
from jobs.simulator.producer import PRODUCER_OPTIONS, send_records
from jobs.simulator.profile import ShopProfile
from jobs.simulator.recorded import Recording
from jobs.simulator.recording_delivery import say_wait
from jobs.simulator.shop import Shop
from jobs.simulator.simulation import SimulationPlan
from platform_assets.errors import BrokerUnavailableError, UsageError
from resources.embedded.broker import BrokerState
from resources.kafka import KafkaResource
from resources.settings import Settings

NewTopic = Callable[..., str]
START, HOUR = 1_800_000_000_000_000, 3_600_000_000


def read_all(kafka: KafkaResource, topic: str) -> list[tuple[int, bytes, bytes | None]]:
    """(partition, key, value) of every record of the topic, partition by partition, in offset order."""
    consumer = Consumer({**kafka.client_config(), "group.id": "reader", "enable.auto.commit": False})
    found: list[tuple[int, bytes, bytes | None]] = []
    try:
        for partition, end in kafka.end_offsets(topic).items():
            consumer.assign([TopicPartition(topic, partition, 0)])
            deadline = time.monotonic() + 60
            offset = 0
            while offset < end:
                assert time.monotonic() < deadline, f"partition {partition} stopped at {offset} of {end}"
                for message in consumer.consume(1000, 0.5):
                    assert message.error() is None
                    key, value, offset = message.key(), message.value(), (message.offset() or 0) + 1
                    assert isinstance(key, bytes) and not isinstance(value, str)
                    found.append((partition, key, value))
    finally:
        consumer.close()
    return found


def test_what_is_read_back_is_what_the_shop_handed_out(kafka: KafkaResource, topic: NewTopic) -> None:
    name, profile = topic(), ShopProfile(oversized=0.0005).with_malformed(0.05)
    shop = Shop(profile, 21)
    report = send_records(shop.history(START, START + HOUR, 5), kafka.producer(**PRODUCER_OPTIONS), name)
    found = read_all(kafka, name)
    twin = list(Shop(profile, 21).history(START, START + HOUR, 5))
    assert report.acknowledged == report.sent == shop.tally.records == len(twin)
    assert (report.failed, report.error, report.stopped) == (0, "", False)
    assert Counter((key, value) for _, key, value in found) == Counter((key, value) for _, key, value in twin)
    partitions: dict[bytes, set[int]] = {}
    for partition, key, _ in found:
        partitions.setdefault(key, set()).add(partition)
    assert all(len(numbers) == 1 for numbers in partitions.values()), "a user's records lie in one partition"
    assert len({number for numbers in partitions.values() for number in numbers}) == 3
    for key in list(partitions)[:50]:
        sent = [value for _, owner, value in twin if owner == key]
        assert [value for _, owner, value in found if owner == key] == sent, "in the order of sending"


def test_stop_delivers_what_is_in_hand_and_the_tally_agrees(kafka: KafkaResource, topic: NewTopic) -> None:
    name, shop, stop = topic(), Shop(ShopProfile(), 22), threading.Event()
    plan = SimulationPlan(seed=22, rate=2000)

    def stop_after_some(sent: int, _acknowledged: int, _seconds: float) -> None:
        if sent > 500:
            stop.set()

    report = send_records(
        plan.records(shop), kafka.producer(**PRODUCER_OPTIONS), name, pace=plan.pace, stop=stop,
        on_progress=stop_after_some,
    )  # fmt: skip
    assert report.stopped
    assert report.acknowledged == report.sent == shop.tally.records == len(read_all(kafka, name)) > 500


def test_a_source_that_fails_has_sent_what_came_before(kafka: KafkaResource, topic: NewTopic, tmp_path: Path) -> None:
    name, path = topic(1), tmp_path / "clicks.jsonl"
    good = '{"event_type": "page_view", "timestamp": 1572566400, "user_id": 1}\n'
    path.write_text(good * 3 + "oops\n" + good)
    with pytest.raises(UsageError, match="row 4"):
        simulate(["--replay", str(path), "--strict", "--topic", name, "--quiet"], kafka, tmp_path)
    assert len(read_all(kafka, name)) == 3


def simulate(arguments: list[str], kafka: KafkaResource, home: Path | None = None) -> None:
    options = simulate_command.simulate.make_context("simulate", arguments).params
    settings = Settings(kafka_bootstrap_servers=kafka.servers(), home=home or Path(".headrace"))
    simulate_command.deliver(options, settings)


def test_command_sends_a_history(kafka: KafkaResource, topic: NewTopic) -> None:
    name = topic()
    # A whole day: in a part of it the count would follow the hour at which the test runs.
    arguments = ["--hours", "24", "--count", "3000", "--seed", "1", "--malformed", "0", "--topic", name, "--quiet"]
    simulate(arguments, kafka)
    found = [json.loads(value or b"") for _, _, value in read_all(kafka, name)]
    assert 1500 < len(found) < 6000
    assert {event["event_type"] for event in found} == {"page_view", "add_to_cart", "remove_from_cart", "purchase"}


def test_command_sends_exactly_the_count(kafka: KafkaResource, topic: NewTopic) -> None:
    name = topic()
    simulate(["--rate", "max", "--count", "4321", "--topic", name, "--quiet"], kafka)
    assert len(read_all(kafka, name)) == 4321


def test_command_replays_a_recording_in_present_time(kafka: KafkaResource, topic: NewTopic, tmp_path: Path) -> None:
    name, path = topic(1), tmp_path / "clicks.csv"
    path.write_text("when,what,who\n2020-01-01 00:00:00,view,a\n2020-01-01 00:30:00,view,b\n")
    arguments = ["--replay", str(path), "--map", "when=timestamp", "--map", "what=event_type", "--map", "who=user_id"]
    arguments += ["--value", "event_type.view=page_view", "--time", "present", "--speed", "6000"]
    simulate([*arguments, "--topic", name, "--quiet"], kafka, tmp_path)
    found = read_all(kafka, name)
    assert [(key, json.loads(value or b"")["event_type"]) for _, key, value in found] == [
        (b"a", "page_view"),
        (b"b", "page_view"),
    ]


def test_command_says_that_a_recording_was_sent_before(
    kafka: KafkaResource, topic: NewTopic, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, other = tmp_path / "clicks.csv", topic(1)
    path.write_text("event_type,timestamp,user_id\npage_view,2024-03-01T12:00:00Z,a\npage_view,20240301,b\n")
    said = []
    for name in (topic(1), other, other):
        simulate(["--replay", str(path), "--topic", name], kafka, tmp_path)
        said.append(" ".join(capsys.readouterr().err.split()))
    assert ["was sent to" in text for text in said] == [False, False, True]
    assert f"This recording was sent to {other} before" in said[2] and "taken out again" in said[2]
    assert all("row 2: timestamp is '20240301'" in text and "--time-format" in text for text in said)
    assert len(read_all(kafka, other)) == 2, "it never stops a replay"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("event_type,timestamp,user_id\n", r"Nothing was sent: no row of .*clicks.csv .* --map"),
        ("event_type,timestamp,user_id\n,,\n", r"Nothing was sent: no row of .*clicks.csv .* --map"),
        ("event_type;timestamp;user_id\n", r"clicks.csv: its cells stand between ';'"),
        ("event_type;timestamp;user_id\npage_view;2024-03-01T12:00:00Z;a\n", r"clicks.csv: its cells .* between ';'"),
    ],
)
def test_a_recording_of_which_nothing_can_be_sent_is_an_error(
    kafka: KafkaResource, topic: NewTopic, tmp_path: Path, text: str, says: str
) -> None:
    name, path = topic(1), tmp_path / "clicks.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=says):
        simulate(["--replay", str(path), "--topic", name, "--quiet"], kafka, tmp_path)


def test_a_long_wait_is_said_with_its_row_and_a_stop_ends_it(
    kafka: KafkaResource, topic: NewTopic, tmp_path: Path
) -> None:
    path, stop, heard = tmp_path / "clicks.csv", threading.Event(), io.StringIO()
    path.write_text("event_type,timestamp,user_id\npage_view,2024-03-01T12:00:00Z,a\npage_view,2024-03-02 01:00,b\n")
    recording = Recording(path, time="present")
    say = say_wait(recording, Console(file=heard, width=200))

    def hear(seconds: float) -> None:
        say(seconds)
        stop.set()

    send_records(
        recording.records(time.time_ns() // 1000), kafka.producer(**PRODUCER_OPTIONS), topic(1),
        pace=recording.pace, stop=stop, on_wait=hear,
    )  # fmt: skip
    assert re.match(r"Waiting (1:00:00|0:59:\d\d), until .* with row 2 of 2024-03-02T01:00:00", heard.getvalue())


@pytest.mark.parametrize("count", [1, 100])
def test_a_batch_that_is_refused_for_its_times_names_the_clock(
    kafka: KafkaResource, topic: NewTopic, count: int
) -> None:
    name = topic(1)
    # A record older than a millisecond is refused with the same error as one of a host whose clock is ahead.
    limit = ConfigEntry("message.timestamp.before.max.ms", "1", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=[limit])
    for done in kafka.admin().incremental_alter_configs([resource]).values():
        done.result(30)
    producer = kafka.producer(**PRODUCER_OPTIONS, linger_ms=500)
    report = send_records([(START, b"a", b"{}")] * count, producer, name)
    assert report.failed == count
    with pytest.raises(BrokerUnavailableError, match=r"whole batch .* this host's clock is ahead"):
        report.raise_if_failed()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_command_cleanly(number: int, kafka: KafkaResource, topic: NewTopic) -> None:
    name = topic()
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", "simulate", "--rate", "500", "--topic", name],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka.servers()},
    )
    try:
        deadline = time.monotonic() + 60
        while sum(kafka.end_offsets(name).values()) < 100:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.1)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "Stopped on request" in said
    acknowledged = next(line.split()[1] for line in said.splitlines() if "acknowledged" in line)
    assert int(acknowledged.replace(",", "")) == sum(kafka.end_offsets(name).values())


def test_a_record_that_kafka_refuses_is_counted_and_reported(kafka: KafkaResource, topic: NewTopic) -> None:
    name, profile = topic(1), ShopProfile(oversized=0.02)
    small = kafka.producer(**PRODUCER_OPTIONS, message_max_bytes=1_000_000)
    shop = Shop(profile, 3)
    report = send_records(shop.history(START, START + HOUR, 1), small, name)
    assert report.failed == shop.tally.malformed["oversized"] > 0
    assert report.acknowledged == len(read_all(kafka, name)) == report.sent - report.failed
    with pytest.raises(BrokerUnavailableError, match="not acknowledged"):
        report.raise_if_failed()


def test_a_broker_that_is_gone_ends_the_sending_with_one_error() -> None:
    options = {"bootstrap.servers": "127.0.0.1:9", "message.timeout.ms": 500, "log_level": 0}
    report = send_records(Shop(ShopProfile(), 3).live(START, 1000), Producer(options), "nowhere", pace=1.0)
    assert report.acknowledged == 0 and report.failed == report.sent > 0
    assert "timed out" in report.error.lower()


def test_job_sends_and_reports_its_counts(
    broker: BrokerState, kafka: KafkaResource, topic: NewTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = topic()
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", broker.bootstrap_servers)
    result = simulate_shop.execute_in_process(
        resources={"kafka": KafkaResource(bootstrap_servers=broker.bootstrap_servers)},
        run_config=dg.RunConfig(ops={"send_shop_events": {"config": {"rate": 0, "count": 2500, "topic": name}}}),
    )
    assert result.success
    output = next(event for event in result.all_events if event.is_successful_output)
    metadata = {name: entry.value for name, entry in output.step_output_data.metadata.items()}
    assert metadata["kafka/acknowledged"] == metadata["shop/records"] == 2500
    assert len(read_all(kafka, name)) == 2500


def test_terminated_job_delivers_what_is_in_hand_and_reads_as_canceled(
    kafka: KafkaResource, topic: NewTopic, tmp_path: Path
) -> None:
    name = topic()
    script = f"""
import dagster as dg
from rich.console import Console

from jobs.definitions.simulate_shop import simulate_shop
from resources.kafka import KafkaResource
defs = dg.Definitions(jobs=[simulate_shop], resources={{"kafka": KafkaResource(bootstrap_servers={kafka.servers()!r})}})
job = defs.resolve_job_def("simulate_shop")
ops = {{"send_shop_events": {{"config": {{"rate": 500.0, "topic": {name!r}}}}}}}
with dg.DagsterInstance.local_temp({str(tmp_path)!r}) as instance:
    job.execute_in_process(run_config={{"ops": ops}}, raise_on_error=False, instance=instance)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka.servers()},
    )
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        try:
            deadline = time.monotonic() + 60
            while sum(kafka.end_offsets(name).values()) < 100:
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.1)
            # What Terminate does: the run is marked, then its process is interrupted.
            instance.report_run_canceling(instance.get_runs()[0])
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
        assert instance.get_runs()[0].status == dg.DagsterRunStatus.CANCELED
    held = sum(kafka.end_offsets(name).values())
    assert f"{held:,} of {held:,} records acknowledged" in said
