"""The streaming run under a real daemon, broker and Spark: it dies in many ways, restarts once, loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import dagster as dg
import psutil
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from jobs.drain import EXIT_DONE, EXIT_FAILED
from jobs.supervision.dagster_home import ensure_dagster_home
from jobs.supervision.group_lock import read_lock
from jobs.supervision.lease import read_report, write_control
from jobs.supervision.model import Heartbeat, ProcessIdentity, RunView, StopCause
from jobs.supervision.process import is_alive, kill, read_identity
from jobs.supervision.run_records import read_runs
from resources.embedded_broker import BrokerState
from resources.kafka import KafkaResource
from resources.settings import Settings
from tests.integration.postgres_server import find_binaries, running_postgres
from tests.integration.streaming_definitions import GROUP

ROOT = Path(__file__).parents[2]
OUTPUT_TABLES = ("silver.events", "silver.quarantined_events", "silver.deduplicated_events")
# A JVM start beside another test's on two cores took two minutes; what is waited for is a condition, never this time.
LIMIT_SECONDS = 300.0

T = TypeVar("T")


def wait_for(condition: Callable[[], T | None], what: str) -> T:
    """The condition's first true value; fails, naming it, when there is none within the limit."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.2)
    pytest.fail(f"not within {LIMIT_SECONDS:g} s: {what}")


@dataclass
class Platform:
    """A home, a topic and a lakehouse of one's own, and a daemon that supervises them."""

    settings: Settings
    kafka: KafkaResource
    instance: dg.DagsterInstance
    environment: dict[str, str]

    def start_daemon(self) -> subprocess.Popen[bytes]:
        command = [
            str(Path(sys.executable).parent / "dagster-daemon"),
            "run",
            "-m",
            "tests.integration.streaming_definitions",
        ]
        log = (self.settings.home / "daemon.log").open("ab")
        with log:
            return subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)

    def drain(self) -> subprocess.CompletedProcess[str]:
        """The command as a person runs it: a process of its own, like the Spark application that it starts."""
        command = [sys.executable, "-m", "jobs.cli", "drain"]
        return subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)

    def runs(self) -> list[RunView]:
        return read_runs(self.instance, GROUP.name, 50)

    def running_host(self, after: str = "") -> Heartbeat | None:
        """The heartbeat of a live host, other than that of the run `after`, whose queries run."""
        report = read_report(self.instance, GROUP.name)
        if report is None or report.heartbeat.run_id == after or report.heartbeat.phase != "running":
            return None
        return report.heartbeat if is_alive(report.heartbeat.process) else None

    def is_caught_up(self) -> bool:
        return len(self.coordinates()) >= sum(self.kafka.end_offsets(self.settings.topic).values())

    def coordinates(self) -> list[tuple[int, int]]:
        """Where each written record came from, over all output tables, read by another engine than the writer."""
        found: list[tuple[int, int]] = []
        for name in OUTPUT_TABLES:
            path = Path(self.settings.lakehouse, *name.split("."))
            try:
                columns = ["kafka_partition", "kafka_offset"]
                rows = DeltaTable(str(path)).to_pyarrow_table(columns=columns).to_pylist()
            except TableNotFoundError:
                continue
            found += [(row["kafka_partition"], row["kafka_offset"]) for row in rows]
        return found

    def prove_complete(self) -> None:
        """Every offset that Kafka holds is in exactly one row of one table."""
        counts = Counter(self.coordinates())
        assert [place for place, count in counts.items() if count > 1] == []
        ends = self.kafka.end_offsets(self.settings.topic)
        assert set(counts) == {(partition, offset) for partition, end in ends.items() for offset in range(end)}


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
        "DAGSTER_HOME": str(ensure_dagster_home(settings)),
        **getattr(request, "param", {}),
    }
    for variable, value in values.items():
        monkeypatch.setenv(variable, value)
    with dg.DagsterInstance.get() as instance:
        yield Platform(settings, kafka, instance, dict(os.environ))


