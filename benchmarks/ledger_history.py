"""What accounts of many small batches cost: the ledger check and `explain` over a month of one-second batches.

`ledger_audit` writes a million rows a batch; here a batch has a few, and the batches are many: each second one, of
three partitions. The ledger is written as the streams write it and measured as it is, then rolled up as the group does
(all days but the last), and measured again. Each measurement runs in a process of its own; "nothing" is what such a
process takes by itself.
Run: `make bench ARGS=ledger_history` (some minutes, 1 GB of disk), `--days 7` for less.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from platform_assets.checks.ledger import audit_stream
from platform_assets.checks.ledger_proof import Proof
from platform_assets.delta_reader import read_portions
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table, name_transaction, open_table
from platform_assets.streaming.stream_spec import select_ingest
from platform_assets.streams import load_streams
from platform_assets.tables.platform import LEDGER
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource

PARTITIONS = 3
TOPIC = "shop"
FIRST_DAY = datetime(2026, 3, 1, tzinfo=UTC)
(EVENTS,) = select_ingest(load_streams())


def main() -> None:
    """Prints seconds and memory of each question."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--batches-a-day", type=int, default=86_400)
    parser.add_argument("--rows", type=int, default=1, help="of a batch and partition")
    parser.add_argument("--ask", help="internal: what is to be measured")
    parser.add_argument("--root", help="internal: the lakehouse")
    args = parser.parse_args()
    if args.ask:
        _ask(args.ask, args.root, args.batches_a_day)
        return
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as root:
        for day in range(args.days):
            _write_day(root, day, args.batches_a_day, args.rows)
        print(f"{args.days} days of {args.batches_a_day:,} batches, {PARTITIONS} partitions, {args.rows} row(s) each")
        questions = ("nothing", "check", "check from its proof", "explain old", "explain new", "replay")
        for state in ("as written", "rolled up"):
            print(f"The ledger {state}, {_count_rows(root):,} rows:")
            for question in questions:
                print(f"  {question}: {_measure(root, question)}", flush=True)
            Path(root, "proof").unlink()
            if state == "as written":
                print(f"Rolled up: {_measure(root, 'roll up')}", flush=True)


def _measure(root: str, question: str) -> str:
    command = [sys.executable, "-m", "benchmarks.ledger_history", "--ask", question, "--root", root, *sys.argv[1:]]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _ask(question: str, root: str, batches_a_day: int) -> None:
    lakehouse = LakehouseResource(root=root)
    questions: dict[str, Callable[[], str]] = {
        "nothing": lambda: "",
        "check": partial(_check, lakehouse, Path(root, "proof")),
        "check from its proof": partial(_check, lakehouse, Path(root, "proof")),
        "explain old": partial(_explain, lakehouse, 7),
        "explain new": partial(_explain, lakehouse, None),
        "replay": partial(_read_accounts, lakehouse),
        "roll up": partial(_roll_up, root, batches_a_day),
    }
    began, used = time.perf_counter(), time.process_time()
    said = questions[question]()
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    print(f"{seconds:.1f} s ({cpu:.1f} CPU-s, {_peak_mib():,.0f} MiB) {said}")


def _peak_mib() -> float:
    # `getrusage` would give the peak of the process that started this one, where that was the larger.
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _check(lakehouse: LakehouseResource, path: Path) -> str:
    proof = Proof.load(path.read_text()) if path.exists() else None
    audit = audit_stream(EVENTS, lakehouse, KafkaResource(), proof)
    assert not audit.breaches, audit.breaches
    path.write_text(audit.proof.dump())
    return f"{audit.totals['rows_in']:,} records, {audit.totals['batches']:,} batches"


def _explain(lakehouse: LakehouseResource, offset: int | None) -> str:
    from jobs.operations.explain import explain

    if offset is None:
        rows = lakehouse.delta_table(LEDGER.name).to_pyarrow_dataset()
        portions = read_portions(rows, ["until_offset"])
        offset = max(portion["until_offset"].to_numpy().max() for portion in portions if len(portion)) - 1
    return explain(load_streams(), lakehouse, KafkaResource(), offset=f"{TOPIC}/1/{offset}")[0]


def _read_accounts(lakehouse: LakehouseResource) -> str:
    from jobs.operations.replay.kafka_records import merge_ranges
    from platform_assets.checks.ledger_entries import read_all_entries

    events, ledger = lakehouse.delta_table(EVENTS.main_table.name), lakehouse.delta_table(LEDGER.name)
    return f"{len(merge_ranges(read_all_entries(EVENTS.name, events, ledger)))} ranges were read"


