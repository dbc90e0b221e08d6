"""What the ledger check costs at 1, 10 and 100 million rows: the full audit, and one that goes on from a proof.

Rows are made up (coordinates and times; all other columns null) and written by the stream's own writer, a million a
batch, so that the table is a real one; `ledger_history` has accounts of many small batches. Each audit runs in a
process of its own.
Run: `make bench ARGS=ledger_audit` (some ten minutes, 3 GB of disk).
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from platform_assets.checks.ledger import audit_stream
from platform_assets.checks.ledger_proof import Proof
from platform_assets.streaming.checkpoint.checkpoint import OffsetRange, PlannedBatch
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.batch_writer import DeltaBatchWriter
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streaming.ingest.batch_ledger import PartitionEntry, build_batch_commit
from platform_assets.streaming.stream_spec import select_ingest
from platform_assets.streams import load_streams
from platform_assets.tables.platform import LEDGER
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource

PARTITIONS = 3
BATCH_ROWS = 999_999
TOPIC = "shop"
(EVENTS,) = select_ingest(load_streams())


def main() -> None:
    """Prints seconds and memory of each audit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=int, nargs="*", default=[1, 10, 100])
    parser.add_argument("--audit", help="internal: the lakehouse to audit")
    parser.add_argument("--proof", help="internal: where the proof lies")
    args = parser.parse_args()
    if args.audit:
        _audit(args.audit, Path(args.proof))
        return
    for millions in args.millions:
        with tempfile.TemporaryDirectory(prefix="headrace-bench-") as root:
            proof = Path(root, "proof")
            _write(root, range(millions))
            full = _measure(root, proof)
            _write(root, range(millions, millions + 1))
            print(f"{millions:4} million rows: full {full}; a million later, from its proof {_measure(root, proof)}")


def _measure(root: str, proof: Path) -> str:
    command = [sys.executable, "-m", "benchmarks.ledger_audit", "--audit", root, "--proof", str(proof)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _audit(root: str, path: Path) -> None:
    proof = Proof.load(path.read_text()) if path.exists() else None
    began, used = time.perf_counter(), time.process_time()
    audit = audit_stream(EVENTS, LakehouseResource(root=root), KafkaResource(), proof)
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    assert not audit.breaches, audit.breaches
    path.write_text(audit.proof.dump())
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{seconds:.1f} s ({cpu:.1f} CPU-s, {mib:,.0f} MiB)")


def _write(root: str, batches: range) -> None:
    import numpy as np
    import pyarrow as pa

    context = StreamContext(root, {}, "earliest", 1, 1.0, 1, None)
    main, *_ = (DeltaBatchWriter(table, context) for table in EVENTS.tables)
    create_table(context.table_uri(LEDGER.name), LEDGER)
    schema = build_arrow_schema(EVENTS.main_table)
    each = BATCH_ROWS // PARTITIONS
    for batch in batches:
        at = 1_772_000_000_000_000 + batch * 1_000_000
        low, high = batch * each, (batch + 1) * each
        ranges = tuple(OffsetRange(TOPIC, partition, low, high) for partition in range(PARTITIONS))
        known = {
            "topic": pa.repeat(TOPIC, BATCH_ROWS),
            "kafka_partition": pa.array(np.repeat(np.arange(PARTITIONS, dtype=np.int32), each)),
            "kafka_offset": pa.array(np.tile(np.arange(low, high), PARTITIONS)),
            "ingested_at": pa.repeat(pa.scalar(at, pa.int64()).cast(pa.timestamp("us", tz="UTC")), BATCH_ROWS),
            "event_date": pa.repeat(pa.scalar(0, pa.int32()).cast(pa.date32()), BATCH_ROWS),
        }
        columns = [
            known.get(
                field.name,
                pa.nulls(BATCH_ROWS, field.type) if field.nullable else _fill(field.type, known["ingested_at"]),
            )
            for field in schema
        ]
        planned = PlannedBatch(batch, at, ranges)
        entries = [PartitionEntry(each_range, each, 0, 0, 0, ()) for each_range in ranges]
        commit = build_batch_commit(EVENTS.name, "headrace/events/benchmark", planned, "", entries)
        main.append(pa.table(columns, schema=schema), commit)


def _fill(kind: Any, times: Any) -> Any:
    """Values of a column that takes no nulls: an empty text, or a time."""
    import pyarrow as pa

    return times if pa.types.is_timestamp(kind) else pa.repeat("", BATCH_ROWS)


if __name__ == "__main__":
    main()
