"""The platform on a real standalone Spark: executors of other users, which have only what the archive brings them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
from deltalake.exceptions import TableNotFoundError
from pyarrow.fs import FileSelector

from platform_assets.checks.hop_ledger import find_hop_breaches
from platform_assets.checks.ledger import audit_stream
from platform_assets.streaming.stream_spec import select_ingest
from platform_assets.streams import load_streams
from resources.embedded.broker import BrokerState
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.ports import free_port
from resources.settings import Settings
from resources.spark.configuration import for_minutes
from tests.copied_project import copy_project, keep_streams
from tests.integration.supervised_platform import ROOT, wait_for
from tests.overheard import overhearing
from tests.planted_secrets import new_secret, read_processes
from tests.s3_server import BUCKET, S3Server, running_s3
from tests.spark_cluster import SparkCluster, SparkDaemon, await_line, read_log, running_cluster

(EVENTS,) = select_ingest(load_streams())
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
USERS, PER_USER = 50, 300
PAUSE = timedelta(minutes=30)
SECOND = timedelta(seconds=1)
# Of each message between a driver and its executors.
RPC = b"CoarseGrainedClusterMessages"


@dataclass(frozen=True)
class Driver:
    """A copy of the project that only this user can read, and the commands in it."""

    project: Path
    environment: dict[str, str]

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "jobs.cli", *command], cwd=self.project, env=self.environment | variables,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    def start_drain(self, **variables: str) -> subprocess.Popen[bytes]:
        with (self.project / "drain.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "jobs.cli", "drain"], cwd=self.project, env=self.environment | variables,
                stdout=log, stderr=log,
            )  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with running_s3() as server:
        yield server


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[SparkCluster]:
    """Two workers; or one and a secret, where a test names it as a parameter."""
    secret = str(getattr(request, "param", ""))
    with running_cluster(secret=secret, workers=1 if secret else 2) as cluster:
        yield cluster


@pytest.fixture
def driver(
    cluster: SparkCluster, server: S3Server, broker: BrokerState, topic: Callable[..., str], tmp_path: Path
) -> Driver:
    project = copy_project(tmp_path / "driver")
    project.chmod(0o700)
    keep_streams(project, "events", "sessions", "revenue_by_category")
    quick = {**for_minutes({}), "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}
    own = {
        "HEADRACE_HOME": str(project / "home"), "HEADRACE_TOPIC": topic(3),
        "HEADRACE_LAKEHOUSE": f"s3://{BUCKET}/cluster", "HEADRACE_STORAGE_OPTIONS": json.dumps(server.options),
        "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers, "HEADRACE_SPARK_MASTER": cluster.master,
        "HEADRACE_SPARK_HEAP_MIB": "768", "HEADRACE_SPARK_CONF": json.dumps(quick), "HEADRACE_DRIVER_HOST": "127.0.0.1",
        "HEADRACE_EXECUTORS": "2", "HEADRACE_EXECUTOR_CORES": "2", "HEADRACE_EXECUTOR_MEMORY_MIB": "640",
        "HEADRACE_EXECUTOR_PYTHON": cluster.python, "HEADRACE_MAX_OFFSETS_PER_TRIGGER": "500",
        "HEADRACE_TRIGGER_SECONDS": "0",
    }  # fmt: skip
    return Driver(project, {**os.environ, **own})


def build_events() -> list[dict[str, Any]]:
    """Visits of all users, in the order of their times: an event each minute, and an hour's pause after each tenth."""
    events = []
    for number in range(PER_USER):
        for user in range(USERS):
            at = AT + timedelta(minutes=number + number // 10 * 60, seconds=user)
            is_purchase = (number + user) % 3 == 0
            events.append({
                "event_id": f"{user}-{number}", "event_type": "purchase" if is_purchase else "page_view",
                "timestamp": at.isoformat(), "user_id": f"u{user}", "product_id": f"p{number % 7}",
                "category": ["toys", "books", "games"][number % 3], "revenue": 1.25 * (user + 1) * is_purchase,
            })  # fmt: skip
    return events


def send(events: list[dict[str, Any]], driver: Driver, kafka: KafkaResource) -> Counter[str]:
    """Sends them by user, some twice and some broken between; returns how many records of each kind there are."""
    topic, producer, sent = driver.environment["HEADRACE_TOPIC"], kafka.producer(), Counter[str]()
    for number, event in enumerate(events):
        place = {"key": event["user_id"].encode(), "partition": number % 3}
        copies = 2 if number % 25 == 0 else 1
        for _ in range(copies):
            producer.produce(topic, value=json.dumps(event).encode(), **place)
        if number % 400 == 0:
            producer.produce(topic, value=b"not JSON", **place)
        sent += Counter(accepted=1, repeated=copies - 1, broken=number % 400 == 0)
        producer.poll(0)
    # Alone, a day later: it lets time pass all that is before.
    last = {"event_id": "last", "event_type": "page_view", "user_id": "last", "product_id": "p"}
    last["timestamp"] = (AT + timedelta(days=9)).isoformat()
    for partition in range(3):
        value = json.dumps({**last, "event_id": f"last-{partition}"}).encode()
        producer.produce(topic, value=value, partition=partition, key=b"last")
    assert producer.flush(30) == 0
    return sent


def expect_sessions(events: list[dict[str, Any]]) -> Counter[tuple[Any, ...]]:
    """The sessions, counted one event after the other."""
    open_ones: dict[str, list[dict[str, Any]]] = {}
    over = []
    for event in events:
        mine = open_ones.setdefault(event["user_id"], [])
        if mine and time_of(event) - time_of(mine[-1]) > PAUSE:
            over.append(tuple(mine))
            mine.clear()
        mine.append(event)
    return Counter(
        (
            one[0]["user_id"], time_of(one[0]), time_of(one[-1]), len(one),
            sum(Decimal(str(event["revenue"])) for event in one),
        )
        for one in (*over, *open_ones.values())
    )  # fmt: skip


def expect_revenue(events: list[dict[str, Any]]) -> Counter[tuple[Any, ...]]:
    """The windows of a minute that begin each half minute, each with what was paid in it."""
    paid: dict[tuple[datetime, str], list[Decimal]] = {}
    for event in events:
        if event["event_type"] == "purchase":
            at = time_of(event)
            newest = at - SECOND * (at.second % 30)
            for start in (newest, newest - 30 * SECOND):
                paid.setdefault((start, event["category"]), []).append(Decimal(str(event["revenue"])))
    return Counter((start, category, len(all_), sum(all_)) for (start, category), all_ in paid.items())


def time_of(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["timestamp"])


def read(lakehouse: LakehouseResource, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = lakehouse.delta_table(name).to_pyarrow_table().to_pylist()
    return rows


def count(lakehouse: LakehouseResource, name: str) -> int:
    try:
        return int(lakehouse.delta_table(name).to_pyarrow_dataset().count_rows())
    except TableNotFoundError:
        return 0


def has_state(lakehouse: LakehouseResource, name: str) -> bool:
    """Whether the query that feeds this table has begun to write the state of its first batch."""
    state = f"{lakehouse.checkpoint_uri(name)}/state/0".removeprefix(f"{lakehouse.root_uri}/")
    found = lakehouse.folder.files.get_file_info(FileSelector(state, recursive=True, allow_not_found=True))
    return any(each.is_file and "_metadata" not in each.path for each in found)


def assert_code_is_the_archives(worker: SparkDaemon, driver: Driver) -> None:
    """What each Python process imports first, and each library of ours that it has loaded, is in the worker's folder.

    The rest is the interpreter's and the system's; nothing is the driver's.
    """
    found = worker.pythons()
    assert found, "its executor runs Python"
    assert driver.project.stat().st_mode & 0o077 == 0, "other users cannot read the driver's project"
    libraries: set[str] = set()
    for process in found:
        assert process.uids().real == worker.folder.stat().st_uid != os.getuid()
        first = Path(process.environ()["PYTHONPATH"].split(":")[0])
        assert first.is_relative_to(worker.folder / "work") and (first / "platform_assets" / "folders.py").exists()
        loaded = {part.path for part in process.memory_maps()}
        assert not [path for path in loaded if path.startswith((sys.prefix, str(ROOT)))]
        libraries |= {path for path in loaded if path.startswith(str(first))}
    assert any("/pyarrow/" in path for path in libraries), "a task has written files by the archive's Arrow"


@pytest.mark.release
@pytest.mark.timeout(900)
def test_a_worker_is_killed_under_load_and_no_row_is_lost_or_doubled(
    cluster: SparkCluster, driver: Driver, server: S3Server, kafka: KafkaResource
) -> None:
    events = build_events()
    sent = send(events, driver, kafka)
    refused = driver.run("drain")
    assert refused.returncode == 1 and "headrace pack" in refused.stderr, refused.stderr
    packed = driver.run("pack")
    assert packed.returncode == 0, packed.stderr
    settings = Settings(
        home=driver.project / "home", lakehouse=f"s3://{BUCKET}/cluster", storage_options=server.options,
        kafka_bootstrap_servers="", topic=driver.environment["HEADRACE_TOPIC"],
    )  # fmt: skip
    lakehouse = LakehouseResource.from_settings(settings)

    drain = driver.start_drain()
    log = driver.project / "drain.log"
    try:
        wait_for(lambda: drain.poll() is not None or count(lakehouse, "silver.events") > 2000, "batches are written")
        assert drain.poll() is None, log.read_text()[-3000:]
        for worker in cluster.workers.values():
            assert_code_is_the_archives(worker, driver)
        cluster.workers[0].kill()
        assert count(lakehouse, "silver.events") < len(events), "it is killed before all is read"
        cluster.start_worker(0)
        # Then what was read lies with the executors, for the tasks that keep the state: one half goes with a worker.
        wait_for(lambda: drain.poll() is not None or has_state(lakehouse, "gold.sessions"), "sessions are counted")
        cluster.workers[1].kill()
        assert count(lakehouse, "gold.sessions") == 0, "it is killed before they are written"
        assert drain.wait(600) == 0, log.read_text()[-5000:]
    finally:
        drain.kill()
        drain.wait()

    ids = Counter(row["event_id"] for row in read(lakehouse, "silver.events"))
    assert ids == Counter([event["event_id"] for event in events] + [f"last-{n}" for n in range(3)])
    assert count(lakehouse, "silver.deduplicated_events") == sent["repeated"]
    assert count(lakehouse, "silver.quarantined_events") == sent["broken"]
    assert audit_stream(EVENTS, lakehouse, kafka).breaches == ()
    sessions = Counter(
        (
            row["user_id"], row["session_start"], row["session_end"], row["event_count"],
            Decimal(str(row["total_revenue"])),
        )
        for row in read(lakehouse, "gold.sessions")
    )  # fmt: skip
    assert sessions == expect_sessions(events)
    revenue = Counter(
        (row["window_start"], row["category"], row["purchase_count"], Decimal(str(row["total_revenue"])))
        for row in read(lakehouse, "gold.revenue_by_category")
    )
    assert revenue == expect_revenue(events)
    hops = lakehouse.delta_table("platform.hop_ledger").to_pyarrow_table()
    for name in ("sessions", "revenue_by_category"):
        assert find_hop_breaches(hops.filter(pc.equal(hops["query"], name)), None) == [], hops.to_pylist()


@pytest.mark.release
def test_workers_without_the_interpreter_are_named_at_the_start(cluster: SparkCluster, driver: Driver) -> None:
    assert driver.run("pack").returncode == 0
    port = free_port()
    with overhearing(port) as overheard:
        refused = driver.run("drain", HEADRACE_EXECUTOR_PYTHON="python2.0", HEADRACE_DRIVER_PORT=str(port))
    assert RPC in overheard.heard, "without encryption it is there to be read"
    assert refused.returncode == 1 and "Traceback" not in refused.stderr, refused.stderr
    assert "Each worker needs python2.0" in refused.stderr, refused.stderr


@pytest.mark.release
@pytest.mark.parametrize("cluster", [new_secret()], ids=["encrypted"], indirect=True)
def test_who_does_not_know_the_secret_is_refused_and_who_listens_reads_nothing(
    cluster: SparkCluster, driver: Driver, server: S3Server, kafka: KafkaResource
) -> None:
    events = build_events()[:200]
    sent = send(events, driver, kafka)
    assert driver.run("pack").returncode == 0
    own = {
        "HEADRACE_SPARK_ENCRYPT": "true",
        "HEADRACE_EXECUTORS": "1",
        "HEADRACE_LAKEHOUSE": f"s3://{BUCKET}/encrypted",
    }
    refused = driver.run("drain", **own, HEADRACE_SPARK_SECRET=new_secret())
    assert refused.returncode == 1 and "Traceback" not in refused.stderr, refused.stderr
    assert (
        f"The cluster {cluster.master} gave no executor" in refused.stderr and "HEADRACE_SPARK_SECRET" in refused.stderr
    )
    stranger = cluster.launch_worker(1, new_secret())
    await_line(stranger, "(All masters are unresponsive|Failed to connect to master)")

    port, shown = free_port(), dict[str, bytes]()
    with overhearing(port, int(cluster.master.rpartition(":")[2])) as overheard:
        drain = driver.start_drain(**own, HEADRACE_SPARK_SECRET=cluster.secret, HEADRACE_DRIVER_PORT=str(port))
        while drain.poll() is None:
            shown |= read_processes(drain.pid) | read_processes(cluster.workers[0].process.pid)
            time.sleep(0.5)
    assert drain.returncode == 0, (driver.project / "drain.log").read_text()[-5000:]
    assert len(overheard.heard) > 1_000_000 and RPC not in overheard.heard
    secret = cluster.secret.encode()
    assert secret not in overheard.heard
    lines = {name: text for name, text in shown.items() if "/cmdline" in name}
    assert len([name for name in lines if name.endswith("java")]) >= 3, "a driver, a worker and an executor are seen"
    assert not [name for name, line in lines.items() if secret in line]
    settings = Settings(
        home=driver.project / "home", lakehouse=own["HEADRACE_LAKEHOUSE"], storage_options=server.options,
        kafka_bootstrap_servers="",
    )  # fmt: skip
    assert count(LakehouseResource.from_settings(settings), "silver.events") == sent["accepted"] + 3
    assert "Successfully registered" not in read_log(stranger)
