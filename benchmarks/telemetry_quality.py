"""Measures how well `gold.telemetry_anomalies` finds planted anomalies, and what a day of it and of its check costs.

A history of simulated sensors, whose anomalies the simulation knows, is written straight into the table, without Kafka.
Of the last days it prints by pattern how many were found, and by rule how many rows are about one. A row is about an
anomaly of its sensor and kind that it overlaps, or that ended within the hours before: a level that comes back is a
step too. Patterns that the thresholds have no rule for are counted apart. Run: `make bench ARGS=telemetry_quality`.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from deltalake import write_deltalake

from jobs.simulator.planted_anomalies import Planted
from jobs.simulator.sensor_signals import SIGNALS, SensorSignals
from jobs.simulator.telemetry import Telemetry
from jobs.simulator.telemetry_profile import TelemetryProfile
from platform_assets.checks.recomputed.snapshots import Portion, Snapshot
from platform_assets.checks.recomputed.telemetry_anomalies import recompute_anomalies
from platform_assets.reports.days import DayRange
from platform_assets.reports.telemetry_anomalies import build_anomalies_sql
from platform_assets.reports.telemetry_thresholds import load_thresholds
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.topics.telemetry import TELEMETRY

_FIRST = datetime(2026, 3, 1, tzinfo=UTC)
_MICROS = 1_000_000
_BATCH = 100_000


def main() -> None:
    """Prints what was found of what was planted, and CPU-seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=10, help="of which the first seven are only looked back to")
    parser.add_argument("--sensors", type=int, default=24)
    parser.add_argument("--patients", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=120.0, help="between two readings of a sensor's kind")
    parser.add_argument("--after-hours", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    quiet = {"late": 0, "out_of_order": 0, "duplicates": 0, "unknown_fields": 0}
    profile = TelemetryProfile(sensors=args.sensors, patients=args.patients).with_malformed(0).with_rates(quiet)
    channels = len(SensorSignals(profile, 0))
    telemetry, start = Telemetry(profile, args.seed), round(_FIRST.timestamp()) * _MICROS
    end = start + args.days * 86_400 * _MICROS
    with tempfile.TemporaryDirectory() as folder:
        uri = str(Path(folder) / "telemetry")
        rows = _write(uri, telemetry, start, end, channels / args.seconds)
        last = (_FIRST + timedelta(days=args.days - 1)).date()
        days = DayRange(last - timedelta(days=args.days - 8), last)
        table = create_table(uri, TELEMETRY)
        report, seconds = _timed(lambda: _compute(table, days))
        sources = {TELEMETRY.name: Snapshot(table, TELEMETRY)}
        _, check_seconds = _timed(lambda: recompute_anomalies(sources, last, Portion(0, 1)).collect())
    whole = len(days.days())
    print(f"{rows:,} readings of {channels} channels; report {seconds / whole:.1f} CPU-s a day of "
          f"{rows // args.days:,} readings, its check {check_seconds:.1f}")  # fmt: skip
    begin = round(datetime(days.first.year, days.first.month, days.first.day, tzinfo=UTC).timestamp()) * _MICROS
    known = telemetry.list_planted(start, end)
    _print_found(report, [each for each in known if each.start >= begin])
    _print_true(report, known, timedelta(hours=args.after_hours))


def _write(uri: str, telemetry: Telemetry, start: int, end: int, rate: float) -> int:
    table, schema, rows = create_table(uri, TELEMETRY), build_arrow_schema(TELEMETRY), list[dict[str, Any]]()
    written = 0
    for offset, (_, _, value) in enumerate(telemetry.history(start, end, rate)):
        read = json.loads(value or b"")
        at = datetime.fromisoformat(read.pop("timestamp"))
        place = {"topic": "t", "kafka_partition": 0, "kafka_offset": offset, "kafka_timestamp": at, "ingested_at": at}
        rows.append({**read, **place, "event_id": str(offset), "event_time": at, "event_date": at.date()})
        if len(rows) == _BATCH:
            write_deltalake(table, pa.Table.from_pylist(rows, schema), mode="append")
            written, rows = written + len(rows), []
    write_deltalake(table, pa.Table.from_pylist(rows, schema), mode="append")
    return written + len(rows)


def _compute(table: Any, days: DayRange) -> list[dict[str, Any]]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET memory_limit = '1GB'")
        connection.register("telemetry", table.to_pyarrow_dataset())
        connection.execute(f"CREATE TEMP VIEW report_days AS {days.relation()}")
        return connection.sql(build_anomalies_sql(load_thresholds())).to_arrow_table().to_pylist()


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    before = used()
    return work(), used() - before


def _print_found(report: Sequence[dict[str, Any]], planted: Sequence[Planted]) -> None:
    limits = {each.kind: each for each in load_thresholds()}
    noise = {signal.kind: signal.noise for signal in SIGNALS}
    all_, found = Counter[str](), Counter[str]()
    for each in planted:
        pattern = each.pattern
        has_rule = limits[each.kind].stuck_minutes is not None if pattern == "stuck" else noise[each.kind] > 0
        name = pattern if has_rule else f"{pattern}, without a rule"
        all_[name] += 1
        found[name] += any(_is_about(row, each, timedelta(0)) for row in report)
    for name in sorted(all_):
        print(f"{name}: {found[name]} of {all_[name]}")


def _print_true(report: Sequence[dict[str, Any]], planted: Sequence[Planted], after: timedelta) -> None:
    wrong = [each for each in planted if each.pattern != "unit_change"]
    rows, true = Counter[str](), Counter[str]()
    for row in report:
        rows[row["rule"]] += 1
        true[row["rule"]] += any(_is_about(row, each, after) for each in wrong)
    for rule in sorted(rows):
        print(f"rows of {rule}: {rows[rule]}, about an anomaly: {true[rule]}")


def _is_about(row: dict[str, Any], planted: Planted, after: timedelta) -> bool:
    start, end = (datetime.fromtimestamp(micros / _MICROS, UTC) for micros in (planted.start, planted.end))
    is_same = (row["sensor"], row["kind"]) == (planted.sensor, planted.kind)
    # A silence begins with the last reading before it.
    return is_same and row["start_time"] < end + after and row["end_time"] >= start - timedelta(minutes=5)


if __name__ == "__main__":
    main()
