"""A database of Dagster's instance that does not do what is asked is told in one line, by each who asks it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster_postgres.utils import DagsterPostgresException
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from deploy import code_server, migrate
from jobs.cli.__main__ import main
from jobs.supervision.dagster_home import find_dagster_home, open_instance
from jobs.supervision.group_lock import read_lock
from jobs.supervision.storage_errors import find_storage_error, name_cause
from platform_assets.errors import InstanceUnavailableError
from resources.settings import Settings, load_settings

SAID = "The database of Dagster's instance does not do what is asked: file is not a database. Put that right"
# As the host of a stream group: it holds the lock, and ends when a signal tells it to.
HOST = """
import sys
from pathlib import Path
from jobs.supervision.group_lock import hold_group_lock
from resources.stop_signals import StopSignals
with StopSignals() as stop, hold_group_lock(Path(sys.argv[1]), "clickstream", "run"):
    print("owned", flush=True)
    stop.received.wait()
"""


@pytest.fixture
def damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A home whose instance has a storage that cannot be read."""
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    load_settings.cache_clear()
    (tmp_path / "dagster" / "history").mkdir(parents=True)
    (tmp_path / "dagster" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    (tmp_path / "dagster" / "history" / "runs.db").write_bytes(b"no database, " * 1000)
    yield load_settings()
    load_settings.cache_clear()


def test_a_command_says_what_the_database_said(damaged: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pause", "--because", "any"]) == 1
    assert capsys.readouterr().err.splitlines() == [f"headrace: {SAID}, and call this again."]


def test_a_migration_says_it_and_keeps_the_others_from_starting(
    damaged: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert migrate.main() == 1
    assert capsys.readouterr().err.startswith(f"migrate: {SAID}")


def test_who_opens_the_instance_is_told_it(damaged: Settings) -> None:
    assert find_dagster_home(damaged) == damaged.dagster_home
    with (
        pytest.raises(InstanceUnavailableError, match=r"does not answer \(file is not a database\)"),
        open_instance(damaged),
    ):
        pass


def test_a_container_that_stops_while_the_database_is_away_ends_its_streams_by_a_signal(
    damaged: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-c", HOST, str(damaged.home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as host:
        assert host.stdout is not None and host.stdout.readline() == b"owned\n"
        code_server.stop_streams()
        assert not read_lock(damaged.home, "clickstream").held
    assert host.returncode == 0
    assert SAID in capsys.readouterr().err


def test_neither_a_password_nor_a_value_is_said() -> None:
    away = create_engine("postgresql+psycopg2://dagster:planted@127.0.0.1:9/dagster")
    with pytest.raises(DBAPIError) as refused, away.connect():
        pass
    wrapped = DagsterPostgresException("too many retries for DB connection")
    wrapped.__cause__ = refused.value
    assert "Connection refused" in str(find_storage_error(wrapped)) and "planted" not in str(
        find_storage_error(wrapped)
    )
    with create_engine("sqlite://").connect() as connection, pytest.raises(DBAPIError) as failed:
        connection.execute(text("insert into runs values (:tags)"), {"tags": "planted"})
    assert "planted" in str(failed.value)
    assert name_cause(failed.value) == "no such table: runs"


def test_an_error_of_another_kind_stays_what_it_is() -> None:
    assert find_storage_error(KeyError("any")) is None and name_cause(KeyError("any")) == "KeyError"
