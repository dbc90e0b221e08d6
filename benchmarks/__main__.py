"""All measurements, one after the other: `make bench`, or `make bench ARGS=ingest` for one.

Options go with one: `make bench ARGS="soak --minutes 60"`.
"""

from __future__ import annotations

import itertools
import runpy
import sys

BENCHMARKS = (
    "simulator_rate",
    "ingest",
    "secured_ingest",
    "batch_memory",
    "sent_again",
    "latency",
    "recovery",
    "broker_kill",
    "backup_pause",
    "idle",
    "ticks",
    "scrape",
    "live_page",
    "many_topics",
    "event_log",
    "ledger_audit",
    "ledger_history",
    "day_reads",
    "cost",
    "catch_up",
    "state_restore",
    "reports",
    "backfill",
    "waits",
    "customers",
    "check_memory",
    "recommendations",
    "busy_user",
    "large_records",
    "scoring",
    "fraud_quality",
    "telemetry_quality",
    "network_threats",
    "unknown_schemas",
    "merged_rows",
    "upgrade",
    "sinks",
    "publishing",
    "alerts",
    "soak",
)

if __name__ == "__main__":
    names = list(itertools.takewhile(lambda argument: not argument.startswith("-"), sys.argv[1:]))
    options = sys.argv[1 + len(names) :]
    if unknown := set(names) - set(BENCHMARKS):
        sys.exit(f"Unknown: {', '.join(sorted(unknown))}. There are: {', '.join(BENCHMARKS)}.")
    if options and len(names) != 1:
        sys.exit("Options go with one benchmark: name it first.")
    for name in names or BENCHMARKS:
        sys.argv = [name, *options]
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")
