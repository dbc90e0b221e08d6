"""`headrace explain`: in sentences, where a record is and what became of it, or how far a user's rows are.

Reads the tables and their commits, and Kafka for what is not read yet; changes nothing, and works beside live streams.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Protocol

from platform_assets.checks.ledger_entries import Entry, read_all_entries
from platform_assets.errors import SettingError
from platform_assets.streaming.expiry import find_expired
from platform_assets.streaming.forgotten_users import ON_ARRIVAL, UNSURE_ON_ARRIVAL, hash_user
from platform_assets.streaming.specs import KafkaSource, ResultSpan, StreamSpec, TableSource

if TYPE_CHECKING:
    from deltalake import DeltaTable

# An id that a broken producer sent ten thousand times needs no ten thousand answers, of which each reads the tables.
MAX_PLACES = 20


class Topic(Protocol):
    """What is asked of Kafka (`resources.kafka.KafkaResource`)."""

    def beginning_offsets(self, topic: str) -> dict[int, int]:
        """The first offset still held, by partition."""
        ...

    def end_offsets(self, topic: str) -> dict[int, int]:
        """The offset that the next record gets, by partition."""
        ...


class Lakehouse(Protocol):
    """What is asked of the lakehouse (`resources.lakehouse.LakehouseResource`)."""

    def delta_table(self, name: str) -> DeltaTable:
        """A table; raises deltalake's `TableNotFoundError`."""
        ...

    def find_table(self, name: str) -> DeltaTable | None:
        """A table; None where there is none."""
        ...


@dataclass(frozen=True)
class Coordinates:
    """One Kafka record, as the tables and people name it: topic/partition/offset."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"

    @staticmethod
    def parse(text: str) -> Coordinates:
        """Of `topic/partition/offset`. Raises `SettingError`."""
        topic, _, rest = text.partition("/")
        partition, _, offset = rest.partition("/")
        if not (topic and partition.isdigit() and offset.isdigit()):
            raise SettingError(f"--offset {text}: write it as topic/partition/offset, for instance shop/0/42.")
        return Coordinates(topic, int(partition), int(offset))


def explain(
    streams: Sequence[StreamSpec],
    lakehouse: Lakehouse,
    kafka: Topic,
    event_id: str | None = None,
    offset: str | None = None,
    user_id: str | None = None,
    at: str | None = None,
) -> list[str]:
    """Answers the one question that is asked, in sentences. Raises `SettingError` for one that cannot be read."""
    from deltalake.exceptions import TableNotFoundError

    explainer = Explainer(streams, lakehouse, kafka)
    try:
        if event_id is not None:
            return explainer.explain_event(event_id)
        if offset is not None:
            return explainer.explain_offset(Coordinates.parse(offset))
        return explainer.explain_user(user_id or "", parse_moment("--at", at) or datetime.now(UTC))
    except TableNotFoundError:
        return ["The streams have not run yet: there is no table to look into."]


def parse_moment(option: str, text: str | None) -> datetime | None:
    """A time that a person has typed, UTC where they named no zone. Raises `SettingError`, naming the option."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SettingError(f"{option} {text}: write it as ISO-8601, for instance 2026-03-01T12:00:00Z.") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


