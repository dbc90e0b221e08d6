"""What a replay from Kafka reads: the records again, the tables that have them, and records in no table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from platform_assets.checks.ledger_entries import ARRIVAL_COLUMNS, Entry
from platform_assets.streaming.checkpoint.checkpoint import OffsetRange
from platform_assets.streaming.delta.reader import DeltaReader
from platform_assets.streaming.ingest.kafka_ranges import read_ranges
from platform_assets.streaming.ingest.record_parser import parse_batch, parsed_schema
from platform_assets.streaming.moments import count_micros
from platform_assets.streaming.register.forgotten_users import Register
from platform_assets.streaming.repair.expiry import read_expired
from platform_assets.streaming.repair.table_difference import select_columns
from platform_assets.streaming.stream_spec import KafkaStream
from platform_assets.tables.coordinates import COORDINATES
from platform_assets.tables.platform import ERASED_RECORDS, EXPIRED_ROWS
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    import numpy.typing as npt
    from pyspark.sql import DataFrame, SparkSession

    from platform_assets.streaming.arrays import Int64s
    from platform_assets.streaming.context import StreamContext
    from platform_assets.streaming.topic_spec import Topic

# Within the topic; with `record_index` where Kafka records hold lists.
PLACE = COORDINATES[1:]
_INDEX = "record_index"
_UTC_MICROS = pa.timestamp("us", tz="UTC")


def merge_ranges(entries: Iterable[Entry]) -> list[OffsetRange]:
    """What the batches of these accounts have read, as few ranges as that takes."""
    merged: list[OffsetRange] = []
    for entry in sorted(entries, key=lambda e: (e.topic, e.kafka_partition, e.from_offset)):
        last = merged[-1] if merged else None
        same = last is not None and (last.topic, last.kafka_partition) == (entry.topic, entry.kafka_partition)
        if last is not None and same and entry.from_offset <= last.until_offset:
            merged[-1] = replace(last, until_offset=max(last.until_offset, entry.until_offset))
        else:
            merged.append(OffsetRange(entry.topic, entry.kafka_partition, entry.from_offset, entry.until_offset))
    return merged


def intersect(wanted: Iterable[OffsetRange], read: Sequence[OffsetRange]) -> list[OffsetRange]:
    """The parts of the wanted ranges that have been read."""
    both = [
        OffsetRange(a.topic, a.kafka_partition, max(a.from_offset, b.from_offset), min(a.until_offset, b.until_offset))
        for a in wanted
        for b in read
        if (a.topic, a.kafka_partition) == (b.topic, b.kafka_partition)
    ]
    return [found for found in both if found.length > 0]


def read_records(
    session: SparkSession, context: StreamContext, topic: Topic, ranges: Sequence[OffsetRange]
) -> DataFrame:
    """The topic's records as the current parser has them (`parsed_schema`). Fails where Kafka no longer holds one.

    They are judged as if they came now: what was not too far ahead when it came is less so now.
    """
    from pyspark.sql.pandas.types import from_arrow_schema

    now_micros = count_micros(datetime.now(UTC))
    max_bytes, rules = context.max_record_bytes, context.event_rules
    # A person has called it: each id is asked for.
    schemas = None if context.schemas is None else replace(context.schemas, asks_for_all=True)

    def parse(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return (parse_batch(batch, topic, now_micros, max_bytes, rules, schemas) for batch in batches if len(batch))

    # A topic's partition may be read in several ranges, which one read of Spark's takes one of.
    parts = (read_ranges(session, context, [part], topic.has_headers) for part in ranges)
    records = reduce(lambda one, other: one.union(other), parts)
    return records.mapInArrow(parse, from_arrow_schema(parsed_schema(topic)))


def read_rows(
    session: SparkSession, context: StreamContext, spec: TableSpec, ranges: Sequence[OffsetRange], arrival: str,
    since: datetime,
) -> DataFrame:  # fmt: skip
    """A table's rows of these ranges of a topic that arrived (column `arrival`) after `since`, when it was made."""
    from pyspark.sql import functions as F

    inside = [
        (F.col("kafka_partition") == r.kafka_partition)
        & F.col("kafka_offset").between(r.from_offset, r.until_offset - 1)
        for r in ranges
    ]
    rows = select_columns(session.read.format("delta").load(context.table_uri(spec.name)), spec.columns)
    of_topic = (F.col("topic") == ranges[0].topic) & (F.col(arrival) > F.lit(since))
    return rows.where(of_topic & reduce(lambda one, other: one | other, inside))