@pytest.fixture
def storage_on_postgres(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Makes the Dagster home of `platform` that of docker-compose.yml, but for the server's address."""
    text = (ROOT / "deploy" / "dagster.yaml").read_text()
    with running_postgres() as port:
        monkeypatch.setenv("POSTGRES_PASSWORD", "any")
        home = tmp_path / "home" / "dagster"
        home.mkdir(parents=True)
        text = text.replace("hostname: postgres", "hostname: 127.0.0.1").replace("port: 5432", f"port: {port}")
        (home / "dagster.yaml").write_text(text)
        yield


@pytest.fixture
def daemon(platform: Platform) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon; afterwards it, its runs' hosts and their JVMs are gone."""
    with platform.start_daemon() as process:
        yield process
        children = psutil.Process(process.pid).children(recursive=True)
        code_servers = [read_identity(child.pid) for child in children if "grpc" in child.cmdline()]
        process.terminate()
        process.wait()
        report = read_report(platform.instance, GROUP.name)
        if report is not None:
            for identity in (report.heartbeat.process, report.heartbeat.jvm):
                if identity is not None:
                    kill(identity)
            wait_for(lambda: not read_lock(platform.settings.home, GROUP.name).held, "the lock is free")
        # They end when no daemon has spoken to them for 20 s, and need their database for that.
        wait_for(lambda: not any(server and is_alive(server) for server in code_servers), "the code servers are gone")


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


def jvm_of(host: Heartbeat) -> ProcessIdentity:
    assert host.jvm is not None
    return host.jvm


@pytest.mark.timeout(1800)
def test_run_that_dies_is_restarted_once_and_nothing_is_lost_or_doubled(
    platform: Platform, daemon: subprocess.Popen[bytes], shoppers: threading.Event
) -> None:
    first = wait_for(platform.running_host, "the first run hosts the queries")
    wait_for(platform.coordinates, "the first rows")

    assert kill(first.process)
    second = wait_for(lambda: platform.running_host(first.run_id), "a run after kill -9 of the run's process")
    assert is_alive(jvm_of(first)) is False
    rows = len(platform.coordinates())
    wait_for(lambda: len(platform.coordinates()) > rows, "rows after the restart")

    assert kill(jvm_of(second))
    third = wait_for(lambda: platform.running_host(second.run_id), "a run after kill -9 of the JVM")
    assert len(platform.runs()) == 3
    jvm_death = next(run for run in platform.runs() if run.run_id == second.run_id)
    assert jvm_death.status == "failure" and "JVM" in jvm_death.exit_reason

    os.kill(third.process.pid, signal.SIGTERM)
    fourth = wait_for(lambda: platform.running_host(third.run_id), "a run after SIGTERM")
    interrupted = next(run for run in platform.runs() if run.run_id == third.run_id)
    assert (interrupted.status, interrupted.exit_kind) == ("success", "interrupted")

    shoppers.set()
    wait_for(platform.is_caught_up, "everything is read")
    assert is_alive(fourth.process)
    platform.prove_complete()
    metadata = wait_for(lambda: _latest_metadata(platform), "a materialization of silver.events")
    assert {"spark/batch_id", "spark/rows_per_second", "spark/rows", "delta/version"} <= set(metadata)
    # Spark does not know the lag in a replayed batch, so the first event after a crash may lack it; a heartbeat has it.
    wait_for(lambda: _lag(platform) == 0, "the heartbeat says that nothing is unread")


@pytest.mark.timeout(1800)
def test_terminate_ends_cleanly_and_holds_until_resumed(
    platform: Platform, daemon: subprocess.Popen[bytes], shoppers: threading.Event
) -> None:
    host = wait_for(platform.running_host, "the run hosts the queries")
    wait_for(platform.coordinates, "the first rows")
    platform.instance.run_coordinator.cancel_run(host.run_id)
    wait_for(lambda: platform.runs()[0].status == "canceled", "the run is canceled")
    wait_for(lambda: not is_alive(host.process), "its process is gone")
    wait_for(lambda: not is_alive(jvm_of(host)), "its JVM is gone")
    held = wait_for(lambda: _ticks_with(platform, "HELD_OPERATOR"), "the supervisor says that a person holds the group")
    assert "headrace resume clickstream" in held
    shoppers.set()

    # While it is held: a drain works, and reads the rest.
    drain = platform.drain()
    assert drain.returncode == EXIT_DONE, drain.stderr
    platform.prove_complete()
    assert len(platform.runs()) == 1

    write_control(platform.instance, GROUP.name, "resume", by="a test")
    wait_for(lambda: platform.running_host(host.run_id), "a run after resume")
    drain = platform.drain()
    assert drain.returncode == EXIT_FAILED
    assert len(drain.stderr.splitlines()) == 1 and "is owned by run" in drain.stderr


@pytest.mark.timeout(1800)
@pytest.mark.skipif(find_binaries() is None, reason="Debian's package postgresql is not installed")
def test_supervision_is_the_same_with_dagsters_storage_on_postgres(
    storage_on_postgres: None, platform: Platform, daemon: subprocess.Popen[bytes], shoppers: threading.Event
) -> None:
    """A kill and a pause; heartbeats and control records lie in Postgres too."""
    assert "Postgres" in type(platform.instance.run_storage).__name__
    first = wait_for(platform.running_host, "the first run hosts the queries")
    wait_for(platform.coordinates, "the first rows")
    assert kill(first.process)
    second = wait_for(lambda: platform.running_host(first.run_id), "a run after kill -9 of the run's process")
    shoppers.set()
    wait_for(platform.is_caught_up, "everything is read")
    write_control(platform.instance, GROUP.name, "pause", by="a test")
    wait_for(lambda: _ticks_with(platform, "HELD_OPERATOR"), "the group is held")
    assert is_alive(second.process) is False
    platform.prove_complete()
    assert [run.status for run in platform.runs()] == ["success", "failure"]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("platform", [{"HEADRACE_STUCK_TIMEOUT_SECONDS": "20"}], indirect=True)
def test_a_group_that_lives_and_does_not_move_is_restarted(
    platform: Platform, broker: BrokerState, daemon: subprocess.Popen[bytes], shoppers: threading.Event
) -> None:
    """The broker is frozen: the host beats, its query waits inside one trigger, and no batch ends."""
    host = wait_for(platform.running_host, "the run hosts the queries")
    wait_for(platform.coordinates, "the first rows")
    os.kill(broker.jvm.pid, signal.SIGSTOP)
    try:
        stuck = wait_for(lambda: _stopped_by_us(platform, host.run_id), "the supervisor stops the stuck run")
    finally:
        os.kill(broker.jvm.pid, signal.SIGCONT)
    assert stuck.stop_cause is StopCause.STUCK
    assert "events is busy with one batch for" in wait_for(
        lambda: _ticks_with(platform, "is busy with one batch"), "the tick says which query is stuck"
    )
    wait_for(lambda: platform.running_host(host.run_id), "a run after the stuck one")
    shoppers.set()
    wait_for(platform.is_caught_up, "everything is read")
    platform.prove_complete()


def _stopped_by_us(platform: Platform, run_id: str) -> RunView | None:
    run = next(run for run in platform.runs() if run.run_id == run_id)
    return run if run.stop_cause is not None else None


def _lag(platform: Platform) -> int | None:
    report = read_report(platform.instance, GROUP.name)
    return None if report is None else report.queries["events"]["lag_records"]


def _latest_metadata(platform: Platform) -> Mapping[str, dg.MetadataValue] | None:
    records = platform.instance.fetch_materializations(dg.AssetKey(["silver", "events"]), limit=1).records
    event = records[0].asset_materialization if records else None
    return None if event is None else event.metadata


def _ticks_with(platform: Platform, phase: str) -> str | None:
    for state in platform.instance.all_instigator_state():
        ticks = platform.instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=5)
        for tick in ticks:
            if phase in (tick.tick_data.skip_reason or ""):
                return tick.tick_data.skip_reason
    return None