class Explainer:
    """Answers from one state of the tables. Raises `TableNotFoundError` where the platform has not run yet."""

    def __init__(self, streams: Sequence[StreamSpec], lakehouse: Lakehouse, kafka: Topic) -> None:
        (self._ingest,) = (stream for stream in streams if isinstance(stream.source, KafkaSource))
        self._derived = [stream for stream in streams if stream.span is not None]
        self._lakehouse = lakehouse
        self._kafka = kafka
        self._accepted, self._quarantined, self._deduplicated = (table.name for table in self._ingest.tables)

    def explain_event(self, event_id: str) -> list[str]:
        """Every record with this id: the accepted one, those that repeat it, and what late windows made of it."""
        rows = chain.from_iterable(
            self._find(table, "event_id", event_id, ["topic", "kafka_partition", "kafka_offset"])
            for table in (self._accepted, self._deduplicated)
        )
        said = [line for row in islice(rows, MAX_PLACES) for line in self.explain_offset(_coordinates(row))]
        if next(rows, None) is not None:
            said.append(f"More records have this id: these are the first {MAX_PLACES}.")
        return said or [
            f"No record with event_id {event_id} was accepted or deduplicated. If it was sent, it is not read yet "
            f"({self._describe_lag()}), or it is in {self._quarantined}, where records have no id: ask by --offset."
        ]

    def explain_offset(self, record: Coordinates) -> list[str]:
        """Where one record is: accepted, quarantined, deduplicated, a gap, not read yet, or before the first read."""
        entries = [e for e in self._entries if (e.topic, e.kafka_partition) == (record.topic, record.partition)]
        batch = next((e for e in entries if e.from_offset <= record.offset < e.until_offset), None)
        if batch is None:
            return [self._explain_unread(record, entries)]
        read = f"batch {batch.batch_id} of {self._ingest.name}"
        columns = ["event_id", "event_type", "event_time", "ingested_at", "user_id"]
        for row in self._find_record(self._accepted, record, columns):
            what = f"Record {record} is event {row['event_id']} of {_clock(row['event_time'])}, user {row['user_id']}:"
            said = f"{what} accepted into {self._accepted} by {read} at {_clock(row['ingested_at'])}."
            return [said, *self._explain_requeue(record), *self._explain_state(row), *self._explain_late(record)]
        columns = ["event_id", "kept_topic", "kept_partition", "kept_offset", "deduplicated_at", "is_same_content"]
        for row in self._find_record(self._deduplicated, record, columns):
            kept = f"{row['kept_topic']}/{row['kept_partition']}/{row['kept_offset']}"
            at = _clock(row["deduplicated_at"])
            said = f"Record {record} repeats event {row['event_id']}: deduplicated against {kept} by {read} at {at}."
            other = f"Its content is another: the column `content` of {self._deduplicated} has it."
            differs = [other] if row["is_same_content"] is False else []
            return [said, *differs, *self._explain_requeue(record)]
        for row in self._find_record(self._quarantined, record, ["reason", "detail", "quarantined_at"]):
            because = f"{row['reason']} ({row['detail']})" if row["detail"] else row["reason"]
            return [f"Record {record} was quarantined by {read} at {_clock(row['quarantined_at'])}: {because}."]
        for row in self._find_record("platform.erased_records", record, ["was", "erased_at"]):
            whose = "may have been" if row["was"] == UNSURE_ON_ARRIVAL else "was"
            is_new = row["was"] in (ON_ARRIVAL, UNSURE_ON_ARRIVAL)
            before = "on its arrival" if is_new else f"after it had been {row['was']}"
            erased = f"erased {before}, at {_clock(row['erased_at'])}"
            return [f"Record {record} {whose} of a user who is forgotten: {erased}."]
        if any(start <= record.offset < end for start, end in batch.gaps):
            what = "a transaction's marker, an aborted or a compacted record"
            return [f"Offset {record} has no record: {what}. {read.capitalize()} recorded a gap there."]
        expired = find_expired(self._lakehouse)
        if over := [f"{t.name} before {expired[t.name].until}" for t in self._ingest.tables if t.name in expired]:
            gone = f"It has expired if its day is over ({', '.join(over)}); `headrace check` counts such rows."
            return [f"Record {record} was read by {read} and is in no table. {gone}"]
        return [f"Record {record} was read by {read} and is in no table: that must not be. Run `headrace check`."]

    def explain_user(self, user_id: str, moment: datetime) -> list[str]:
        """For each table that has rows of users: those of this one around a moment, and whether they are final."""
        said = self._explain_forgotten(user_id)
        for stream in self._derived:
            assert stream.span is not None
            if stream.span.by_user:
                said += self._explain_rows(stream, stream.span, user_id, moment)
        return said

    def _explain_rows(self, stream: StreamSpec, span: ResultSpan, user_id: str, moment: datetime) -> list[str]:
        table = stream.main_table
        complete = self._states.get(stream.name, {}).get("complete_until")
        columns = [column.name for column in table.columns]
        own = self._find(table.name, "user_id", user_id, columns)
        around = (row for row in own if row[span.start_column] <= moment <= row[span.end_column] + span.inactivity)
        shown = list(islice(around, MAX_PLACES))
        until = "nothing is final yet" if complete is None else f"final until {_clock(complete)}"
        if not shown:
            open_ = complete is None or moment + span.longest_open > complete
            why = "what is open then is in state" if open_ else "no row counts that moment, and none will"
            return [f"{table.name}: no row of user {user_id} at {_clock(moment)}; {until}: {why}."]
        said = []
        for row in shown:
            end = row[span.end_column] + span.inactivity
            verdict = (
                "final"
                if complete is not None and end <= complete
                else f"open until the watermark passes {_clock(end)}"
            )
            values = ", ".join(f"{name} {_text(row[name])}" for name in columns if name != "user_id")
            said.append(f"{table.name}: {values}: {verdict} ({until}).")
        return said

    def _explain_forgotten(self, user_id: str) -> list[str]:
        for row in self._lakehouse.delta_table("platform.forgotten_users").to_pyarrow_table().to_pylist():
            if row["user_hash"] == hash_user(user_id, row["salt"]):
                return [f"User {user_id} is forgotten since {_clock(row['forgotten_at'])}: no table has rows of them."]
        return []

    def _explain_state(self, event: Mapping[str, Any]) -> list[str]:
        """For each stream that takes the event: until when rows that count it are open, or that they are final."""
        said, states = [], self._states
        for stream in self._derived:
            assert stream.span is not None and isinstance(stream.source, TableSource)
            if stream.source.event_types and event["event_type"] not in stream.source.event_types:
                continue
            closes, state = event["event_time"] + stream.span.longest_open, states.get(stream.name)
            if state is not None and closes <= state["watermark"]:
                said.append(f"What counts it in {stream.main_table.name} is final.")
            else:
                now = "not known yet" if state is None else f"now {_clock(state['watermark'])}"
                said.append(f"In the state of {stream.name} until its watermark ({now}) passes {_clock(closes)}.")
        return said

    def _explain_late(self, record: Coordinates) -> list[str]:
        columns = ["query", "watermark", "batch_id", "refused_windows", "refused_at", "repaired_at"]
        said = []
        for row in self._find_record("platform.late_events", record, columns):
            repaired = row["repaired_at"]
            then = "not repaired yet" if repaired is None else f"repaired at {_clock(repaired)}"
            if row["watermark"] is None:
                said.append(f"A replay has changed it since {row['query']} read it: {then}.")
                continue
            watermark = f"watermark {_clock(row['watermark'])} in batch {row['batch_id']}"
            what = f"{row['refused_windows']} row(s)" if row["refused_windows"] else "the row that it continues"
            said.append(f"It was late for {what} of {row['query']} ({watermark}): {then}.")
        return said

    def _explain_requeue(self, record: Coordinates) -> list[str]:
        return [
            f"It had been quarantined as {row['reason']}, and was taken in again by {row['requeued_by']} at "
            f"{_clock(row['requeued_at'])}."
            for row in self._find_record("platform.requeued_records", record, ["reason", "requeued_by", "requeued_at"])
        ]

    def _explain_unread(self, record: Coordinates, entries: Sequence[Entry]) -> str:
        held, ends = self._kafka.beginning_offsets(record.topic), self._kafka.end_offsets(record.topic)
        if record.partition not in ends:
            return f"Topic {record.topic} has no partition {record.partition}."
        read_until = max((entry.until_offset for entry in entries), default=None)
        if record.offset >= ends[record.partition]:
            return f"Record {record} does not exist: the partition ends before offset {ends[record.partition]}."
        for row in self._read_losses(record):
            said = f"acknowledged by {row['acknowledged_by']} at {_clock(row['acknowledged_at'])}: {row['reason']}"
            return f"Record {record} is lost: Kafka deleted it before it was read; {said}."
        if read_until is not None and record.offset < read_until:
            return f"Record {record} was never read: {self._ingest.name} began behind it, at {entries[0].from_offset}."
        where = "nothing is read yet" if read_until is None else f"{self._ingest.name} has read until {read_until}"
        if record.offset < held[record.partition]:
            return f"Record {record} is lost: Kafka holds offsets from {held[record.partition]} on, and {where}."
        behind = record.offset - (held[record.partition] if read_until is None else read_until)
        return f"Record {record} is not read yet: {where}, {behind:,} records before it."

    def _read_losses(self, record: Coordinates) -> Iterator[dict[str, Any]]:
        """Rows of `platform.lost_ranges` with the record in a range whose end is known."""
        for row in self._lakehouse.delta_table("platform.lost_ranges").to_pyarrow_table().to_pylist():
            is_of_partition = (row["topic"], row["kafka_partition"]) == (record.topic, record.partition)
            if is_of_partition and row["from_offset"] <= record.offset < (row["until_offset"] or 0):
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
        return read_all_entries(
            self._lakehouse.delta_table(self._accepted), self._lakehouse.delta_table("platform.ledger")
        )

    @cached_property
    def _states(self) -> dict[str, dict[str, Any]]:
        """The row of each query in `platform.complete_until`."""
        rows = self._lakehouse.delta_table("platform.complete_until").to_pyarrow_table().to_pylist()
        return {row["query"]: row for row in rows}

    def _find_record(self, table: str, record: Coordinates, columns: list[str]) -> Iterator[dict[str, Any]]:
        import pyarrow.compute as pc

        where = (pc.field("kafka_offset") == record.offset) & (pc.field("kafka_partition") == record.partition)
        dataset = self._lakehouse.delta_table(table).to_pyarrow_dataset()
        # A table of older code has fewer columns until its stream starts.
        known = [name for name in columns if name in dataset.schema.names]
        rows = dataset.to_table(columns=["topic", *known], filter=where).to_pylist()
        return (dict.fromkeys(columns) | row for row in rows if row["topic"] == record.topic)

    def _find(self, table: str, column: str, value: str, columns: list[str]) -> Iterator[dict[str, Any]]:
        """Rows by a text, in portions: Arrow has no filters for the text of files that delta-rs has compacted."""
        import pyarrow as pa
        import pyarrow.compute as pc

        dataset = self._lakehouse.delta_table(table).to_pyarrow_dataset()
        for batch in dataset.to_batches(columns=list({column, *columns})):
            if len(batch):
                yield from batch.filter(pc.equal(batch[column].cast(pa.string()), value)).to_pylist()


def _coordinates(row: Mapping[str, Any]) -> Coordinates:
    return Coordinates(row["topic"], row["kafka_partition"], row["kafka_offset"])


def _clock(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _text(value: object) -> str:
    return _clock(value) if isinstance(value, datetime) else str(value)
