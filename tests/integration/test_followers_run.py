"""Sinks and alerts under a real daemon: killed hosts are replaced, a database that was away is caught up with."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from jobs.supervision.lease import read_report
from jobs.supervision.model import Heartbeat
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.tables.platform import ALERT_POSITIONS, ALERTS
from platform_assets.topics.events import QUARANTINED_EVENTS
from resources.lakehouse import LakehouseResource
from resources.processes import kill
from tests.integration.conftest import end_daemon
from tests.integration.postgres_server import USER, find_binaries, running_postgres
from tests.integration.supervised_platform import Platform, wait_for
from tests.integration.test_simulator import read_all
from tests.unit.alerting.raised_table import NOON

GROUPS = ("postgres", "alerts")
pytestmark = pytest.mark.skipif(find_binaries() is None, reason="Debian's package postgresql is not installed")


class Database:
    """A Postgres that can be stopped and started."""

    def __init__(self, port: int) -> None:
        self.url = f"postgresql://{USER}@127.0.0.1:{port}/{USER}"
        [(data,)], [(sockets,)] = self.ask("SHOW data_directory"), self.ask("SHOW unix_socket_directories")
        as_owner = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        binaries = find_binaries()
        assert binaries is not None
        self._control = [*as_owner, str(binaries / "pg_ctl"), "-w", "-D", data]
        self._options = f"-k {sockets} -h 127.0.0.1 -p {port} -F"
        self._log = Path(data) / "log"

    def ask(self, sql: str) -> list[tuple[str, ...]]:
        with closing(psycopg2.connect(self.url)) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()

    def stop(self) -> None:
        subprocess.run([*self._control, "-m", "immediate", "stop"], check=True, capture_output=True, cwd="/")

    def start(self) -> None:
        command = [*self._control, "-o", self._options, "-l", str(self._log), "start"]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture
def database() -> Iterator[Database]:
    with running_postgres() as port:
        yield Database(port)


@pytest.fixture
def followed(
    database: Database, topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Platform]:
    values = {
        "POSTGRES_URL": database.url, "POSTGRES_TABLES": QUARANTINED_EVENTS.name, "ALERTS": "events_refused",
        "ALERTS_TOPIC": topic(1),
    }  # fmt: skip
    for name, value in values.items():
        monkeypatch.setenv(f"HEADRACE_{name}", value)
    platform: Platform = request.getfixturevalue("platform")
    with platform.start_daemon("tests.integration.follower_definitions") as daemon:
        try:
            yield platform
        finally:
            end_daemon(platform, daemon, GROUPS)


@pytest.mark.release
@pytest.mark.timeout(1800)
def test_killed_hosts_and_a_database_that_is_away_lose_and_double_nothing(
    followed: Platform, database: Database
) -> None:
    lakehouse = LakehouseResource.from_settings(followed.settings)
    uri = lakehouse.table_uri(QUARANTINED_EVENTS.name)
    create_table(uri, QUARANTINED_EVENTS, {})
    offsets = itertools.count()
    written: Counter[str] = Counter()

    def refuse(*reasons: str) -> None:
        rows = [
            {
                "key": None, "value": b"{", "topic": "events", "kafka_partition": 0, "kafka_offset": next(offsets),
                "kafka_timestamp": NOON, "reason": reason, "detail": "", "quarantined_at": NOON,
            }
            for reason in reasons
        ]  # fmt: skip
        write_deltalake(uri, pa.Table.from_pylist(rows, build_arrow_schema(QUARANTINED_EVENTS)), mode="append")
        written.update(reasons)

    def read(name: str) -> list[dict[str, object]]:
        table = lakehouse.find_table(name)
        return [] if table is None else table.to_pyarrow_table().to_pylist()

    def list_opened() -> list[str]:
        return sorted(str(row["key"]) for row in read(ALERTS.name) if row["transition"] == "opened")

    def list_copied() -> list[int]:
        sql = "SELECT kafka_offset FROM headrace.silver_quarantined_events"
        return sorted(int(row[0]) for row in database.ask(sql))

    def wait_for_host(name: str, after: str = "") -> Heartbeat:
        return wait_for(lambda: followed.running_host(after, name), f"{name} runs")

    hosts = {name: wait_for_host(name) for name in GROUPS}
    wait_for(lambda: any(row["reader"] == "alert_events_refused" for row in read(ALERT_POSITIONS.name)), "it follows")
    wait_for(lambda: database.ask("SELECT 1 FROM headrace.sinks WHERE version IS NOT NULL"), "the first load")
    for turn in range(2):
        refuse(f"before-{turn}", "always")
        for name in GROUPS:
            kill(hosts[name].process)
            refuse(f"killed-{turn}-{name}", "always")
        for name in GROUPS:
            hosts[name] = wait_for_host(name, hosts[name].run_id)
        wait_for(lambda: list_opened() == sorted(written), "each reason has opened an alert")
        wait_for(lambda: list_copied() == list(range(written.total())), "the table in Postgres has each row")

    database.stop()
    refuse("away", "always")
    wait_for(lambda: "away" in list_opened(), "alerts go on")
    wait_for(lambda: _read_trouble(followed), "the sink says why it stands")
    kill(hosts["postgres"].process)
    wait_for(lambda: followed.running_host(hosts["postgres"].run_id, "postgres"), "a host without a database runs")
    refuse("away", "always")
    database.start()
    wait_for(lambda: list_copied() == list(range(written.total())), "what came meanwhile is in Postgres")

    # What raises an open alert is written once a minute.
    def add_up() -> Counter[str]:
        counts: Counter[str] = Counter()
        for row in read(ALERTS.name):
            counts[str(row["key"])] += int(str(row["rows"]))
        return counts

    wait_for(lambda: add_up() == written, "each row is counted once")
    assert list_opened() == sorted(written)
    told = [json.loads(value or b"") for _, _, value in read_all(followed.kafka, os.environ["HEADRACE_ALERTS_TOPIC"])]
    assert {each["key"] for each in told if each["transition"] == "opened"} == set(written)


def _read_trouble(platform: Platform) -> str:
    report = read_report(platform.instance, "postgres")
    return "" if report is None else str(report.queries["sink_silver_quarantined_events"]["sink"]["trouble"])