def find_lost(
    session: SparkSession, context: StreamContext, stream: KafkaStream, records: DataFrame,
    ranges: Sequence[OffsetRange], read_accounts: Callable[[pa.Table], Sequence[Entry]], since: datetime,
) -> tuple[pa.Table, list[str]]:  # fmt: skip
    """Rows for the main table of records that a batch has read and no table has; and of others of these, in sentences.

    They arrive when that batch did: `read_accounts` gives the accounts in which records are. Left out: what the parser
    refuses, what repeats an accepted event, forgotten users, and days that the table keeps no longer.
    """
    topic = context.ingest[stream.name].topic
    tables = dict(zip(ARRIVAL_COLUMNS.values(), (*stream.tables, ERASED_RECORDS), strict=True))
    is_list = stream.topic.is_list
    known = [
        select_place(read_rows(session, context, spec, ranges, arrival, since), is_list)
        for arrival, spec in tables.items()
    ]
    lost = join_by_place(records, reduce(lambda one, other: one.union(other), known), is_list, "left_anti")
    rows = lost.select(*parsed_schema(stream.topic).names).toArrow()
    if not len(rows):
        return _as_rows(rows, np.zeros(0, np.int64), topic), []
    accepted = rows.filter(rows["_reason"].is_null())
    roles = stream.main_table.roles
    is_forgotten = Register(context).names.find_rows(accepted, roles.user_id)
    new = ~(_find_repeated(session, context, stream, accepted) | is_forgotten)
    is_over = _find_expired(context, stream, accepted)
    gone = int((new & is_over).sum())
    found = accepted.filter(pa.array(new & ~is_over))
    arrivals = find_arrivals(read_accounts(found), found)
    names = (_INDEX, *reversed(PLACE)) if is_list else tuple(reversed(PLACE))
    order = np.lexsort((*(found[name].to_numpy() for name in names), arrivals))
    found, arrivals = found.take(pa.array(order)), arrivals[order]
    if roles.event_id is not None:
        # The record of an event that arrived first counts, as when the stream reads it.
        _, first = np.unique(np.array(found[roles.event_id].to_pylist(), dtype=object), return_index=True)
        found, arrivals = found.take(pa.array(np.sort(first))), arrivals[np.sort(first)]
    left = len(rows) - len(found) - gone
    notes = [f"{len(found):,} records were in no table: they are added."] if len(found) else []
    notes += [f"{left:,} other records are in no table: refused, a repetition, or of a forgotten user."] if left else []
    notes += (
        [f"{gone:,} records are of days that have expired (HEADRACE_RETENTION_DAYS): they stay out."] if gone else []
    )
    return _as_rows(found, arrivals, topic), notes


def select_place(rows: DataFrame, is_list: bool) -> DataFrame:
    """The places of these rows; the index is null for a row of quarantine, or of a whole Kafka record."""
    from pyspark.sql import functions as F

    if not is_list:
        return rows.select(*PLACE)
    return rows.select(*PLACE, F.col(_INDEX) if _INDEX in rows.columns else F.lit(None).cast("int").alias(_INDEX))


def join_by_place(one: DataFrame, other: DataFrame, is_list: bool, how: str = "inner") -> DataFrame:
    """Joins rows of records (as `l`) with others (as `r`) of the same: a row without an index is of a whole list."""
    from pyspark.sql import functions as F

    same = " and ".join(f"l.{name} = r.{name}" for name in PLACE)
    if is_list:
        same += f" and (l.{_INDEX} = r.{_INDEX} or l.{_INDEX} is null or r.{_INDEX} is null)"
    return one.alias("l").join(other.alias("r"), F.expr(same), how)


def _find_repeated(
    session: SparkSession, context: StreamContext, stream: KafkaStream, records: pa.Table
) -> npt.NDArray[np.bool_]:
    """Which of these records have the id of an accepted one; none where records have no id."""
    name = stream.main_table.roles.event_id
    if name is None:
        return np.zeros(len(records), bool)
    events = session.read.format("delta").load(context.table_uri(stream.main_table.name)).select(name)
    ids = session.createDataFrame(records.select([name])).distinct()
    return _is_in(records[name], ids.join(events, name, "left_semi").toArrow()[name])


def _find_expired(context: StreamContext, stream: KafkaStream, records: pa.Table) -> npt.NDArray[np.bool_]:
    """Which of these records are of days that the stream's table keeps no longer."""
    rows = DeltaReader(EXPIRED_ROWS, context).read_arrow().to_pylist()
    expired = read_expired(rows).get(stream.main_table.name)
    if expired is None:
        return np.zeros(len(records), bool)
    return np.array(pc.less(records["event_time"], pa.scalar(expired.start, _UTC_MICROS)))


def find_arrivals(entries: Sequence[Entry], records: pa.Table) -> Int64s:
    """When the batch that read each record had its time, in microseconds. Each must be in one of the entries.

    Of a day whose accounts are rolled up only the time of the last batch is known: it stands for all.
    """
    arrivals = np.zeros(len(records), np.int64)
    partitions, offsets = (records[name].to_numpy() for name in PLACE)
    for partition in np.unique(partitions):
        own = [e for e in entries if e.kafka_partition == partition and e.from_offset < e.until_offset]
        own.sort(key=lambda e: e.from_offset)
        starts = np.array([entry.from_offset for entry in own])
        is_own = partitions == partition
        place = np.searchsorted(starts, offsets[is_own], side="right") - 1
        arrivals[is_own] = np.array([entry.arrival_micros for entry in own])[place]
    return arrivals


def _is_in(texts: pa.ChunkedArray, known: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    import pyarrow.compute as pc

    return np.asarray(pc.is_in(texts, value_set=known.combine_chunks().cast(texts.type)))


def _as_rows(records: pa.Table, arrivals: Int64s, topic: str) -> pa.Table:
    return records.append_column("topic", pa.repeat(topic, len(records))).append_column(
        "ingested_at", pa.array(arrivals).cast(_UTC_MICROS)
    )
