"""Streams over one table, held against their twin on a batch and their rule in SQL, in batches with restarts."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
from deltalake import write_deltalake

from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.delta_tables import create_table
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.stream_spec import TableStream
from platform_assets.tables.platform import COMPLETE_UNTIL, LATE_EVENTS
from platform_assets.tables.spec import TableSpec
from resources.lakehouse import LakehouseResource
from tests.bounded_run import run_to_end
from tests.spark.report_cases import Event, read_rows

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class StreamsOverTable:
    """The streams over a table of accepted records, and how such records are made.

    `as_rows` makes rows of the table from generated records, the first of which has the given Kafka offset. `closer`
    is alone on a later day: it lets the watermarks pass all that is before, and its own windows stay open. `windows`:
    size and slide in seconds; a stream without has a pause after which a row is closed, in `pauses`. `grows_late`:
    streams in which an event may continue a row that was closed before it came.
    """

    table: TableSpec
    streams: Mapping[str, TableStream]
    as_rows: Callable[[Sequence[Event], int], pa.Table]
    closer: Event
    windows: Mapping[str, tuple[float, float]]
    pauses: Mapping[str, timedelta]
    grows_late: frozenset[str] = frozenset()

    def ask_rule(self, name: str, events: Sequence[Event]) -> list[dict[str, Any]]:
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.register("events", self.as_rows(events, 0))
            found = connection.sql(self.streams[name].rule or "").to_arrow_table().to_pylist()
        return in_order(self.streams[name], found)

    def run_twin(self, spark: SparkSession, name: str, events: Sequence[Event]) -> list[dict[str, Any]]:
        return self._transform(spark, name, self.as_rows(events, 0))

    def append(self, lakehouse: LakehouseResource, events: Sequence[Event], first_offset: int = 0) -> None:
        """Writes the table as its stream would have."""
        table = create_table(lakehouse.table_uri(self.table.name), self.table)
        write_deltalake(table, self.as_rows(events, first_offset), mode="append")

    def run(self, spark: SparkSession, lakehouse: LakehouseResource, names: Sequence[str] = ()) -> None:
        """One bounded run of the named streams (default: all) over what the table holds now, from checkpoints on."""
        context = StreamContext(lakehouse.root_uri, {}, "earliest", 1, 1.0, 1, None)
        streams = [stream for name, stream in self.streams.items() if not names or name in names]
        run_to_end(QueryGroup(spark, streams, context))

    def arrive(
        self, spark: SparkSession, lakehouse: LakehouseResource, parts: Sequence[list[Event]], names: Sequence[str] = ()
    ) -> list[Event]:
        """Each part is one commit and one run of the streams (default: all), from checkpoints on. Gives all events."""
        arrived: list[Event] = []
        for part in parts:
            self.append(lakehouse, part, first_offset=len(arrived))
            arrived += part
            self.run(spark, lakehouse, names)
        return arrived

    def assert_equal_twins(self, spark: SparkSession, lakehouse: LakehouseResource, arrived: Sequence[Event]) -> None:
        shown = self.as_rows(arrived, 0)
        closed = shown.filter(pa.array([e != self.closer for e in arrived]))
        for name, stream in self.streams.items():
            # A stream that upserts shows the closer's own windows too, which are open.
            twin = self._transform(spark, name, shown if stream.write_mode == "upsert" else closed)
            assert in_order(stream, read_rows(lakehouse, stream.main_table.name)) == twin, name

    def assert_restarts_change_nothing(
        self, spark: SparkSession, lakehouse: LakehouseResource, events: list[Event], chance: random.Random
    ) -> None:
        """Batches that arrive in the order of time, each in any order within: so nothing is late."""
        parts = cut(sorted(events, key=lambda e: e["event_time"]), chance)
        for part in parts:
            chance.shuffle(part)
        arrived = self.arrive(spark, lakehouse, [*parts[:-1], [*parts[-1], self.closer]])
        assert read_rows(lakehouse, LATE_EVENTS.name) == []
        self.assert_equal_twins(spark, lakehouse, arrived)

    def assert_late_are_listed_and_repaired(
        self, spark: SparkSession, lakehouse: LakehouseResource, events: list[Event], chance: random.Random
    ) -> None:
        """Batches of events from anywhere: those that a watermark refuses are listed one by one, and made good."""
        chance.shuffle(events)
        parts = cut(events, chance)
        arrived = self.arrive(spark, lakehouse, [*parts[:-1], [*parts[-1], self.closer]])
        listed = read_rows(lakehouse, LATE_EVENTS.name)
        assert all(row["repaired_at"] is not None for row in listed)
        refused = [(r["query"], r["kafka_offset"], r["refused_windows"]) for r in listed if r["refused_windows"]]
        assert sorted(refused) == sorted(self.refuse(parts)) != []
        # What else is listed was read, and continues what was closed before it came.
        assert {row["query"] for row in listed if not row["refused_windows"]} <= self.grows_late
        self.assert_equal_twins(spark, lakehouse, arrived)
        states = read_rows(lakehouse, COMPLETE_UNTIL.name)
        assert {row["query"]: (row["complete_until"], row["late_events_pending"]) for row in states} == {
            name: (self.closer["event_time"] - stream.source.watermark_delay, 0)
            for name, stream in self.streams.items()
        }

    def refuse(self, parts: Sequence[list[Event]]) -> set[tuple[str, int, int]]:
        """The oracle: by brute force, what each stream's watermark refuses and how many windows of it."""
        refused = set()
        type_column = self.table.roles.event_type or ""
        for name, stream in self.streams.items():
            offset = 0
            newest: datetime | None = None
            for part in parts:
                watermark = None if newest is None else newest - stream.source.watermark_delay
                for e in part:
                    closed = 0 if watermark is None else self._count_closed(name, e["event_time"], watermark)
                    if closed and e[type_column] in (stream.source.event_types or [e[type_column]]):
                        refused.add((name, offset, closed))
                    offset += 1
                times = [e["event_time"].replace(microsecond=e["event_time"].microsecond // 1000 * 1000) for e in part]
                newest = max([*times, *([] if newest is None else [newest])])
        return refused

    def _transform(self, spark: SparkSession, name: str, rows: pa.Table) -> list[dict[str, Any]]:
        stream = self.streams[name]
        found = stream.transform(spark.createDataFrame(rows).select(*stream.source.columns))
        return in_order(stream, found.toArrow().to_pylist())

    def _count_closed(self, name: str, at: datetime, watermark: datetime) -> int:
        if name in self.pauses:
            return int(at + self.pauses[name] <= watermark)
        size, slide = self.windows[name]
        first = datetime.fromtimestamp(at.timestamp() // slide * slide - size, UTC)
        starts = [first + timedelta(seconds=slide * n) for n in range(int(size / slide) + 1)]
        ends = [start + timedelta(seconds=size) for start in starts if start <= at < start + timedelta(seconds=size)]
        return sum(end <= watermark for end in ends)


def in_order(stream: TableStream, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the columns of the stream's table, times in UTC, by the table's key."""
    names = [column.name for column in stream.main_table.columns]
    plain = [
        {name: row[name].astimezone(UTC) if isinstance(row[name], datetime) else row[name] for name in names}
        for row in rows
    ]
    return sorted(plain, key=lambda row: str(tuple(row[name] for name in stream.main_table.key)))


def cut(events: list[Event], chance: random.Random) -> list[list[Event]]:
    """Three parts, cut anywhere."""
    cuts = sorted(chance.sample(range(1, len(events)), 2))
    return [events[a:b] for a, b in zip([0, *cuts], [*cuts, len(events)], strict=True)]
