"""A Postgres that takes no connection: a host of streams goes on, says so once, and beats again when it may."""

# No postponed annotations in this file: Dagster reads those of ops at definition time.
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from jobs.supervision.lease import read_report
from jobs.supervision.run_host_port import RunHostPort
from jobs.supervision.table_events import TableEvents
from tests.integration.postgres_server import find_binaries, no_connection_left, running_postgres
from tests.integration.supervised_platform import ROOT

pytestmark = [
    pytest.mark.release,
    pytest.mark.skipif(find_binaries() is None, reason="Debian's package postgresql is not installed"),
]


PASSWORD = "any"


@pytest.fixture
def storage_on_postgres(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Makes `instance` that of docker-compose.yml; gives the server's port."""
    password, home = tmp_path / "postgres_password", tmp_path / "home" / "dagster"
    password.write_text(PASSWORD)
    home.mkdir(parents=True)
    shutil.copy(ROOT / "deploy" / "dagster.yaml", home)
    with running_postgres(PASSWORD) as port:
        monkeypatch.setenv("POSTGRES_HOST", "127.0.0.1")
        monkeypatch.setenv("POSTGRES_PORT", str(port))
        monkeypatch.setenv("POSTGRES_PASSWORD_FILE", str(password))
        yield port


@pytest.fixture
def instance(storage_on_postgres: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home" / "dagster"))
    with dg.DagsterInstance.get() as instance:
        yield instance


def test_a_host_goes_on_and_beats_again(
    instance: dg.DagsterInstance, storage_on_postgres: int, caplog: pytest.LogCaptureFixture
) -> None:
    def beaten_at() -> float:
        report = read_report(instance, "clickstream")
        assert report is not None
        return report.heartbeat.at

    @dg.op
    def host(context: dg.OpExecutionContext) -> None:
        """Has the log of a real run, which is in the storage too."""
        events = TableEvents([], context.log_event)
        port = RunHostPort(context.instance, "clickstream", context.run_id, events, context.log)
        port.report("running", {}, None)
        before = beaten_at()
        with no_connection_left(storage_on_postgres, PASSWORD):
            for _ in range(2):
                port.report("running", {}, None)
                assert port.read_stop(signalled=False) is None
                assert not port.read_requests().paused
                port.check_lease()
        assert beaten_at() == before
        port.report("running", {}, None)
        assert beaten_at() > before

    @dg.job
    def streaming_job() -> None:
        host()

    with caplog.at_level(logging.INFO):
        assert streaming_job.execute_in_process(instance=instance).success
    said = [record.getMessage() for record in caplog.records if record.name == "jobs.supervision.run_host_port"]
    assert len(said) == 1
    assert "too many clients" in said[0] and "streams go on" in said[0] and "\n" not in said[0]
