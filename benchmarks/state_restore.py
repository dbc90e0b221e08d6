"""How long the first batch of a join takes after a kill -9, by how many changes of state Spark may have to repeat.

A backlog is read until the join holds all of it as state, then the process is killed; its successor's first batch
loads the newest snapshot and repeats the changes since. Each setting of `minDeltasForSnapshot` has a home of its own.
Run: `make bench ARGS=state_restore` (about ten minutes); ARGS="state_restore --deltas 2 --minutes 50".
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from benchmarks.catch_up import POLL_SECONDS, send_backlog, wait_for_all
from benchmarks.live_application import LiveRun, running_group
from benchmarks.query_reports import BatchReport, read_newest_batches
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streams import load_streams
from resources.embedded.broker import running_broker
from resources.settings import Settings

_JOIN = "view_to_purchase"
_STREAMS = [stream for stream in load_streams() if stream.name in ("events", _JOIN)]
_DELTAS = "spark.sql.streaming.stateStore.minDeltasForSnapshot"
# A few seconds' worth: what is measured is the state, not the batch's own rows.
_MORE_MINUTES = 0.05


def main() -> None:
    """Prints a line a setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deltas", type=int, action="append", help="default: 10 (Spark's own), 2")
    parser.add_argument("--minutes", type=float, default=15.0, help="length of the backlog")
    parser.add_argument("--rate", type=int, default=2_000, help="events a second in it")
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--fill", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.home is not None:
        _host(args.home, args.deltas[0], die=args.fill)
        return
    for deltas in args.deltas or (10, 2):
        with tempfile.TemporaryDirectory(prefix="headrace-bench-") as home:
            settings = _settings(Path(home), deltas)
            command = [sys.executable, "-m", "benchmarks.state_restore", "--home", home, "--deltas", str(deltas)]
            with running_broker(settings):
                send_backlog(settings, args.minutes, args.rate)
                filled = subprocess.run([*command, "--fill"], check=False)
                assert filled.returncode == -signal.SIGKILL
                send_backlog(settings, _MORE_MINUTES, args.rate, "later")
                subprocess.run(command, check=True)


def _settings(home: Path, deltas: int) -> Settings:
    return Settings(home=home, kafka_bootstrap_servers="", spark_conf={_DELTAS: str(deltas)})


def _host(home: Path, deltas: int, *, die: bool) -> None:
    settings = _settings(home, deltas)
    with running_group(settings, _STREAMS, QueryGroup) as run:
        if not die:
            first = _wait_for_batch(run)
            print(f"  first batch after the kill {first.seconds:.0f} s", flush=True)
            return
        wait_for_all(run, settings, _STREAMS)
        newest = read_newest_batches(run.session)[_JOIN]
        print(f"minDeltasForSnapshot {deltas}: {newest.state_rows:,} rows of state, last batch {newest.seconds:.0f} s")
        sys.stdout.flush()
        for child in psutil.Process().children(recursive=True):  # no supervisor is here to end what is left
            child.kill()
        os.kill(os.getpid(), signal.SIGKILL)


def _wait_for_batch(run: LiveRun) -> BatchReport:
    while _JOIN not in (batches := read_newest_batches(run.session)):
        run.pass_time(POLL_SECONDS)
    return batches[_JOIN]


if __name__ == "__main__":
    main()
