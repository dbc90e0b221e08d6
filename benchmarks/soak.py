"""Whether a group that runs on stays as it is: memory, batch durations, state and files of all streams over time.

The simulated shop sends with its usual faults (late, repeated and malformed records), so that quarantine,
deduplication and repair run too. Every ten seconds a sample goes to a CSV file; from it come a picture and a few lines:
slopes by least squares over the last two thirds, for what a process does first says little of how it goes on.

With `--backlog-minutes 45` the group first reads what it would have read in that time, while the shop already sends:
when the samples begin, state is as large as it ever gets (a view waits 40 minutes for its purchases).
Run: `make bench ARGS=soak` (about 21 minutes; with a backlog, half an hour more).
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from pathlib import Path
from typing import TextIO

from benchmarks.catch_up import wait_for_all
from benchmarks.live_application import LiveRun, exit_on_sigterm, running_group, running_shop, send_history
from benchmarks.soak_report import draw, print_summary, read_samples
from benchmarks.soak_samples import FIELDS, Sampler
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streams import load_streams
from resources.embedded.broker import running_broker
from resources.settings import Settings

SAMPLE_SECONDS = 10.0


def main() -> None:
    """Runs the group, writes samples and picture, prints the summary. The samples stay if the group fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--backlog-minutes", type=float, default=0.0, help="read before the first sample")
    parser.add_argument("--rate", type=int, default=2_000, help="live records a second")
    parser.add_argument("--csv", type=Path, default=Path("build/soak.csv"), help="where samples go")
    parser.add_argument("--png", type=Path, default=Path("docs/images/soak.png"), help="where the picture goes")
    args = parser.parse_args()
    exit_on_sigterm()
    for path in (args.csv, args.png):
        path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as home:
        _record(Settings(home=Path(home), kafka_bootstrap_servers=""), args)
    samples = read_samples(args.csv)
    draw(samples, args.png, f"All streams at {args.rate:,} events/s")
    print_summary(samples)


def _record(settings: Settings, args: argparse.Namespace) -> None:
    with running_broker(settings), args.csv.open("w", newline="") as file:
        if args.backlog_minutes:
            send_history(settings, args.backlog_minutes, args.rate)
        with running_shop(settings, args.rate), running_group(settings, load_streams(), QueryGroup) as run:
            began = time.monotonic()
            wait_for_all(run, settings, load_streams())
            print(f"everything was read after {time.monotonic() - began:.0f} s", flush=True)
            _sample(run, settings, args.minutes * 60, file)


def _sample(run: LiveRun, settings: Settings, seconds: float, file: TextIO) -> None:
    sampler = Sampler(run.session, Path(settings.lakehouse))
    writer = csv.writer(file)
    writer.writerow(FIELDS)
    began = time.monotonic()
    for number in range(1, round(seconds / SAMPLE_SECONDS) + 1):
        run.pass_time(began + number * SAMPLE_SECONDS - time.monotonic())
        writer.writerows(sampler.take(time.monotonic() - began))
        file.flush()


if __name__ == "__main__":
    main()
