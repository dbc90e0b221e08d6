"""`headrace explain`: in sentences, where a record is and what became of it, or how far a user's rows are.

Reads the tables and their commits, and Kafka for what is not read yet; changes nothing, and works while streams run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from itertools import chain, islice
from typing import Any, Protocol

from jobs.operations.explained_tables import ExplainedTables, Lakehouse, show_clock
from jobs.operations.explained_users import explain_user, name_user_tables
from jobs.operations.questions import parse_moment
from platform_assets.checks.ledger_entries import Entry
from platform_assets.streaming.register.forgotten_users import ON_ARRIVAL, UNSURE_ON_ARRIVAL
from platform_assets.streaming.repair.expiry import find_expired
from platform_assets.streaming.stream_spec import KafkaStream, Stream, TableStream, select_downstream, select_ingest
from platform_assets.tables.coordinates import COORDINATES, Coordinates

# An id that a broken producer sent ten thousand times needs no ten thousand answers, of which each reads the tables.
MAX_PLACES = 20
_INDEX = "record_index"


class Topic(Protocol):
    """What is asked of Kafka (`resources.kafka.KafkaResource`)."""

    def beginning_offsets(self, topic: str) -> dict[int, int]:
        """The first offset still held, by partition."""
        ...

    def end_offsets(self, topic: str) -> dict[int, int]:
        """The offset that the next record gets, by partition."""
        ...


def explain(
    streams: Sequence[Stream],
    lakehouse: Lakehouse,
    kafka: Topic,
    event_id: str | None = None,
    offset: str | None = None,
    user_id: str | None = None,
    at: str | None = None,
) -> list[str]:
    """Answers the one question that is asked, in sentences. Raises `UsageError` for one that cannot be read."""
    record, moment = None if offset is None else Coordinates.parse(offset), parse_moment("--at", at)
    tables = ExplainedTables(lakehouse)
    ingests = [stream for stream in select_ingest(streams) if tables.has(stream.main_table.name)]
    if not ingests:
        return ["The streams have not run yet: there is no table to look into."]
    if user_id is not None:
        accepted, derived = [stream.main_table for stream in ingests], select_downstream(ingests, streams)
        return explain_user(accepted, derived, tables, user_id, moment or datetime.now(UTC))
    explainers = [RecordExplainer(stream, select_downstream([stream], streams), tables, kafka) for stream in ingests]
    if record is not None:
        return max(explainers, key=lambda explainer: explainer.rate_topic(record.topic)).explain_offset(record)
    said = [line for explainer in explainers for line in explainer.explain_event(event_id or "")]
    return said or [explainer.explain_unknown(event_id or "") for explainer in explainers]


class RecordExplainer:
    """Answers questions for records from one state of the tables."""

    def __init__(
        self, ingest: KafkaStream, derived: Sequence[TableStream], tables: ExplainedTables, kafka: Topic
    ) -> None:
        self._ingest = ingest
        self._roles = ingest.main_table.roles
        self._derived = [stream for stream in derived if stream.source.table.name == ingest.main_table.name]
        self._tables = tables
        self._kafka = kafka
        self._accepted, self._quarantined, self._deduplicated = (table.name for table in ingest.tables)

    def has_read(self, topic: str) -> bool:
        """Whether the stream has read this topic of Kafka's."""
        return any(entry.topic == topic for entry in self._entries)

    def explain_event(self, event_id: str) -> list[str]:
        """Every record with this id: the accepted one, those that repeat it, and what late windows made of it.

        Nothing where there is no such record: `explain_unknown` then says where it can be.
        """
        if self._roles.event_id is None:
            return []
        rows = chain.from_iterable(
            self._tables.find_rows(table, column, event_id, [*COORDINATES, _INDEX])
            for table, column in ((self._accepted, self._roles.event_id), (self._deduplicated, "event_id"))
        )
        said = [
            line for row in islice(rows, MAX_PLACES) for line in self.explain_offset(Coordinates.of(row), row[_INDEX])
        ]
        if next(rows, None) is not None:
            said.append(f"More records have this id: these are the first {MAX_PLACES}.")
        return said

    def explain_unknown(self, event_id: str) -> str:
        """Says where a record can be whose id no table has."""
        name = self._roles.event_id
        if name is None:
            return f"Records of {self._accepted} have no id: they are not searched. Ask by --offset."
        return (
            f"No record with {name} {event_id} was accepted or deduplicated. If it was sent, it is not read yet "
            f"({self._describe_lag()}), or it is in {self._quarantined}, where records have no id: ask by --offset."
        )

    def rate_topic(self, topic: str) -> int:
        """How sure it is that the stream reads this topic: by its batches, else by its name."""
        if any(entry.topic == topic for entry in self._entries):
            return 3
        # Of the shop's topic only a setting has the name.
        own = self._ingest.topic.kafka_topic
        return 2 if own == topic else 0 if own else 1

    def explain_offset(self, record: Coordinates, index: int | None = None) -> list[str]:
        """Says what became of one record.

        It is accepted, quarantined, deduplicated, a gap, not read yet, or before the first read. Of one that holds a
        list, what became of each in it; with `index` of that one.
        """
        entries = [e for e in self._entries if (e.topic, e.kafka_partition) == (record.topic, record.kafka_partition)]
        batch = self._tables.read_batch(self._ingest.name, self._accepted, record)
        if batch is None:
            return [self._explain_unread(record, entries)]
        read = f"batch {batch.batch_id} of {self._ingest.name}"
        if batch.first != batch.batch_id:
            # Whichever it was, its time stands in the record's own row.
            read = f"one of the batches {batch.first} to {batch.batch_id} of {self._ingest.name}"
        if found := self._explain_rows(record, index, read):
            return found
        for row in self._tables.find_record(self._quarantined, record, ["reason", "detail", "quarantined_at"]):
            because = f"{row['reason']} ({row['detail']})" if row["detail"] else row["reason"]
            return [f"Record {record} was quarantined by {read} at {show_clock(row['quarantined_at'])}: {because}."]
        for row in self._tables.find_record("platform.erased_records", record, ["was", "erased_at"]):
            whose = "may have been" if row["was"] == UNSURE_ON_ARRIVAL else "was"
            is_new = row["was"] in (ON_ARRIVAL, UNSURE_ON_ARRIVAL)
            before = "on its arrival" if is_new else f"after it had been {row['was']}"
            erased = f"erased {before}, at {show_clock(row['erased_at'])}"
            return [f"Record {record} {whose} of a user who is forgotten: {erased}."]
        if any(start <= record.kafka_offset < end for start, end in batch.gaps):
            what = "a transaction's marker, an aborted or a compacted record"
            if batch.is_compacted is False:
                what = "a transaction's marker, or an aborted record"
            return [f"Offset {record} has no record: {what}. {read.capitalize()} recorded a gap there."]
        expired = find_expired(self._tables.lakehouse)
        if over := [f"{t.name} before {expired[t.name].until}" for t in self._ingest.tables if t.name in expired]:
            gone = f"It has expired if its day is over ({', '.join(over)}); `headrace check` counts such rows."
            return [f"Record {record} was read by {read} and is in no table. {gone}"]
        return [f"Record {record} was read by {read} and is in no table: that must not be. Run `headrace check`."]

    def _explain_rows(self, record: Coordinates, index: int | None, read: str) -> list[str]:
        """Says what became of a record that is accepted or deduplicated; nothing of others.

        Of a list, what became of each record in it, in its order, up to `MAX_PLACES` of them.
        """
        roles = self._roles
        own = [name for name in (roles.event_id, roles.event_type, roles.user_id) if name is not None]
        accepted = ["event_time", "ingested_at", "is_anonymous", *own]
        repeated = [
            "event_id", "kept_topic", "kept_partition", "kept_offset", "deduplicated_at", "is_same_content",
        ]  # fmt: skip
        rows = chain(
            ((row, self._explain_accepted) for row in self._find(self._accepted, record, index, accepted)),
            ((row, self._explain_repeated) for row in self._find(self._deduplicated, record, index, repeated)),
        )
        if not self._ingest.topic.is_list:
            return next((tell(row, record, str(record), read) for row, tell in rows), [])
        found = sorted(rows, key=lambda pair: pair[0][_INDEX])
        shown = found[:MAX_PLACES]
        said = [line for row, tell in shown for line in tell(row, record, f"{record}[{row[_INDEX]}]", read)]
        if len(found) > MAX_PLACES:
            said.append(f"Of the {len(found):,} records in it these are the first {MAX_PLACES}.")
        return said

    def _find(self, table: str, record: Coordinates, index: int | None, columns: list[str]) -> Iterator[dict[str, Any]]:
        for row in self._tables.find_record(table, record, [*columns, _INDEX]):
            if index is None or row[_INDEX] == index:
                yield row

    def _explain_accepted(self, row: Mapping[str, Any], record: Coordinates, name: str, read: str) -> list[str]:
        roles = self._roles
        event = "an event" if roles.event_id is None else f"event {row[roles.event_id]}"
        user = "" if roles.user_id is None else f", user {row[roles.user_id]}"
        what = f"Record {name} is {event} of {show_clock(row['event_time'])}{user}:"
        said = f"{what} accepted into {self._accepted} by {read} at {show_clock(row['ingested_at'])}."
        late = self._explain_late(record, row[_INDEX])
        return [said, *self._explain_requeue(record, row[_INDEX]), *self._explain_state(row), *late]

    def _explain_repeated(self, row: Mapping[str, Any], record: Coordinates, name: str, read: str) -> list[str]:
        kept = f"{row['kept_topic']}/{row['kept_partition']}/{row['kept_offset']}"
        at = show_clock(row["deduplicated_at"])
        said = f"Record {name} repeats event {row['event_id']}: deduplicated against {kept} by {read} at {at}."
        other = f"Its content is another: the column `content` of {self._deduplicated} has it."
        differs = [other] if row["is_same_content"] is False else []
        return [said, *differs, *self._explain_requeue(record, row[_INDEX])]

    def _explain_state(self, event: Mapping[str, Any]) -> list[str]:
        """Says of each stream that takes the event until when rows that count it are open, or that they are final."""
        said = []
        if event["is_anonymous"]:
            without = name_user_tables(self._derived)
            said.append(
                f"Its user stands for many or for nobody: it counts in sums over all users, and in no row of {without}."
            )
        for stream in self._derived:
            types, type_column = stream.source.event_types, self._roles.event_type
            if type_column is not None and types and event[type_column] not in types:
                continue
            if stream.span.by_user and event["is_anonymous"]:
                continue
            if stream.is_latest:
                said.append(f"{stream.main_table.name} has of its key what the latest change says.")
                continue
            closes, state = event["event_time"] + stream.span.longest_open, self._tables.states.get(stream.name)
            if state is not None and closes <= state["watermark"]:
                said.append(f"What counts it in {stream.main_table.name} is final.")
            else:
                now = "not known yet" if state is None else f"now {show_clock(state['watermark'])}"
                said.append(f"In the state of {stream.name} until its watermark ({now}) passes {show_clock(closes)}.")
        return said

    def _explain_late(self, record: Coordinates, index: int | None) -> list[str]:
        columns = ["query", "watermark", "batch_id", "refused_windows", "refused_at", "repaired_at"]
        said = []
        for row in self._find("platform.late_events", record, index, columns):
            repaired = row["repaired_at"]
            then = "not repaired yet" if repaired is None else f"repaired at {show_clock(repaired)}"
            if row["watermark"] is None:
                said.append(f"A replay has changed it since {row['query']} read it: {then}.")
                continue
            watermark = f"watermark {show_clock(row['watermark'])} in batch {row['batch_id']}"
            what = f"{row['refused_windows']} row(s)" if row["refused_windows"] else "the row that it continues"
            said.append(f"It was late for {what} of {row['query']} ({watermark}): {then}.")
        return said

    def _explain_requeue(self, record: Coordinates, index: int | None) -> list[str]:
        return [
            f"It had been quarantined as {row['reason']}, and was re-ingested by {row['requeued_by']} at "
            f"{show_clock(row['requeued_at'])}."
            for row in self._find("platform.requeued_records", record, index, ["reason", "requeued_by", "requeued_at"])
        ]

    def _explain_unread(self, record: Coordinates, entries: Sequence[Entry]) -> str:
        held, ends = self._kafka.beginning_offsets(record.topic), self._kafka.end_offsets(record.topic)
        if record.kafka_partition not in ends:
            return f"Topic {record.topic} has no partition {record.kafka_partition}."
        read_until = max((entry.until_offset for entry in entries), default=None)
        if record.kafka_offset >= ends[record.kafka_partition]:
            return f"Record {record} does not exist: the partition ends before offset {ends[record.kafka_partition]}."
        for row in self._read_losses(record):
            said = f"acknowledged by {row['acknowledged_by']} at {show_clock(row['acknowledged_at'])}: {row['reason']}"
            return f"Record {record} is lost: Kafka deleted it before it was read; {said}."
        if read_until is not None and record.kafka_offset < read_until:
            return f"Record {record} was never read: {self._ingest.name} began after it, at {entries[0].from_offset}."
        where = "nothing is read yet" if read_until is None else f"{self._ingest.name} has read until {read_until}"
        if record.kafka_offset < held[record.kafka_partition]:
            return f"Record {record} is lost: Kafka holds offsets from {held[record.kafka_partition]} on, and {where}."
        behind = record.kafka_offset - (held[record.kafka_partition] if read_until is None else read_until)
        return f"Record {record} is not read yet: {where}, {behind:,} records before it."

    def _read_losses(self, record: Coordinates) -> Iterator[dict[str, Any]]:
        """Rows of `platform.lost_ranges` with the record in a range whose end is known."""
        for row in self._tables.read("platform.lost_ranges"):
            is_of_partition = (row["topic"], row["kafka_partition"]) == (record.topic, record.kafka_partition)
            if is_of_partition and row["from_offset"] <= record.kafka_offset < (row["until_offset"] or 0):
                yield row

    def _describe_lag(self) -> str:
        reached: dict[tuple[str, int], int] = {}
        for entry in self._entries:
            where = (entry.topic, entry.kafka_partition)
            reached[where] = max(reached.get(where, 0), entry.until_offset)
        topics = {topic for topic, _ in reached}
        ends = {(topic, p): end for topic in topics for p, end in self._kafka.end_offsets(topic).items()}
        unread = sum(max(0, end - reached.get(where, 0)) for where, end in ends.items())
        return f"{unread:,} records are unread"

    @cached_property
    def _entries(self) -> list[Entry]:
        return self._tables.read_entries(self._ingest.name, self._accepted)
