"""Measures kill -9 of the streaming run to the first new commit in `silver.events`, with the real supervisor.

The whole platform runs headless in a fresh home under live load; each round kills the run's process (or, with
`--jvm`, its JVM) without warning and waits for the next version of the table. The first failure restarts without
delay, later ones in a row would wait (back-off), so a round begins when the run has committed again.
Run: `make bench ARGS=recovery` (about five minutes on two cores).
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import dagster as dg

from benchmarks.live_platform import run_in_fresh_home, running_platform_and_shop, wait_for
from benchmarks.silver_commits import read_commits
from jobs.supervision.lease import read_report
from jobs.supervision.model import FINISHED, Heartbeat, RunView
from jobs.supervision.run_records import read_runs
from platform_assets.streams import load_stream_groups
from resources.processes import is_alive, kill
from resources.settings import Settings


def main() -> None:
    """Runs the rounds and prints, phase by phase, median, 99th percentile and all values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--rate", default="200", help="live events a second")
    parser.add_argument("--jvm", action="store_true", help="kill the JVM instead of the run's process")
    parser.add_argument("--home", help="internal: the home of the measured platform")
    args = parser.parse_args()
    if args.home is None:
        run_in_fresh_home("benchmarks.recovery")
    with running_platform_and_shop(args.rate) as settings:
        rounds = [_measure(settings, args.jvm) for _ in range(args.kills)]
    for name in rounds[0]:
        values = sorted(found[name] for found in rounds)
        p99 = f"p99 {statistics.quantiles(values, n=100, method='inclusive')[98]:6.1f} s   " if len(values) > 1 else ""
        print(f"{name:28} p50 {statistics.median(values):6.1f} s   {p99}all {', '.join(f'{v:.1f}' for v in values)}")


def _measure(settings: Settings, kill_jvm: bool) -> dict[str, float]:
    (group,) = load_stream_groups()
    with dg.DagsterInstance.get() as instance:

        def healthy_host() -> Heartbeat | None:
            report = read_report(instance, group.name)
            if report is None or report.heartbeat.phase != "running" or not is_alive(report.heartbeat.process):
                return None
            run = _run(instance, group.name, report.heartbeat.run_id)
            return report.heartbeat if run is not None and run.committed else None

        host = wait_for(healthy_host, "a run that has committed")
        table = Path(settings.lakehouse, "silver", "events")
        before = _newest_version(table)
        victim = host.jvm if kill_jvm and host.jvm is not None else host.process
        killed = time.time()
        kill(victim)
        wait_for(lambda: _has_ended(instance, group.name, host.run_id), "the run to be seen as ended")
        noticed = time.time()
        successor = wait_for(lambda: _successor(instance, group.name, host.run_id), "its successor")
        wait_for(lambda: _newest_version(table) > before, "the first new commit")
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


if __name__ == "__main__":
    main()
