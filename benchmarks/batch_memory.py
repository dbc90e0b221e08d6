"""How much memory the stream `events` takes for one batch, by the number of its records, deduplication on.

A process of its own for each size reads a topic of clean events in a single batch. The driver's Python and the JVM are
measured by their highest resident memory, Python workers by the highest of their sums, looked at five times a second.
Run: `make bench ARGS=batch_memory` (about five minutes), or `ARGS="batch_memory --sizes 200000 1000000"`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from benchmarks import ingest
from benchmarks.own_environment import ROOT, of_checkout
from benchmarks.spark_usage import spark_rss_mib
from resources.embedded.broker import EmbeddedBroker
from resources.settings import Settings


def main() -> None:
    """Fills a topic for each size, reads it, prints a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[200_000, 1_000_000, 5_000_000])
    parser.add_argument("--servers", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.servers:
        with tempfile.TemporaryDirectory(prefix="headrace-bench-") as temporary:
            print(json.dumps(_read(args.servers, args.sizes[0], Path(temporary))))
        return
    for size in args.sizes:
        with tempfile.TemporaryDirectory(prefix="headrace-bench-") as temporary:
            broker = EmbeddedBroker(Path(temporary))
            servers = broker.start().bootstrap_servers
            try:
                ingest._fill_topic(Path(temporary), size)
                done = subprocess.run(
                    [sys.executable, "-m", "benchmarks.batch_memory", "--sizes", str(size), "--servers", servers],
                    cwd=ROOT, env=of_checkout(ROOT), check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                    text=True,
                )  # fmt: skip
            finally:
                broker.stop()
        peaks = json.loads(done.stdout.splitlines()[-1])
        print(f"{size:10,} records", *(f"{name} {mib:,.0f} MiB" for name, mib in peaks.items()), flush=True)


def _read(servers: str, size: int, folder: Path) -> dict[str, float]:
    settings = Settings(
        home=folder / "home", kafka_bootstrap_servers=servers, topic=ingest.TOPIC, max_offsets_per_trigger=size
    )
    peaks: dict[str, float] = {}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            for name, mib in spark_rss_mib().items():
                peaks[name] = max(peaks.get(name, 0.0), mib)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        # The first pass only: a second batch would find the first one's memory.
        ingest.run_headrace(settings, 0, folder / "tables")
    finally:
        done.set()
        watcher.join()
    return peaks


if __name__ == "__main__":
    main()
