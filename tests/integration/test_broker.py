"""The embedded broker and the Kafka resource, against the real thing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from pyspark.sql import SparkSession

from jobs.supervision.model import ExitKind
from jobs.supervision.run_records import build_run_config, read_runs
from platform_assets.errors import BrokerUnavailableError, MissingTopicError, SettingError, StorageError
from resources.embedded import server
from resources.embedded.broker import BrokerState, EmbeddedBroker, running_broker
from resources.kafka import KafkaResource
from resources.kafka_open_transactions import read_held_back
from resources.kafka_topics import ensure_topic, is_compacted, read_retention, read_retention_bytes
from resources.processes import is_alive
from resources.settings import Settings
from tests.integration.streaming_definitions import GROUP, JOB


def _wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "condition did not come true"
        time.sleep(0.05)


def _produce(kafka: KafkaResource, topic: str, *values: bytes) -> None:
    producer = kafka.producer()
    for value in values:
        producer.produce(topic, value, partition=0)
    assert producer.flush(30) == 0


def test_offsets_and_retention(kafka: KafkaResource, topic: Callable[..., str]) -> None:
    name = topic(2)
    before = datetime.now(UTC) - timedelta(minutes=1)
    _produce(kafka, name, b"a", b"b", b"c")

    assert kafka.beginning_offsets(name) == {0: 0, 1: 0}
    assert kafka.end_offsets(name) == {0: 3, 1: 0}
    assert kafka.offsets_at(name, before) == {0: 0, 1: 0}
    assert kafka.offsets_at(name, datetime.now(UTC) + timedelta(minutes=1)) == {0: 3, 1: 0}
    assert read_retention(kafka, name) == timedelta(days=7)
    assert (read_retention_bytes(kafka, name) or 0) >= 256 * 1024 * 1024


def test_open_transaction_ends_the_committed_offsets(kafka: KafkaResource, topic: Callable[..., str]) -> None:
    name = topic(1)
    producer = kafka.producer(transactional_id=name)
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(name, b"open")
    producer.flush(30)
    assert kafka.end_offsets(name) == {0: 1}
    assert kafka.end_offsets(name, committed=True) == {0: 0}
    (held,) = read_held_back(kafka, name).values()
    assert held.count == 1 and abs(datetime.now(UTC) - held.since) < timedelta(minutes=1)
    producer.commit_transaction(30)
    _wait_for(lambda: kafka.end_offsets(name, committed=True) == {0: 2})
    assert read_held_back(kafka, name) == {}


def test_a_compacted_topic_is_known(kafka: KafkaResource, topic: Callable[..., str]) -> None:
    compacted = f"{topic(1)}-compacted"
    ensure_topic(kafka, compacted, 1, {"cleanup.policy": "compact,delete"})
    assert is_compacted(kafka, compacted) and not is_compacted(kafka, topic(1))


def test_record_of_five_megabytes_is_accepted(kafka: KafkaResource, topic: Callable[..., str]) -> None:
    name = topic(1)
    _produce(kafka, name, os.urandom(5_000_000))
    assert kafka.end_offsets(name) == {0: 1}


def test_existing_topic_is_left_as_it_is(kafka: KafkaResource, topic: Callable[..., str]) -> None:
    name = topic(2)
    ensure_topic(kafka, name, 5)
    assert kafka.partitions(name) == [0, 1]


def test_missing_topic_on_a_foreign_broker_is_one_clear_error(broker: BrokerState) -> None:
    foreign = KafkaResource(bootstrap_servers=broker.bootstrap_servers)
    with pytest.raises(MissingTopicError, match=r"Topic no-such-topic does not exist on 127\.0\.0\.1:\d+"):
        ensure_topic(foreign, "no-such-topic", 3)


@pytest.fixture
def dead_address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A port that nobody gets while it is used: bound, not listening, refuses connections. The timeout is a second.

    librdkafka tries again until the time is over, so a refusal takes all of it.
    """
    monkeypatch.setattr("resources.kafka.TIMEOUT_SECONDS", 1.0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def test_absent_broker_is_named_and_librdkafka_stays_silent(
    dead_address: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BrokerUnavailableError, match=dead_address):
        KafkaResource(bootstrap_servers=dead_address).end_offsets("any")
    captured = capfd.readouterr()
    assert captured.err == ""
    assert captured.out == ""


def test_a_run_that_finds_no_broker_says_so_to_the_supervisor_and_starts_no_spark(
    dead_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path, lakehouse=str(tmp_path / "lakehouse"), kafka_bootstrap_servers=dead_address)
    monkeypatch.setattr("jobs.definitions.streaming_job.load_settings", lambda: settings)
    with dg.DagsterInstance.ephemeral() as instance:
        JOB.execute_in_process(instance=instance, run_config=build_run_config(GROUP.name), raise_on_error=False)
        [run] = read_runs(instance, GROUP.name, 2)
    assert (run.status, run.exit_kind) == ("failure", ExitKind.UNAVAILABLE) and dead_address in run.exit_reason
    assert not (tmp_path / "logs" / "spark").exists()


def test_second_user_finds_the_same_broker_and_the_last_to_stop_ends_it(tmp_path: Path) -> None:
    first, second = EmbeddedBroker(tmp_path), EmbeddedBroker(tmp_path)
    state = first.start()
    assert second.start() == state
    assert first.start() == state

    first.stop()
    assert is_alive(state.jvm)
    assert second.state() == state
    second.stop()
    assert not is_alive(state.jvm)
    assert not is_alive(state.guard)
    with pytest.raises(BrokerUnavailableError, match="is not running"):
        _ = first.bootstrap_servers


@pytest.mark.long
def test_data_and_port_outlive_a_restart(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, kafka_bootstrap_servers="")
    with KafkaResource.from_settings(settings) as kafka:
        address = kafka.servers()
        ensure_topic(kafka, "kept", 1)
        _produce(kafka, "kept", b"one", b"two")
    with KafkaResource.from_settings(settings) as kafka:
        assert kafka.servers() == address
        assert kafka.end_offsets("kept") == {0: 2}


def test_killed_jvm_comes_back_at_the_same_address_with_its_data(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, kafka_bootstrap_servers="")
    with KafkaResource.from_settings(settings) as kafka:
        ensure_topic(kafka, "kept", 1)
        _produce(kafka, "kept", b"one")
        broker = EmbeddedBroker(tmp_path)
        before = broker.state()
        assert before is not None
        os.kill(before.jvm.pid, signal.SIGKILL)
        _wait_for(lambda: (state := broker.state()) is not None and state.jvm != before.jvm)
        assert kafka.servers() == before.bootstrap_servers
        _produce(kafka, "kept", b"two")
        assert kafka.end_offsets("kept") == {0: 2}


_USER = """
import signal, sys
from pathlib import Path
from resources.embedded.broker import EmbeddedBroker
broker = EmbeddedBroker(Path(sys.argv[1]))
print(broker.start().jvm.pid, flush=True)
signal.pause()
"""


def _start_user(home: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, "-c", _USER, str(home)], stdout=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.long
def test_killed_owner_leaves_no_broker_but_another_user_keeps_it(tmp_path: Path) -> None:
    with _start_user(tmp_path) as owner:
        assert owner.stdout is not None
        jvm_pid = int(owner.stdout.readline())
        with _start_user(tmp_path) as other:
            assert other.stdout is not None
            assert int(other.stdout.readline()) == jvm_pid
            state = EmbeddedBroker(tmp_path).state()
            assert state is not None
            owner.kill()
            owner.wait()
            assert EmbeddedBroker(tmp_path).state() == state
            other.kill()
            other.wait()
    _wait_for(lambda: not is_alive(state.jvm) and not is_alive(state.guard))


@pytest.mark.long
def test_a_jvm_that_is_being_started_again_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of the broker before, which is ending, a start waits for a limited time. A start after a crash may take longer:
    # on a busy machine it did.
    monkeypatch.setattr(server, "_STOP_TIMEOUT_SECONDS", 0.2)
    broker = EmbeddedBroker(tmp_path)
    state = broker.start()
    try:
        os.kill(state.jvm.pid, signal.SIGKILL)
        _wait_for(lambda: not is_alive(state.jvm))
        again = broker.start()
        assert (again.port, again.guard) == (state.port, state.guard) and again.jvm != state.jvm
    finally:
        broker.stop()


@pytest.mark.long
def test_killed_guard_takes_the_jvm_along_and_the_next_start_works(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path)
    state = broker.start()
    os.kill(state.guard.pid, signal.SIGKILL)
    _wait_for(lambda: not is_alive(state.jvm))
    assert broker.start().jvm != state.jvm
    broker.stop()


def test_taken_port_is_a_setting_error_and_leaves_nothing(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = Settings(home=tmp_path, kafka_bootstrap_servers="", kafka_port=port)
        with pytest.raises(SettingError, match=f"HEADRACE_KAFKA_PORT: port {port}"), running_broker(settings):
            pass
    assert EmbeddedBroker(tmp_path).state() is None


def test_home_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "broker").write_text("a file where a folder belongs")
    with pytest.raises(StorageError, match="HEADRACE_HOME"):
        EmbeddedBroker(tmp_path).start()


def test_configured_servers_are_used_and_nothing_is_started(tmp_path: Path) -> None:
    with running_broker(Settings(home=tmp_path, kafka_bootstrap_servers="kafka:9092")) as servers:
        assert servers == "kafka:9092"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_users_that_start_at_once_share_one_broker(tmp_path: Path) -> None:
    users = [_start_user(tmp_path) for _ in range(3)]
    pids = set()
    for user in users:
        assert user.stdout is not None
        pids.add(int(user.stdout.readline()))
    state = EmbeddedBroker(tmp_path).state()
    assert state is not None
    assert pids == {state.jvm.pid}
    for user in users:
        user.kill()
        user.communicate()
    _wait_for(lambda: not is_alive(state.jvm))


def test_spark_reads_with_the_resources_options_and_a_healthy_run_logs_nothing(
    kafka: KafkaResource, topic: Callable[..., str], spark: SparkSession, spark_log: Path, tmp_path: Path
) -> None:
    name = topic(2)
    _produce(kafka, name, *(str(number).encode() for number in range(50)))
    before = spark_log.read_text() if spark_log.exists() else ""
    query = (
        spark.readStream.format("kafka").options(**kafka.spark_options()).option("subscribe", name)
        .option("startingOffsets", "earliest").load().selectExpr("cast(value AS string) AS value", "offset")
        .dropDuplicates(["value"]).writeStream.format("delta")
        .option("checkpointLocation", str(tmp_path / "checkpoint")).trigger(availableNow=True)
        .start(str(tmp_path / "table"))
    )  # fmt: skip
    assert query.awaitTermination(120)
    rows = spark.read.format("delta").load(str(tmp_path / "table")).collect()
    assert sorted(int(row["value"]) for row in rows) == list(range(50))
    after = spark_log.read_text() if spark_log.exists() else ""
    assert after.removeprefix(before) == ""
