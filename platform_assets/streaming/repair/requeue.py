"""Re-ingests quarantined records with the current parser, exactly once, and accounts for them in the ledger.

A record stays in quarantine, as what it was; `platform.requeued_records` says that it counts as accepted (or as a
repetition) since. That table is written first and names each record's outcome, so a requeue that was cut short is
finished from it, in the same way, by the next one. Nobody else may write the stream's tables meanwhile. Of many
records each portion is a requeue of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from platform_assets.errors import CheckpointMismatchError, UsageError
from platform_assets.streaming.arrow_types import as_arrow
from platform_assets.streaming.delta.batch_writer import DeltaBatchWriter
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.delta.reader import DeltaReader
from platform_assets.streaming.ingest.record_lists import PLACE_IN_LIST
from platform_assets.streaming.ingest.record_numbers import count_by_type
from platform_assets.streaming.ingest.record_parser import parse_batch, parsed_schema
from platform_assets.streaming.moments import count_micros
from platform_assets.streaming.register.forgotten_users import Register
from platform_assets.streaming.stream_spec import KafkaStream
from platform_assets.streaming.topic_tables import HEADERS_TYPE
from platform_assets.tables.coordinates import COORDINATES, Coordinates
from platform_assets.tables.platform import LOST_RANGES, REQUEUED_RECORDS

if TYPE_CHECKING:
    import pyarrow as pa

    from platform_assets.streaming.context import StreamContext

_APP = "headrace/requeue"
# Of what is parsed and written at a time: quarantine may hold gigabytes of records that were too large.
BYTES_OF_ONE_PORTION = 64 * 1024 * 1024
# A row without its value, as Python holds it.
_BYTES_OF_ONE_ROW = 1000
# Rows are read so many at a time: of 5 MB each they are 160 MB.
_ROWS_AT_A_TIME = 32
_IDS_AT_A_TIME = 64 * 1024


@dataclass(frozen=True)
class RecordFilter:
    """Which quarantined records: all that meet every condition given."""

    reasons: frozenset[str] = frozenset()
    since: datetime | None = None
    until: datetime | None = None
    places: frozenset[Coordinates] = frozenset()

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of quarantined records is selected; times are those of its arrival."""
        return (
            (not self.reasons or row["reason"] in self.reasons)
            and (self.since is None or row["quarantined_at"] >= self.since)
            and (self.until is None or row["quarantined_at"] < self.until)
            and (not self.places or Coordinates.of(row) in self.places)
        )


@dataclass(frozen=True)
class Requeue:
    """What a requeue would do: its rows of `REQUEUED_RECORDS`, and what the current parser still refuses, by reason."""

    marks: list[dict[str, Any]]
    refused: Mapping[str, int] = field(default_factory=dict)

    def count(self, outcome: str) -> int:
        """Records with this outcome; of a list each of its records."""
        return sum(mark["outcome"] == outcome for mark in self.marks)


