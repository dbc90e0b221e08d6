"""What the tests under a real Dagster daemon share; `tests/conftest.py` has the broker and the session."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest

from jobs.supervision.dagster_home import ensure_dagster_home
from jobs.supervision.group_lock import read_lock
from jobs.supervision.lease import read_report
from jobs.supervision.lease_owner import is_operation
from resources.embedded.broker import BrokerState
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic
from resources.lakehouse import LakehouseResource
from resources.processes import identify, is_alive, kill
from resources.settings import Settings
from tests.integration.replayed_streams import read_two_hours
from tests.integration.streaming_definitions import GROUP
from tests.integration.streams_under_test import StreamsUnderTest
from tests.integration.supervised_platform import ROOT, Platform, wait_for
from tests.secured_broker import SecuredBroker
from tests.short_lived_jvm import ENVIRONMENT
from tests.token_endpoint import serving_tokens


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    """A Kafka that trusts nobody, for the whole run; each test has topics and accounts of its own."""
    with serving_tokens() as tokens:
        broker = SecuredBroker.make(tmp_path_factory.mktemp("secured"), tokens)
        broker.start()
        yield broker
        broker.stop()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """The stream that is replayed; a test may name another, as a parameter."""
    return str(getattr(request, "param", "revenue_by_category"))


@pytest.fixture
def replayed(
    spark: Any,
    kafka: KafkaResource,
    lakehouse: LakehouseResource,
    settings: Settings,
    topic: Callable[..., str],
    name: str,
) -> StreamsUnderTest:
    """The stream `name` has read two hours, with events that came late."""
    streams = StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic(1))
    read_two_hours(streams, name)
    return streams


@pytest.fixture(scope="module")
def read_once(
    spark: Any, kafka: KafkaResource, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], StreamsUnderTest]:
    """Gives what `replayed` gives, read once for all tests of a file."""

    @functools.cache
    def read(name: str) -> StreamsUnderTest:
        root, topic = tmp_path_factory.mktemp(name), f"read-once-{uuid.uuid4().hex[:8]}"
        ensure_topic(kafka, topic, 1)
        lakehouse, settings = LakehouseResource(root=str(root)), Settings(home=root, kafka_bootstrap_servers="")
        streams = StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic)
        read_two_hours(streams, name)
        streams.let_go_of_state()
        return streams

    return read


@pytest.fixture
def copied(read_once: Callable[[str], StreamsUnderTest], name: str, tmp_path: Path) -> StreamsUnderTest:
    """The streams of `replayed`, in a separate lakehouse. Send nothing to its topic: other tests read it too."""
    return read_once(name).copy_to(tmp_path / "copy")


@pytest.fixture
def platform(
    tmp_path: Path,
    broker: BrokerState,
    kafka: KafkaResource,
    topic: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Platform]:
    """A test may give it further environment variables, as a parameter."""
    home, name = tmp_path / "home", topic()
    settings = Settings(
        home=home, kafka_bootstrap_servers=broker.bootstrap_servers, topic=name, spark_heap_mib=768, trigger_seconds=0.5
    )
    values = {
        "HEADRACE_HOME": str(home),
        "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "HEADRACE_TOPIC": name,
        "HEADRACE_SPARK_HEAP_MIB": "768",
        "HEADRACE_TRIGGER_SECONDS": "0.5",
        **ENVIRONMENT,
        "DAGSTER_HOME": str(ensure_dagster_home(settings)),
        **getattr(request, "param", {}),
    }
    for variable, value in values.items():
        monkeypatch.setenv(variable, value)
    with dg.DagsterInstance.get() as instance:
        yield Platform(settings, kafka, instance, dict(os.environ))


@pytest.fixture
def start_host(platform: Platform) -> Iterator[Callable[[str, int], subprocess.Popen[bytes]]]:
    """Starts hosts with the storage and the lakehouse of the platform, and a home, hence a lock, of their own.

    Takes the machine's name and the commit to stop at. What still runs when the test ends is killed; its JVM follows.
    """
    hosts: list[subprocess.Popen[bytes]] = []

    def start(name: str, stop_at: int) -> subprocess.Popen[bytes]:
        home = platform.settings.home
        ours = {"HEADRACE_HOME": str(home / name), "HEADRACE_LAKEHOUSE": platform.settings.lakehouse}
        command = [sys.executable, "-m", "tests.integration.stopping_host", name, str(stop_at)]
        with (home / f"{name}.log").open("ab") as log:
            hosts.append(subprocess.Popen(command, cwd=ROOT, env=platform.environment | ours, stdout=log, stderr=log))
        return hosts[-1]

    yield start
    for host in hosts:
        host.kill()
        host.wait()


@pytest.fixture
def daemon(platform: Platform) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon; afterwards it, its runs' hosts and their JVMs are gone."""
    with platform.start_daemon() as process:
        yield process
        end_daemon(platform, process, [GROUP.name])


def end_daemon(platform: Platform, process: subprocess.Popen[bytes], groups: Sequence[str]) -> None:
    """Ends a daemon, and the hosts of these groups with their JVMs."""
    children = psutil.Process(process.pid).children(recursive=True)
    code_servers = [identify(child.pid) for child in children if _is_code_server(child)]
    process.terminate()
    process.wait()
    for group in groups:
        report = read_report(platform.instance, group)
        if report is not None and not is_operation(report.heartbeat):  # that would be this process
            for identity in (report.heartbeat.process, report.heartbeat.jvm):
                if identity is not None:
                    kill(identity)
            wait_for(functools.partial(_is_lock_free, platform, group), "the lock is free")
    # They end when no daemon has spoken to them for 20 s, and need their database for that.
    wait_for(lambda: not any(server and is_alive(server) for server in code_servers), "the code servers are gone")


def _is_lock_free(platform: Platform, group: str) -> bool:
    return not read_lock(platform.settings.home, group).held


def _is_code_server(process: psutil.Process) -> bool:
    """A daemon starts a new one each minute, and ends the last: one may be gone by now."""
    try:
        return "grpc" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def shoppers(platform: Platform) -> Iterator[threading.Event]:
    """Events, good, bad and repeated, all the time until the event is set; all are acknowledged when it ends."""
    enough = threading.Event()
    producer = platform.kafka.producer()

    def send() -> None:
        number = 0
        while not enough.wait(0.01):
            number += 1
            producer.produce(platform.settings.topic, key=f"u{number % 50}", value=_event(number))
            producer.poll(0)

    thread = threading.Thread(target=send)
    thread.start()
    enough_and_sent = threading.Event()

    def finish() -> None:
        enough.set()
        thread.join()
        assert producer.flush(30) == 0

    enough_and_sent.set = finish  # type: ignore[method-assign]
    yield enough_and_sent
    finish()


def _event(number: int) -> bytes:
    if number % 40 == 0:
        return b"not JSON"
    identity = uuid.UUID(int=number - 1 if number % 25 == 0 else number)
    fields = {
        "event_id": str(identity),
        "event_type": "page_view",
        "timestamp": "2026-01-01T00:00:00Z",
        "user_id": f"u{number % 50}",
        "category": "Books",
    }
    return json.dumps(fields).encode()
