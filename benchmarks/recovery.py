"""From kill -9 of the streaming run to the first new commit in `silver.events`, with the real supervisor.

The whole platform runs headless in a fresh home under live load; each round kills the run's process (or, with
`--jvm`, its JVM) without warning and waits for the next version of the table. The first failure restarts without
delay, later ones in a row would wait (back-off), so a round begins when the run has committed again.
Run: `make bench ARGS=recovery` (about five minutes on two cores).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import dagster as dg

from benchmarks.silver_commits import read_commits
from jobs.platform.services import running_platform
from jobs.supervision.lease import read_report
from jobs.supervision.model import FINISHED, Heartbeat, RunView
from jobs.supervision.process import is_alive, kill
from jobs.supervision.run_records import read_runs
from platform_assets.streams import load_stream_groups
from resources.kafka import KafkaResource
from resources.settings import Settings, load_settings

LIMIT_SECONDS = 300.0
POLL_SECONDS = 0.05

T = TypeVar("T")


def main() -> None:
    """Runs the rounds and prints each one's phases, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--rate", default="200", help="live events a second")
    parser.add_argument("--jvm", action="store_true", help="kill the JVM instead of the run's process")
    parser.add_argument("--home", help="internal: the home of the measured platform")
    args = parser.parse_args()
    if args.home is None:
        with tempfile.TemporaryDirectory(prefix="headrace-bench-") as home:
            # The settings of this process and of all that it starts come from its environment.
            environment = {"HEADRACE_HOME": home, "PATH": "/usr/bin:/bin"}
            command = [sys.executable, "-m", "benchmarks.recovery", "--home", home, *sys.argv[1:]]
            sys.exit(subprocess.run(command, env=environment, check=False).returncode)
    settings = load_settings()
    with running_platform(settings):
        shop = _open_shop(settings, args.rate)
        try:
            rounds = [_measure(settings, args.jvm) for _ in range(args.kills)]
        finally:
            shop.terminate()
            shop.wait(30)
    for name in rounds[0]:
        values = sorted(found[name] for found in rounds)
        print(f"{name:28} median {statistics.median(values):6.1f} s   all {', '.join(f'{v:.1f}' for v in values)}")


def _measure(settings: Settings, kill_jvm: bool) -> dict[str, float]:
    (group,) = load_stream_groups()
    with dg.DagsterInstance.get() as instance:

        def healthy_host() -> Heartbeat | None:
            report = read_report(instance, group.name)
            if report is None or report.heartbeat.phase != "running" or not is_alive(report.heartbeat.process):
                return None
            run = _run(instance, group.name, report.heartbeat.run_id)
            return report.heartbeat if run is not None and run.committed else None

        host = _wait_for(healthy_host, "a run that has committed")
        table = Path(settings.lakehouse, "silver", "events")
        before = _newest_version(table)
        victim = host.jvm if kill_jvm and host.jvm is not None else host.process
        killed = time.time()
        kill(victim)
        _wait_for(lambda: _has_ended(instance, group.name, host.run_id), "the run to be seen as ended")
        noticed = time.time()
        successor = _wait_for(lambda: _successor(instance, group.name, host.run_id), "its successor")
        _wait_for(lambda: _newest_version(table) > before, "the first new commit")
        first = next(commit for commit in read_commits(table) if commit.version > before and commit.at > killed)
    return {
        "noticed": noticed - killed,
        "successor requested": successor.created_at - killed,
        "successor's process up": (successor.started_at or noticed) - killed,
        "kill -9 to first commit": first.at - killed,
    }


def _run(instance: dg.DagsterInstance, group: str, run_id: str) -> RunView | None:
    return next((run for run in read_runs(instance, group, 5) if run.run_id == run_id), None)


def _has_ended(instance: dg.DagsterInstance, group: str, run_id: str) -> bool:
    run = _run(instance, group, run_id)
    return run is not None and run.status in FINISHED


def _successor(instance: dg.DagsterInstance, group: str, run_id: str) -> RunView | None:
    newest = read_runs(instance, group, 1)[0]
    return newest if newest.run_id != run_id and newest.started_at is not None else None


def _newest_version(table: Path) -> int:
    return max((int(log.stem) for log in (table / "_delta_log").glob("[0-9]*.json")), default=-1)


def _wait_for(condition: Callable[[], T | None], what: str) -> T:
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(POLL_SECONDS)
    raise SystemExit(f"Waited {LIMIT_SECONDS:.0f} s in vain for {what}.")


def _open_shop(settings: Settings, rate: str) -> subprocess.Popen[bytes]:
    with KafkaResource.from_settings(settings) as kafka:
        kafka.ensure_topic(settings.topic, settings.topic_partitions)
    command = [sys.executable, "-m", "jobs.cli", "simulate", "--rate", rate, "--seed", "1", "--quiet"]
    return subprocess.Popen(command, start_new_session=True)


if __name__ == "__main__":
    main()
