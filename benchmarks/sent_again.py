"""What it costs to find events that are sent again after the horizon, by their number and by the size of the table.

    make bench ARGS=sent_again

Tables of some days of a million events each, twelve files a day, rows in the order of their time. Events of one day
are sent again, spread over its hours, or all of one hour. Medians of five look-ups, in this process's CPU-seconds.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.delta.reader import DeltaReader
from platform_assets.streaming.ingest.sent_again import find_sent_again
from platform_assets.tables.spec import TableSpec
from platform_assets.topics.events import EVENTS, TOPIC

DAYS = (1, 5, 20)
EVENTS_OF_A_DAY = 1_000_000
FILES_OF_A_DAY = 12
AGAIN = (1, 10, 100, 1_000)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_HOUR = 3_600 * 1_000_000


def main() -> None:
    """Prints a line for each table and number of events: CPU-milliseconds, spread over a day and within an hour."""
    with tempfile.TemporaryDirectory() as folder:
        context = StreamContext(folder, {}, "earliest", 1, 1.0, 1, None)
        table, day = DeltaReader(EVENTS, context), 0
        for days in DAYS:
            while day < days:
                _write_day(Path(folder), EVENTS, day)
                day += 1
            for count in AGAIN:
                spread, near = (_measure(table, count, hours) for hours in (24, 1))
                print(
                    f"{days:3} million events, {count:5} sent again: {spread:7.1f} ms in a day, {near:6.1f} in an hour"
                )


def _micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _event_id(day: int, number: int) -> str:
    return str(uuid.UUID(int=(day << 64) + number * 0x9E3779B97F4A7C15 % (1 << 64)))


def _times(day: int, numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pa.Array:
    micros = _micros(BEGIN + timedelta(days=day)) + numbers * (24 * _HOUR // EVENTS_OF_A_DAY)
    return pa.array(micros).cast(pa.timestamp("us", tz="UTC"))


def _write_day(root: Path, spec: TableSpec, day: int) -> None:
    from deltalake import write_deltalake

    schema = build_arrow_schema(spec)
    for numbers in np.array_split(np.arange(EVENTS_OF_A_DAY), FILES_OF_A_DAY):
        times, count = _times(day, numbers), len(numbers)
        columns = {
            "event_id": pa.array([_event_id(day, number) for number in numbers.tolist()]),
            "event_type": pa.repeat("page_view", count), "user_id": pa.array([f"user-{n % 5000}" for n in numbers]),
            "event_time": times, "ingested_at": times, "kafka_timestamp": times,
            "event_date": pa.repeat(pa.scalar((BEGIN + timedelta(days=day)).date()), count),
            "topic": pa.repeat("t", count), "kafka_partition": pa.repeat(pa.scalar(0, pa.int32()), count),
            "kafka_offset": pa.array(numbers + day * EVENTS_OF_A_DAY),
        }  # fmt: skip
        rows = pa.table([columns.get(f.name, pa.nulls(count, f.type)) for f in schema], schema=schema)
        write_deltalake(root / "silver" / "events", rows, mode="append")


def _measure(table: DeltaReader, count: int, hours: int) -> float:
    """Median CPU-milliseconds of a look-up of `count` events of the first day."""
    chance, taken = np.random.default_rng(7), []
    arrival = _micros(BEGIN + timedelta(days=400))
    for _ in range(5):
        numbers = chance.choice(EVENTS_OF_A_DAY * hours // 24, count, replace=False)
        ids = pa.array([_event_id(0, number) for number in numbers.tolist()])
        records = pa.table({"event_id": ids, "event_time": _times(0, numbers)})
        begun = time.process_time()
        found = find_sent_again(TOPIC, table, records, arrival - 60 * 60_000_000)
        taken.append(time.process_time() - begun)
        assert found is not None and (found.coordinates >= 0).sum() == count
    return statistics.median(taken) * 1e3


if __name__ == "__main__":
    main()
