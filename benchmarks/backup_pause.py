"""Measures for how long the streams rest for a nightly backup, and the gap that it leaves in `silver.events`' commits.

The whole platform runs headless in a fresh home under live load, on a lakehouse that grows between the rounds. Each
round makes a backup, rehearses its restore, and waits for the next commit. The last round is a backup of streams that
are paused for all of the copy, for comparison.
Run: `make bench ARGS=backup_pause` (about eight minutes on two cores).
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

import dagster as dg

from benchmarks.live_platform import run_in_fresh_home, running_platform_and_shop, wait_for
from benchmarks.silver_commits import read_commits
from jobs.operations.backup import back_up_live
from jobs.operations.lakehouse_copy import LakehouseCopy
from jobs.operations.nightly_backup import make_nightly_backup
from jobs.supervision.lease import read_report
from platform_assets.streams import load_all_stream_groups
from resources.processes import is_alive
from resources.settings import Settings


def main() -> None:
    """Runs the rounds and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", default="500", help="live events a second")
    parser.add_argument("--minutes", type=float, default=1.0, help="of streaming before each round")
    parser.add_argument("--home", help="internal: the home of the measured platform")
    args = parser.parse_args()
    if args.home is None:
        run_in_fresh_home("benchmarks.backup_pause")
    with running_platform_and_shop(args.rate) as settings, dg.DagsterInstance.get() as instance:
        settings = settings.model_copy(update={"backup_place": f"{args.home}/backups"})
        for number in range(args.rounds + 1):
            _await_commits(settings, instance, args.minutes * 60)
            print(_measure(settings, instance, is_plain=number == args.rounds), flush=True)


def _await_commits(settings: Settings, instance: dg.DagsterInstance, seconds: float) -> None:
    table, (group, *_) = Path(settings.lakehouse, "silver", "events"), settings.groups.split(",")

    def beats() -> bool:
        report = read_report(instance, group)
        return report is not None and report.heartbeat.phase == "running" and is_alive(report.heartbeat.process) is True

    wait_for(lambda: beats() and table.exists() and list(read_commits(table)), "a run that has committed")
    time.sleep(seconds)


def _measure(settings: Settings, instance: dg.DagsterInstance, *, is_plain: bool) -> str:
    table, groups, begun = Path(settings.lakehouse, "silver", "events"), load_all_stream_groups(), time.time()
    if is_plain:  # as without the first part: everything is copied while the streams rest
        approach = LakehouseCopy.approach
        LakehouseCopy.approach = lambda self: None  # type: ignore[method-assign]
        live = back_up_live(groups, settings, f"{settings.home}/plain", instance)
        LakehouseCopy.approach = approach  # type: ignore[method-assign]
        rehearsed = "not rehearsed"
    else:
        night = make_nightly_backup(groups, settings, instance, lambda line: None)
        live, rehearsed = night.live, f"rehearsed in {night.rehearsal.seconds:.1f} s"
    ended = time.time()
    wait_for(lambda: max(commit.at for commit in read_commits(table)) > ended, "a commit after the backup")
    commits = [commit.at for commit in read_commits(table) if commit.at > begun - 30]
    gap = max(later - earlier for earlier, later in itertools.pairwise(commits))
    size = live.manifest.size_bytes / 2**20
    return (
        f"{'all at rest' if is_plain else 'live'}: {len(live.manifest.tables)} tables, {size:.0f} MiB in "
        f"{ended - begun:.1f} s ({rehearsed}); owned for {live.rest_seconds:.2f} s; longest time without a commit "
        f"{gap:.1f} s"
    )


if __name__ == "__main__":
    main()
