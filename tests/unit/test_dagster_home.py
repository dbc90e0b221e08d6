"""The Dagster home of a platform: several processes may start on a fresh one at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dagster as dg

from jobs.supervision.dagster_home import ensure_dagster_home
from resources.settings import Settings

# Each begins when its input is closed, so that all are at the same place.
_START = """
import sys
from pathlib import Path
import dagster as dg
from jobs.supervision.dagster_home import ensure_dagster_home
from resources.settings import Settings
print("ready", flush=True)
sys.stdin.read()
home = ensure_dagster_home(Settings(home=Path(sys.argv[1]), kafka_bootstrap_servers=""))
with dg.DagsterInstance.from_config(str(home)) as instance:
    print(len(instance.get_runs()))
"""


def test_processes_that_start_on_a_fresh_home_at_once_share_its_storage(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _START, str(tmp_path)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for _ in range(4)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    assert [process.communicate()[0] for process in processes] == ["0\n"] * len(processes)


def test_a_home_that_a_person_has_taken_over_stays_as_it_is(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, kafka_bootstrap_servers="")
    own = "# mine\ntelemetry:\n  enabled: false\n"
    settings.dagster_home.mkdir(parents=True)
    (settings.dagster_home / "dagster.yaml").write_text(own)
    home = ensure_dagster_home(settings)
    assert (home / "dagster.yaml").read_text() == own
    assert not (home / "history").exists(), "its storage may be elsewhere"
    (home / "dagster.yaml").unlink()
    with dg.DagsterInstance.from_config(str(ensure_dagster_home(settings))) as instance:
        assert instance.get_runs() == []
