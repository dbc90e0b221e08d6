"""Does to a whole platform under live load what a failure table lists, and certifies that no row was lost or doubled.

For each fault: when the supervisor noticed it, the phases it showed, and the longest time without a commit in
`silver.events`. At the end every record that Kafka holds is in exactly one row of one table, the gold tables equal an
oracle's, every asset check passes, and no process is left. The order and the moments are random, from a seed that is
printed. Run: `make chaos` (about an hour); ARGS='--only "kill -9 of the JVM"' for one row; ARGS=--failures without what
people do to the tables; ARGS=--long at 2,000 events a second, while the clocks of half the processes are five seconds
ahead.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.silver_commits import read_commits
from jobs.supervision.model import Phase
from tests.chaos.fault import Fault
from tests.chaos.faults import FAILURES, FAULTS
from tests.chaos.live_platform import ChaosError, LivePlatform
from tests.chaos.oracles import count_differences

# A fault is to meet any moment of a run's life, not only the first after recovery.
MOST_SECONDS_BETWEEN = 15.0
RATE, LONG_RATE = 500, 2000
# Short of the default's ten minutes. At 2,000 events/s on two cores a join's first batch after a crash took one minute,
# and during a test run over four: it was stopped and begun again and again.
STUCK_SECONDS, LONG_STUCK_SECONDS = "60", "360"
LONG_SKEW_SECONDS = 5.0
# Settings of the caller's that hold for the platform too; all others are those of a new home.
_PASSED_ON = ("HEADRACE_SPARK_CONF", "HEADRACE_UPKEEP_SECONDS")


@dataclass(frozen=True)
class Outcome:
    """One row of the report. Seconds since the strike; `noticed` None: the phase never changed; `runs` are new ones."""

    fault: str
    noticed: float | None
    phases: tuple[Phase, ...]
    longest_pause: float
    runs: int
    over_after: float

    def line(self) -> str:
        """The result as a line of Markdown."""
        noticed = "" if self.noticed is None else f"{self.noticed:.0f} s"
        shown = " → ".join(self.phases)
        times = f"{self.longest_pause:.0f} s | {self.runs} | {self.over_after:.0f} s"
        return f"| {self.fault} | {noticed} | {shown} | {times} |"


def main() -> None:
    """Exit code 0: everything balanced."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, help=f"live events a second (default: {RATE}, --long: {LONG_RATE})")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="of the order and the shop")
    parser.add_argument("--long", action="store_true", help="under full load and with clocks that differ")
    parser.add_argument("--failures", action="store_true", help="without replays, forgetting, backups and their like")
    parser.add_argument("--minutes", type=float, default=math.inf, help="no further fault after this many minutes")
    parser.add_argument("--only", action="append", metavar="FAULT", help="this one; may be repeated")
    parser.add_argument("--home", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.home is None:
        with tempfile.TemporaryDirectory(prefix="headrace-chaos-") as home:
            limit = LONG_STUCK_SECONDS if args.long else STUCK_SECONDS
            environment = {"HEADRACE_HOME": home, "HEADRACE_STUCK_TIMEOUT_SECONDS": limit, "PATH": os.environ["PATH"]}
            environment |= {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
            command = [sys.executable, "-m", "tests.chaos", "--home", home, *sys.argv[1:], "--seed", str(args.seed)]
            tortured = subprocess.Popen(command, env=environment)
            signal.signal(signal.SIGTERM, lambda *_: tortured.terminate())
            sys.exit(tortured.wait())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Stopped."))  # the platform is ended on the way out
    faults = [f for f in (FAILURES if args.failures else FAULTS) if not args.only or f.name in args.only]
    if not faults:
        parser.error("no such fault; there are: " + "; ".join(fault.name for fault in FAULTS))
    rng = random.Random(args.seed)
    rng.shuffle(faults)
    rate = args.rate or (LONG_RATE if args.long else RATE)
    print(f"{len(faults)} faults at {rate} events/s, seed {args.seed}", flush=True)
    try:
        _torture(LivePlatform(rate, args.seed, LONG_SKEW_SECONDS if args.long else 0.0), faults, rng, args.minutes)
    except ChaosError as error:
        sys.exit(f"FAILED: {error}")


def _torture(platform: LivePlatform, faults: list[Fault], rng: random.Random, minutes: float) -> None:
    try:
        platform.start()
        print("| fault | noticed | phases shown | longest time without a commit | new runs | over after |")
        print("|---|---|---|---|---|---|")
        broken, outcomes = [], []
        deadline = time.monotonic() + minutes * 60
        for fault in faults:
            if time.monotonic() > deadline:
                break
            try:
                platform.await_healthy()
                time.sleep(rng.uniform(0, MOST_SECONDS_BETWEEN))
                outcomes.append(_provoke(platform, fault))
                print(outcomes[-1].line(), flush=True)
            except ChaosError as error:
                broken.append(f"{fault.name}: {error}")
                print(f"| {fault.name} | FAILED: {error} | | | | |", flush=True)
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
    pause, new_runs = _longest_pause(platform, struck), len(platform.runs()) - runs
    return Outcome(fault.name, noticed, shown, pause, new_runs, time.time() - struck)


def _longest_pause(platform: LivePlatform, struck: float) -> float:
    commits = [commit.at for commit in read_commits(Path(platform.settings.lakehouse, "silver", "events"))]
    before = max((at for at in commits if at <= struck), default=struck)
    moments = [before, *(at for at in commits if at > struck), time.time()]
    return max(later - earlier for earlier, later in pairwise(moments))


def _certify(platform: LivePlatform, outcomes: list[Outcome]) -> None:
    platform.stop_shop()
    platform.wait_for(lambda: platform.read_balance()[1] == 0, "everything is read")
    platform.await_read_through()
    sent, lost, doubled = platform.read_balance()
    platform.compute_reports()  # a fault may have cut short the hour's run
    check = platform.run("check")
    verdict = "passed" if check.returncode == 0 else "FAILED"
    times = [outcome.longest_pause for outcome in outcomes if outcome.runs]
    if len(times) > 1:
        p99 = statistics.quantiles(times, n=100, method="inclusive")[98]
        print(f"time without a commit where the run died: p50 {statistics.median(times):.0f} s, p99 {p99:.0f} s")
    _explain_some(platform)
    print(f"faults survived {len(outcomes)} · records {sent:,} · lost {lost} · doubled {doubled}")
    told = Counter(message["state"] for message in platform.webhook.messages)
    print(
        f"people were told: {', '.join(f'{state} {count} times' for state, count in told.most_common()) or 'nothing'}"
    )
    print(f"writers at once {platform.watch.most_writers} · asset checks {verdict}")
    rows, differences = count_differences(Path(platform.settings.lakehouse))
    print(f"final rows of gold tables {rows:,} · different from the oracles' {differences}")
    if lost or doubled or differences or check.returncode != 0:
        raise ChaosError(check.stdout + check.stderr)


def _explain_some(platform: LivePlatform) -> None:
    """The first and the last records of a partition, as a person asks for them."""
    end = platform.read_ends()[0]
    for offset in (0, end // 2, end - 1):
        said = platform.run("explain", "--offset", f"{platform.settings.topic}/0/{offset}")
        if said.returncode != 0 or not any(
            word in said.stdout for word in ("accepted", "quarantined", "repeats", "forgotten")
        ):
            raise ChaosError(f"explain of offset {offset} said: {said.stdout}{said.stderr}")


if __name__ == "__main__":
    main()
