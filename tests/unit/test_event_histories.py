"""Whatever clocks, zones, silences, repeats and crashes there were: tables and frontier are those of the rules in SQL.

The writer of the stream over Kafka writes real tables and reads its state back from them after each end of its process.
Spark has no part in what is decided; it reads Kafka, and writes down what a batch is.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given

from platform_assets.errors import GroupOwnedError
from platform_assets.streaming.checkpoint.checkpoint import OffsetRange, PlannedBatch
from platform_assets.streaming.context import KafkaIngest, StreamContext
from platform_assets.streaming.delta.delta_tables import open_table
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.ingest.event_writer import EventWriter
from platform_assets.streaming.ingest.record_files import WrittenRecords, write_records
from platform_assets.streaming.stream_spec import select_ingest
from platform_assets.streaming.topic_snapshot import Ends
from platform_assets.streams import load_streams
from tests.generated_cases import examples
from tests.unit.event_histories import HORIZON, MAX_OFFSETS, History, Oracle, Step, as_kafka_batch, histories

(STREAM,) = select_ingest(load_streams())
TOPIC, APP = "shop", "headrace/events/generation"
MAX_BYTES = 1 << 20
PLACE = ["kafka_partition", "kafka_offset"]


class Process:
    """A process with the writer of the stream, that may die at any commit and be started again."""

    def __init__(self, root: str, zone: str, fetch_ends: Callable[[], Ends] | None = None) -> None:
        self._commits_left: int | None = None
        self._context = StreamContext(
            root, {}, "earliest", MAX_OFFSETS, 1.0, MAX_BYTES, HORIZON, EventRules(zone),
            ingest={STREAM.name: KafkaIngest(TOPIC, fetch_ends=fetch_ends)}, check_lease=self._count_commit,
            read_records=lambda *_: iter(()),
        )  # fmt: skip
        self.restart()

    def restart(self) -> None:
        self._commits_left = None
        self._writer = EventWriter(STREAM, self._context)

    def take(self, step: Step, number: int) -> None:
        if step.mark is not None:
            self._writer.advance_idle_frontier(step.mark)
        else:
            self._take_batch(step, number)
        if step.restarts:
            self.restart()

    def read_frontier(self) -> int | None:
        return self._writer._read_frontier().micros

    def rows(self, table: int, columns: list[str]) -> list[tuple[Any, ...]]:
        """Rows of the stream's first, second or third table."""
        found = open_table(self._context.table_uri(STREAM.tables[table].name)).to_pyarrow_table(columns=columns)
        return [tuple(row.values()) for row in found.to_pylist()]

    def _take_batch(self, step: Step, number: int) -> None:
        for commits in step.dies_at:
            self._commits_left = commits
            try:
                self._write(step, number)
            except GroupOwnedError:
                self.restart()
            self._commits_left = None
        self._write(step, number)
        if step.runs_twice:
            self.restart()
            self._write(step, number)

    def _write(self, step: Step, number: int) -> None:
        ranges = tuple(OffsetRange(TOPIC, partition, begin, until) for partition, begin, until in step.ranges)
        planned = PlannedBatch(number, step.arrival, ranges)
        written = [self._run_task(step, start, planned) for start in range(0, len(step.records), step.portion)]
        self._writer._write_tables(self._writer._judge(written, planned), planned, APP, None)

    def _run_task(self, step: Step, start: int, planned: PlannedBatch) -> WrittenRecords:
        records = as_kafka_batch(step.records[start : start + step.portion])
        # A task gets its records in several batches as well.
        batches = [records.slice(at, 2) for at in range(0, len(records), 2)]
        order = dataclasses.replace(self._writer._order(planned), read=lambda *_: iter(batches))
        return write_records(order, [])

    def _count_commit(self) -> None:
        if self._commits_left is None:
            return
        if self._commits_left == 0:
            raise GroupOwnedError("The process dies here.")
        self._commits_left -= 1


def check(history: History) -> None:
    with tempfile.TemporaryDirectory() as root, closing(Oracle(history)) as oracle:
        process = Process(root, history.zone)
        for number, (step, frontier) in enumerate(zip(history.steps, oracle.frontiers(), strict=True)):
            process.take(step, number)
            found = process.read_frontier()
            # A percentile is interpolated: each engine rounds it in its own way.
            assert found == pytest.approx(frontier, abs=2), f"frontier after step {number}"
        accepted = process.rows(0, [*PLACE, "event_time", "is_anonymous"])
        assert sorted((p, o, to_micros(at), flag) for p, o, at, flag in accepted) == oracle.accepted()
        assert sorted(process.rows(1, PLACE)) == oracle.quarantined()
        columns = [*PLACE, "kept_partition", "kept_offset", "is_same_content"]
        repeated = {row[:2]: row[2:] for row in process.rows(2, columns)}
        expected = {(p, o): kept for p, o, kept in oracle.repeated()}
        assert repeated.keys() == expected.keys()
        for place, kept in repeated.items():
            assert kept in expected[place], place


def to_micros(moment: Any) -> int:
    return int(pa.scalar(moment, pa.timestamp("us", tz="UTC")).cast(pa.int64()).as_py())


@examples(50, quick=15)
@given(histories())
def test_tables_and_time_are_those_of_the_rules(history: History) -> None:
    check(history)