def _roll_up(root: str, batches_a_day: int) -> str:
    from platform_assets.streaming.ledgers.ledger_days import LedgerDays

    days, rounds = LedgerDays(_context(root), [EVENTS.name]), 0
    days_written = _count_rows(root) // PARTITIONS // batches_a_day
    now = FIRST_DAY + timedelta(days=days_written - 1, hours=7)  # the last day is not over yet
    while days.roll_up(now):
        rounds += 1
    return f"in {rounds} rounds"


def _context(root: str) -> StreamContext:
    return StreamContext(root, {}, "earliest", 1, 1.0, 1, None)


def _count_rows(root: str) -> int:
    return sum(open_table(f"{root}/platform/ledger").get_add_actions(flatten=True)["num_records"].to_pylist())


def _write_day(root: str, day: int, batches: int, each: int) -> None:
    """A day of accounts, in a file an hour, and its rows of the stream's table."""
    import numpy as np
    import pyarrow as pa
    from deltalake import CommitProperties, write_deltalake

    context = _context(root)
    for table in EVENTS.tables:
        create_table(context.table_uri(table.name), table)
    main = open_table(context.table_uri(EVENTS.main_table.name))
    numbers = np.arange(day * batches, (day + 1) * batches)
    times = (FIRST_DAY.timestamp() * 1e6 + numbers * (timedelta(days=1).total_seconds() * 1e6 / batches)).astype(int)
    date = (FIRST_DAY + timedelta(days=day)).date()
    in_files = [np.repeat(column, PARTITIONS * each) for column in (numbers, times)]
    partition = np.tile(np.arange(PARTITIONS, dtype=np.int32).repeat(each), batches)
    offsets = in_files[0] * each + np.tile(np.arange(each), batches * PARTITIONS)
    known = {
        "topic": pa.repeat(TOPIC, len(offsets)), "kafka_partition": pa.array(partition),
        "kafka_offset": pa.array(offsets), "event_date": pa.repeat(date, len(offsets)),
    }  # fmt: skip
    moments = pa.array(in_files[1]).cast(pa.timestamp("us", "UTC"))
    known |= dict.fromkeys(("event_time", "ingested_at", "kafka_timestamp"), moments)
    write_deltalake(main, _fill(build_arrow_schema(EVENTS.main_table), known, len(offsets)), mode="append")
    ledger = create_table(context.table_uri(LEDGER.name), LEDGER)
    app = CommitProperties(app_transactions=[name_transaction(f"headrace/ledger/{EVENTS.name}", main.version())])
    for low in range(0, batches, batches // 24):
        part = numbers[low : low + batches // 24]
        rows, count = np.repeat(part, PARTITIONS), len(part) * PARTITIONS
        accounts = {
            "query": pa.repeat(EVENTS.name, count), "txn_app_id": pa.repeat("headrace/events/benchmark", count),
            "batch_id": pa.array(rows), "table_version": pa.repeat(main.version(), count),
            "topic": pa.repeat(TOPIC, count),
            "kafka_partition": pa.array(np.tile(np.arange(PARTITIONS, dtype=np.int32), len(part))),
            "from_offset": pa.array(rows * each), "until_offset": pa.array(rows * each + each),
            **dict.fromkeys(("rows_in", "accepted"), pa.repeat(each, count)),
            **dict.fromkeys(("quarantined", "deduplicated", "erased"), pa.repeat(0, count)),
            "gaps": pa.repeat("[]", count),
            "arrived_at": pa.array(np.repeat(times[low : low + len(part)], PARTITIONS)).cast(pa.timestamp("us", "UTC")),
        }  # fmt: skip
        data = _fill(build_arrow_schema(LEDGER), accounts, count)
        write_deltalake(ledger, data, mode="append", commit_properties=app)


def _fill(schema: Any, known: dict[str, Any], count: int) -> Any:
    """A table with these columns; others are null, or an empty text where they take none."""
    import pyarrow as pa

    def fill(field: Any) -> Any:
        return pa.nulls(count, field.type) if field.nullable else pa.repeat("", count)

    return pa.table([known.get(field.name, fill(field)) for field in schema], names=schema.names).cast(schema)


if __name__ == "__main__":
    main()
