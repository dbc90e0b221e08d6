"""Measures what `gold.network_threats` finds of planted attacks, and how wrong `gold.bandwidth_forecast` is.

Access logs are simulated, read by the stream's own parser and judged by the reports' SQL, without Kafka and tables. An
attack is found where one of its networks has a row on one of its days; a row is right where its network is an
attacker's. Run: `make bench ARGS=network_threats` (some minutes on two cores).
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa

from jobs.simulator.access_log_profile import PATTERNS, AccessLogProfile
from jobs.simulator.access_logs import AccessLogs
from platform_assets.reports.bandwidth_forecast import BANDWIDTH_FORECAST, HISTORY
from platform_assets.reports.network_threats import NETWORK_THREATS
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.ingest.record_parser import parse_batch
from platform_assets.streams.traffic_by_minute import STREAM
from platform_assets.topics.access_logs import TOPIC

_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
_LINES_OF_ONE_BATCH = 20_000


def main() -> None:
    """Prints recall by pattern, precision by rule, and the forecast's errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=3, help="days of attacks")
    parser.add_argument("--rate", type=float, default=1.0, help="lines a second, with attacks")
    parser.add_argument("--attacks", type=float, default=0.08, help="share of lines that are of an attack")
    parser.add_argument("--quiet-rate", type=float, default=0.05, help="lines a second for the forecast, without")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    _measure_threats(args)
    _measure_forecast(args)


def _measure_threats(args: argparse.Namespace) -> None:
    start = int(datetime(2026, 11, 2, tzinfo=UTC).timestamp()) * _SECOND
    end = start + args.days * _DAY
    lines = AccessLogs(AccessLogProfile(attacks=args.attacks), args.seed)
    with _open(lines, start, end, args.rate) as connection:
        ((total,),) = connection.sql("SELECT count(*) FROM access_logs").fetchall()
        rows = connection.sql(NETWORK_THREATS.sql).to_arrow_table().to_pylist()
    # Begun before the first line or not at its end by the last one, an attack is not all there.
    whole = [attack for attack in lines.planted if start <= attack.first and attack.last < end]
    names = {attack: {lines.find_network(number) for number in attack.networks} for attack in whole}
    found = {(row["network"], row["report_date"]) for row in rows}
    print(f"{total} lines of {args.days} days, {len(whole)} attacks, {len(rows)} rows\n\n| pattern | attacks | found |")
    for pattern in PATTERNS:
        own = [attack for attack in whole if attack.pattern == pattern]
        seen = sum(any((name, _day_of(at)) in found for name in names[attack] for at in (attack.first, attack.last))
                   for attack in own)  # fmt: skip
        print(f"| {pattern} | {len(own)} | {seen} |")
    attackers = {lines.find_network(number) for attack in lines.planted for number in attack.networks}
    rules, right = Counter(row["rule"] for row in rows), Counter(r["rule"] for r in rows if r["network"] in attackers)
    print("\n| rule | rows | of an attacker |")
    for rule, count in sorted(rules.items()):
        print(f"| {rule} | {count} | {right[rule]} |")


def _measure_forecast(args: argparse.Namespace) -> None:
    end = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp()) * _SECOND
    start = end - (HISTORY + 1) * _DAY
    lines = AccessLogs(AccessLogProfile(attacks=0.0), args.seed)
    with _open(lines, start, end, args.quiet_rate) as connection:
        connection.execute("CREATE VIEW events AS SELECT * FROM access_logs")
        connection.execute(f"CREATE TABLE traffic_by_minute AS {STREAM.rule}")
        rows = connection.sql(BANDWIDTH_FORECAST.sql).to_arrow_table().to_pylist()
    last = [row for row in rows if row["report_date"] == _day_of(end - 1)]
    sent, error, naive = (
        sum(row[name] for row in last) for name in ("mean_bytes", "mean_error_bytes", "naive_error_bytes")
    )
    print(f"\n{len(last)} hours of hosts; mean absolute error of the last two weeks as a share of what was sent:")
    print(f"forecast {error / sent:.1%}, as on the day before {naive / sent:.1%}")


def _open(lines: AccessLogs, start: int, end: int, rate: float) -> duckdb.DuckDBPyConnection:
    """The lines as rows of silver.access_logs in memory."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for number, batch in enumerate(_read(lines, start, end, rate)):
        connection.register("batch", batch)
        what = "INSERT INTO access_logs" if number else "CREATE TABLE access_logs AS"
        connection.execute(f"{what} SELECT * FROM batch WHERE _reason IS NULL")
    return connection


def _read(lines: AccessLogs, start: int, end: int, rate: float) -> Iterator[pa.RecordBatch]:
    values: list[bytes | None] = []
    for _, _, value in lines.history(start, end, rate):
        values.append(value)
        if len(values) == _LINES_OF_ONE_BATCH:
            yield _parse(values, end)
            values = []
    if values:
        yield _parse(values, end)


def _parse(values: list[bytes | None], arrival: int) -> pa.RecordBatch:
    count = len(values)
    moment = datetime.fromtimestamp(arrival / _SECOND, UTC)
    batch = pa.record_batch(
        {
            "key": pa.nulls(count, pa.binary()),
            "value": pa.array(values, pa.binary()),
            "partition": pa.array([0] * count, pa.int32()),
            "offset": pa.array(range(count), pa.int64()),
            "timestamp": pa.array([moment] * count, pa.timestamp("us", tz="UTC")),
        }
    )
    return parse_batch(batch, TOPIC, arrival, 1 << 20, EventRules())


def _day_of(micros: int) -> Any:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)).date()


if __name__ == "__main__":
    main()
