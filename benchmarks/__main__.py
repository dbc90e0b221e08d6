"""All measurements, one after the other: `make bench`, or `make bench ARGS=ingest` for one."""

from __future__ import annotations

import runpy
import sys

BENCHMARKS = ("simulator_rate", "ingest", "latency", "recovery", "cost", "soak")

if __name__ == "__main__":
    wanted = sys.argv[1:] or list(BENCHMARKS)
    if unknown := set(wanted) - set(BENCHMARKS):
        sys.exit(f"Unknown: {', '.join(sorted(unknown))}. There are: {', '.join(BENCHMARKS)}.")
    for name in wanted:
        sys.argv = [name]
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")