class Requeuer:
    """Re-ingests quarantined records of the stream over Kafka.

    Call `finish` first, then `plan`, which changes nothing, then `commit`.
    """

    def __init__(self, stream: KafkaStream, context: StreamContext) -> None:
        self._query, self._topic = stream.name, stream.topic
        # Streams over other topics requeue their own records, perhaps at this moment.
        self._app = f"{_APP}/{stream.name}"
        self._max_bytes, self._rules = context.max_record_bytes, context.event_rules
        # A person has called it: each id is asked for.
        self._schemas = None if context.schemas is None else replace(context.schemas, asks_for_all=True)
        events, quarantined, deduplicated = stream.tables
        self._roles = events.roles
        self._events, self._deduplicated = DeltaBatchWriter(events, context), DeltaBatchWriter(deduplicated, context)
        self._quarantined = DeltaReader(quarantined, context)
        self._marks = DeltaBatchWriter(REQUEUED_RECORDS, context)
        self._lost = DeltaReader(LOST_RANGES, context)
        self._forgotten = Register(context).names

    def plan(self, record_filter: RecordFilter, by: str, now: datetime) -> Requeue:
        """What would become of the chosen records: of the first of them, where they are more than a portion."""
        return next(self.plan_portions(record_filter, by, now), Requeue([]))

    def plan_portions(self, record_filter: RecordFilter, by: str, now: datetime) -> Iterator[Requeue]:
        """Parses the chosen records anew, some megabytes at a time; each may be committed before the next is asked for.

        Raises `UsageError` for those of a topic that was created again since.
        """
        known, newest = self._read_known()
        taken: dict[str, Coordinates] = {}
        for rows in self._choose(record_filter, known):
            yield self._plan(rows, newest, taken, by, now)

    def _read_known(self) -> tuple[set[Coordinates], int]:
        """The records that were re-ingested before, and the newest number of a requeue."""
        from platform_assets.delta_reader import read_portions

        known, newest = set[Coordinates](), 0
        for portion in read_portions(self._marks.read_snapshot().to_pyarrow_dataset(), [*COORDINATES, "requeue"]):
            known.update(map(Coordinates.of, portion.to_pylist()))
            newest = max(newest, *portion["requeue"].to_pylist()) if len(portion) else newest
        return known, newest

    def _choose(self, record_filter: RecordFilter, known: Set[Coordinates]) -> Iterator[list[dict[str, Any]]]:
        """The chosen rows of quarantined records that are not known, in portions, each in the order of places."""
        import pyarrow.compute as pc

        arrived, when = pc.field("quarantined_at"), None
        if record_filter.since is not None:
            when = arrived >= record_filter.since
        if record_filter.until is not None:
            when = arrived < record_filter.until if when is None else when & (arrived < record_filter.until)
        rows: list[dict[str, Any]] = []
        size = 0
        for row in self._read_quarantined(when):
            if Coordinates.of(row) in known or not record_filter.holds(row):
                continue
            rows.append(row)
            size += _BYTES_OF_ONE_ROW + len(row["value"] or b"")
            if size >= BYTES_OF_ONE_PORTION:
                yield sorted(rows, key=Coordinates.of)
                rows, size = [], 0
        if rows:
            yield sorted(rows, key=Coordinates.of)

    def _read_quarantined(self, row_filter: Any) -> Iterator[dict[str, Any]]:
        from platform_assets.delta_reader import read_portions

        dataset = self._quarantined.read_snapshot().to_pyarrow_dataset()
        for portion in read_portions(dataset, dataset.schema.names, row_filter, _ROWS_AT_A_TIME):
            yield from portion.to_pylist()

    def _plan(
        self, rows: list[dict[str, Any]], newest: int, taken: dict[str, Coordinates], by: str, now: datetime
    ) -> Requeue:
        """Plans these rows. `taken`: the ids that earlier portions take in, with their records; it gets these too."""
        import pyarrow as pa

        self._refuse_older_topics(rows)
        parsed = self._parse(rows, now)
        places = _read_places(parsed)
        forgotten = self._forgotten.find_rows(parsed, self._roles.user_id)
        reasons: dict[Coordinates, str] = {}
        for (place, _), reason, is_forgotten in zip(places, parsed["_reason"].to_pylist(), forgotten, strict=True):
            if reason is not None or is_forgotten:
                reasons[place] = "forgotten_user" if is_forgotten else reason
        refused = Counter(reasons.values())
        quarantined = {Coordinates.of(row): row for row in rows}
        ids = pa.nulls(len(parsed), pa.string()) if self._roles.event_id is None else parsed[self._roles.event_id]
        kept = self._find_accepted(pa.array(ids.drop_null().to_pylist(), pa.string())) | taken
        planned = []
        # Marks of a user who was forgotten are gone, the transactions that wrote them are not.
        written = (self._marks.committed_batch(app) or 0 for app in (self._app, _APP))
        number = max((*written, newest)) + 1
        for (place, index), event_id in zip(places, ids.to_pylist(), strict=True):
            if place in reasons:
                continue
            repeated = kept.get(event_id)
            if event_id is not None:
                kept.setdefault(event_id, place)
                taken.setdefault(event_id, kept[event_id])
            planned.append(
                {
                    **dict(zip(COORDINATES, place, strict=True)),
                    "record_index": index,
                    "reason": quarantined[place]["reason"],
                    "event_id": event_id,
                    "outcome": "accepted" if repeated is None else "deduplicated",
                    **dict(zip(("kept_topic", "kept_partition", "kept_offset"), repeated or (), strict=False)),
                    "requeue": number,
                    "requeued_by": by,
                    "requeued_at": now,
                }
            )
        return Requeue(planned, refused)

    def commit(self, requeue: Requeue) -> None:
        """Takes the planned records in. Cut short, `finish` does the rest."""
        import pyarrow as pa

        if requeue.marks:
            number = requeue.marks[0]["requeue"]
            rows = pa.Table.from_pylist(requeue.marks, build_arrow_schema(REQUEUED_RECORDS))
            self._marks.append(rows, self._describe(number))
            self.finish()

    def finish(self) -> int:
        """Writes what the newest requeue has recorded and not yet taken in; returns how many rows."""
        import pyarrow as pa
        import pyarrow.compute as pc

        from platform_assets.delta_reader import read_portions

        number = max(self._marks.committed_batch(app) or 0 for app in (self._app, _APP))
        marks: dict[Coordinates, list[dict[str, Any]]] = {}
        dataset = self._marks.read_snapshot().to_pyarrow_dataset()
        for portion in read_portions(dataset, dataset.schema.names, pc.field("requeue") == number):
            for mark in portion.to_pylist():
                marks.setdefault(Coordinates.of(mark), []).append(mark)
        if not marks or not self._find_unwritten([mark for own in marks.values() for mark in own], number):
            return 0
        # The marks are of all topics: those of records of this stream's quarantine are its own.
        offsets = [place.kafka_offset for place in marks]
        is_near = (pc.field("kafka_offset") >= min(offsets)) & (pc.field("kafka_offset") <= max(offsets))
        rows = [row for row in self._read_quarantined(is_near) if Coordinates.of(row) in marks]
        rows.sort(key=Coordinates.of)
        own_marks = [mark for row in rows for mark in sorted(marks[Coordinates.of(row)], key=_read_index)]
        if not (unwritten := self._find_unwritten(own_marks, number)):
            return 0
        (now,) = {mark["requeued_at"] for mark in own_marks}
        parsed = self._parse(rows, now)
        if _read_places(parsed) != [(Coordinates.of(mark), mark["record_index"]) for mark in own_marks] or (
            parsed["_reason"].null_count < len(parsed)
        ):
            raise CheckpointMismatchError(
                f"A requeue of {now:%Y-%m-%d %H:%M:%S} UTC was cut short, and the current code refuses its records. "
                "Finish it with the code that began it: headrace requeue --accept"
            )
        written = 0
        for outcome, table in unwritten:
            is_own = [mark["outcome"] == outcome for mark in own_marks]
            self._append(outcome, table, parsed.filter(pa.array(is_own)), own_marks, number)
            written += sum(is_own)
        return written

    def _find_unwritten(self, own: list[dict[str, Any]], number: int) -> list[tuple[str, DeltaBatchWriter]]:
        """The outcomes of this requeue whose table has not got its rows, each with that table."""
        outcomes = {mark["outcome"] for mark in own if mark["requeue"] == number}
        tables = (("deduplicated", self._deduplicated), ("accepted", self._events))
        return [
            (outcome, table)
            for outcome, table in tables
            # Older code wrote under a name without the stream's.
            if outcome in outcomes and all((table.committed_batch(app) or 0) < number for app in (self._app, _APP))
        ]

    def _append(
        self, outcome: str, table: DeltaBatchWriter, records: pa.Table, marks: list[dict[str, Any]], number: int
    ) -> None:
        import pyarrow as pa

        info = self._describe(number)
        if outcome == "accepted":
            records = records.rename_columns({"_arrived_at": "ingested_at"})
            # No frontier: what is taken in late moves no watermark.
            info = replace(info, rows_by_type=count_by_type(records, self._roles.event_type))
        else:
            ids = records[self._roles.event_id]
            places = PLACE_IN_LIST if self._topic.is_list else ()
            records = records.select([*COORDINATES, *places, "kafka_timestamp", "_arrived_at"])
            records = records.rename_columns({"_arrived_at": "deduplicated_at"}).append_column("event_id", ids)
            kept = [mark for mark in marks if mark["outcome"] == outcome]
            for name, of_type in (
                ("kept_topic", pa.string()),
                ("kept_partition", pa.int32()),
                ("kept_offset", pa.int64()),
            ):
                records = records.append_column(name, pa.array([mark[name] for mark in kept], of_type))
            # What they say is in quarantine still, and not compared.
            for name, of_type in (
                ("is_same_content", pa.bool_()),
                ("content", pa.string()),
                ("other_user_id", pa.string()),
            ):
                records = records.append_column(name, pa.nulls(len(records), of_type))
        table.append(records, info)

    def _describe(self, number: int) -> CommitInfo:
        return CommitInfo.of_batch(self._query, self._app, number, kind=CommitKind.REQUEUE, value=number)

    def _parse(self, rows: list[dict[str, Any]], now: datetime) -> pa.Table:
        """The records as the current parser has them, in their order, with `topic` and `_arrived_at`.

        A list has a row for each of its records.
        """
        import pyarrow as pa

        utc = pa.timestamp("us", tz="UTC")
        columns = {
            "key": pa.array([row["key"] for row in rows], pa.binary()),
            "value": pa.array([row["value"] for row in rows], pa.binary()),
            "partition": pa.array([row["kafka_partition"] for row in rows], pa.int32()),
            "offset": pa.array([row["kafka_offset"] for row in rows], pa.int64()),
            "timestamp": pa.array([row["kafka_timestamp"] for row in rows], utc),
        }
        if self._topic.has_headers:
            # A table from before the topic had headers has no such column yet.
            columns["headers"] = pa.array([row.get("headers") for row in rows], as_arrow(HEADERS_TYPE))
        kafka = pa.record_batch(columns)
        micros = count_micros(now)
        batches = [parse_batch(kafka, self._topic, micros, self._max_bytes, self._rules, self._schemas)] if rows else []
        parsed = pa.Table.from_batches(batches, parsed_schema(self._topic))
        arrived = pa.array([now] * len(parsed), utc)
        if self._topic.is_list and len(parsed):
            # A rejected list is one row, and has no index.
            starts = [index is None or index == 0 for index in parsed["record_index"].to_pylist()]
            rows = [rows[number - 1] for number in accumulate(starts)]
        topics = pa.array([row["topic"] for row in rows], pa.string())
        return parsed.append_column("topic", topics).append_column("_arrived_at", arrived)

    def _find_accepted(self, event_ids: pa.Array) -> dict[str, Coordinates]:
        """Which of these ids the accepted records have, ever, and where the record that was kept lies."""
        import pyarrow.compute as pc

        from platform_assets.delta_reader import read_portions

        found: dict[str, Coordinates] = {}
        if len(event_ids) and (name := self._roles.event_id) is not None:
            events = self._events.read_snapshot().to_pyarrow_dataset()
            for portion in read_portions(events, [name, *COORDINATES], None, _IDS_AT_A_TIME):
                own = portion.filter(pc.is_in(portion[name], event_ids))
                found |= {row[name]: Coordinates.of(row) for row in own.to_pylist()}
        return found

    def _refuse_older_topics(self, rows: list[dict[str, Any]]) -> None:
        """The ledger tells the records of two topics of one name apart by their time of arrival."""
        again = {
            (row["topic"], row["kafka_partition"]): row["acknowledged_at"]
            for row in self._lost.read_arrow().sort_by("acknowledged_at").to_pylist()
            if row["until_offset"] is None
        }
        logs = [(row["topic"], row["kafka_partition"]) for row in rows]
        older = [
            log for log, row in zip(logs, rows, strict=True) if log in again and row["quarantined_at"] < again[log]
        ]
        if older:
            topic, partition = older[0]
            raise UsageError(
                f"{len(older)} of the records came before the log of {topic}/{partition} began again at "
                f"{again[older[0]]:%Y-%m-%d %H:%M:%S} UTC. Leave them out: --since that time."
            )


def _read_places(parsed: pa.Table) -> list[tuple[Coordinates, int | None]]:
    """The Kafka record of each row, and its place in the record's list, if it holds one."""
    columns = [parsed[name].to_pylist() for name in COORDINATES]
    has_lists = "record_index" in parsed.column_names
    indexes = parsed["record_index"].to_pylist() if has_lists else [None] * len(parsed)
    return list(zip(map(Coordinates, *columns), indexes, strict=True))


def _read_index(mark: Mapping[str, Any]) -> int:
    return mark["record_index"] or 0
