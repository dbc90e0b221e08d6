"""Does to a whole platform under live load what a failure table lists, and certifies that no row was lost or doubled.

For each fault: when the supervisor noticed it, the phases it showed, and the longest time without a commit in
`silver.events`. At the end every record that Kafka holds is in exactly one row of one table, every asset check
passes, and no process is left. Run: `make chaos` (about 45 minutes); ARGS='--only "kill -9 of the JVM"' for one row, or
the long form, ARGS="--faults 30 --rate 2000": drawn at random, at random moments, from a seed that is printed.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.silver_commits import read_commits
from jobs.supervision.model import Phase
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.live_platform import ChaosError, LivePlatform

# In the long form a fault meets any moment between two starts, not only the first after recovery.
MOST_SECONDS_BETWEEN = 20.0


@dataclass(frozen=True)
class Outcome:
    """One row of the report. Seconds since the strike; `noticed` None: the phase never changed."""

    fault: str
    noticed: float | None
    phases: tuple[Phase, ...]
    longest_pause: float
    runs: int

    def line(self) -> str:
        """As Markdown."""
        noticed = "" if self.noticed is None else f"{self.noticed:.0f} s"
        shown = " → ".join(self.phases)
        return f"| {self.fault} | {noticed} | {shown} | {self.longest_pause:.0f} s | {self.runs} |"


def main() -> None:
    """Exit code 0: everything balanced."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=500, help="live events a second (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="of the order and the shop")
    parser.add_argument("--faults", type=int, metavar="N", help="long form: N at random moments instead of each once")
    parser.add_argument("--only", action="append", metavar="FAULT", help="this one; may be repeated")
    parser.add_argument("--home", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.home is None:
        with tempfile.TemporaryDirectory(prefix="headrace-chaos-") as home:
            environment = {"HEADRACE_HOME": home, "HEADRACE_STUCK_TIMEOUT_SECONDS": "60", "PATH": os.environ["PATH"]}
            command = [sys.executable, "-m", "tests.chaos", "--home", home, *sys.argv[1:], "--seed", str(args.seed)]
            sys.exit(subprocess.run(command, env=environment, check=False).returncode)
    faults = [fault for fault in FAULTS if not args.only or fault.name in args.only]
    if not faults:
        parser.error("no such fault; there are: " + "; ".join(fault.name for fault in FAULTS))
    rng = random.Random(args.seed)
    if args.faults:
        faults = rng.choices([fault for fault in faults if fault.is_random], k=args.faults)
    rng.shuffle(faults)
    pauses = [rng.uniform(0, MOST_SECONDS_BETWEEN) if args.faults else 0.0 for _ in faults]
    print(f"{len(faults)} faults at {args.rate} events/s, seed {args.seed}", flush=True)
    try:
        _torture(LivePlatform(args.rate, args.seed), list(zip(faults, pauses, strict=True)))
    except ChaosError as error:
        sys.exit(f"FAILED: {error}")


def _torture(platform: LivePlatform, faults: list[tuple[Fault, float]]) -> None:
    try:
        platform.start()
        print("| fault | noticed | phases shown | longest time without a commit | new runs |\n|---|---|---|---|---|")
        broken, outcomes = [], []
        for fault, pause in faults:
            try:
                platform.await_healthy()
                time.sleep(pause)
                outcomes.append(_provoke(platform, fault))
                print(outcomes[-1].line(), flush=True)
            except ChaosError as error:
                broken.append(f"{fault.name}: {error}")
                print(f"| {fault.name} | FAILED: {error} | | | |", flush=True)
        _certify(platform, outcomes)
        if broken:
            raise ChaosError("\n".join(broken))
    finally:
        platform.end()
    left = platform.processes_left()
    if left:
        raise ChaosError(f"processes are left: {left}")


def _provoke(platform: LivePlatform, fault: Fault) -> Outcome:
    struck, runs = time.time(), len(platform.runs())
    fault.strike(platform)
    platform.await_healthy()
    sights = platform.watch.shown_since(struck)
    shown = tuple(sight.phase for sight in sights)
    remaining = iter(shown)
    if not all(phase in remaining for phase in fault.shows):
        raise ChaosError(f"showed {' → '.join(shown)} and not {' → '.join(fault.shows)}")
    if platform.watch.most_writers > 1:
        raise ChaosError(f"{platform.watch.most_writers} writers lived at once")
    noticed = sights[1].at - struck if len(sights) > 1 else None
    return Outcome(fault.name, noticed, shown, _longest_pause(platform, struck), len(platform.runs()) - runs)


def _longest_pause(platform: LivePlatform, struck: float) -> float:
    commits = [commit.at for commit in read_commits(Path(platform.settings.lakehouse, "silver", "events"))]
    before = max((at for at in commits if at <= struck), default=struck)
    moments = [before, *(at for at in commits if at > struck), time.time()]
    return max(later - earlier for earlier, later in pairwise(moments))


def _certify(platform: LivePlatform, outcomes: list[Outcome]) -> None:
    platform.stop_shop()
    platform.wait_for(lambda: platform.read_balance()[1] == 0, "everything is read")
    sent, lost, doubled = platform.read_balance()
    platform.compute_reports()  # a fault may have cut short the hour's run
    check = platform.run("check")
    verdict = "passed" if check.returncode == 0 else "FAILED"
    times = [outcome.longest_pause for outcome in outcomes if outcome.runs]
    if len(times) > 1:
        p99 = statistics.quantiles(times, n=100, method="inclusive")[98]
        print(f"time without a commit where the run died: p50 {statistics.median(times):.0f} s, p99 {p99:.0f} s")
    print(f"faults survived {len(outcomes)} · records {sent:,} · lost {lost} · doubled {doubled}")
    print(f"writers at once {platform.watch.most_writers} · asset checks {verdict}")
    if lost or doubled or check.returncode != 0:
        raise ChaosError(check.stdout + check.stderr)


if __name__ == "__main__":
    main()
