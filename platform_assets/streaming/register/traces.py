"""Finds what the stream over Kafka has of a user, and what mentions the user and may be somebody else's.

Reads the whole tables: nothing in them is ordered by user.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.delta.reader import DeltaReader
from platform_assets.streaming.register.named_users import Mention, Sought, find_suspects, judge_fields, judge_record
from platform_assets.tables.platform import REQUEUED_RECORDS
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    import numpy.typing as npt

    from platform_assets.streaming.context import StreamContext

    Verdicts = npt.NDArray[np.int8]
    Judge = Callable[[pa.RecordBatch], Verdicts]

USER = "user_id"
PLACE = ["topic", "kafka_partition", "kafka_offset"]
_OF_EVENTS = ["event_id", "event_type", "event_time", "event_date", "kafka_timestamp", "ingested_at", USER]
# Texts that no sender chooses.
_NOT_SENT = frozenset(("topic", "kept_topic", "event_type"))


@dataclass(frozen=True)
class AlsoErased:
    """Which of the records that may be the user's go as well: `everything`, or those of these places."""

    everything: bool = False
    places: frozenset[tuple[str, int, int]] = frozenset()

    def holds(self, place: tuple[str, int, int]) -> bool:
        """Whether the record of this topic, partition and offset goes."""
        return self.everything or place in self.places


NOTHING_ELSE = AlsoErased()


@dataclass(frozen=True)
class UnsureRecord:
    """A row that mentions the user and stays, by its Kafka record: a person must look whether it is the user's."""

    table: str
    place: tuple[str, int, int]

    def __str__(self) -> str:
        return f"{self.table} {'/'.join(map(str, self.place))}"


@dataclass(frozen=True)
class Traces:
    """What goes: of each table of the stream over Kafka the rows' key and what tells when and what.

    `others` are events of other users, with their names, that mention the user. `unsure` stays.
    """

    events: pa.Table
    others: pa.Table
    quarantined: pa.Table
    deduplicated: pa.Table
    requeued: pa.Table
    unsure: tuple[UnsureRecord, ...]

    @property
    def erased_events(self) -> pa.Table:
        """All rows that leave silver.events."""
        return pa.concat_tables([self.events, self.others])


class TraceFinder:
    """Finds traces of one user. `tables` are those of the stream over Kafka: accepted, quarantined, deduplicated."""

    def __init__(self, user: str, tables: Sequence[TableSpec], also: AlsoErased, context: StreamContext) -> None:
        self._user = user
        self._sought = Sought.one(user)
        self._events, self._quarantined, self._deduplicated = tables
        self._also = also
        self._context = context

    def find(self) -> Traces:
        """All of it."""
        own = self.find_own(self._events, [*PLACE, *_OF_EVENTS])
        texts = _find_texts(self._events)
        others, unsure = self._find_mentions(self._events, _OF_EVENTS, [USER, *texts], self._judge_others(texts))
        tested, judge = [*_find_texts(self._deduplicated), "is_same_content"], self._judge_repeated(own)
        repeated, more = self._find_mentions(self._deduplicated, ["deduplicated_at"], tested, judge)
        unsure += more
        texts, arrival = ["key", "value"], ["quarantined_at"]
        refused, more = self._find_mentions(self._quarantined, arrival, texts, self._judge_raw)
        ids = _ids_of(pa.concat_tables([own, others]))
        requeued = self._scan(REQUEUED_RECORDS, PLACE, ["event_id"], lambda rows: _is_in(rows, "event_id", ids))
        # Another topic may have events of the same ids.
        topics = pa.concat_tables([own, others]).column("topic").combine_chunks()
        requeued = requeued.filter(_is_in(requeued, "topic", pc.unique(topics)))
        return Traces(own, others, refused, repeated, requeued, tuple(unsure + more))

    def find_own(self, spec: TableSpec, columns: list[str]) -> pa.Table:
        """These columns of the user's rows of a table that has users."""
        return self._scan(spec, columns, [USER], self._is_own)

    def _find_mentions(
        self, spec: TableSpec, columns: list[str], tested: list[str], judge: Judge
    ) -> tuple[pa.Table, list[UnsureRecord]]:
        """The rows that go, and the others that mention the user."""
        found = self._scan(
            spec, [*PLACE, *columns, *tested], tested, lambda rows: pa.array(judge(rows) != Mention.NONE)
        )
        places = list(zip(*(found[name].to_pylist() for name in PLACE), strict=True))
        verdicts = [verdict for rows in found.to_batches() for verdict in judge(rows)]
        goes = [v == Mention.CERTAIN or self._also.holds(p) for v, p in zip(verdicts, places, strict=True)]
        unsure = [UnsureRecord(spec.name, place) for place, is_gone in zip(places, goes, strict=True) if not is_gone]
        rows = found.filter(pa.array(goes, pa.bool_())).select(list(dict.fromkeys([*PLACE, *columns])))
        return rows, unsure

    def _is_own(self, rows: pa.RecordBatch) -> pa.BooleanArray:
        return _is_in(rows, USER, pa.array([self._user]))

    def _judge_others(self, texts: list[str]) -> Judge:
        """Judges events of others: they count as theirs, whomever else they name."""

        def judge(rows: pa.RecordBatch) -> Verdicts:
            mentions = np.minimum(self._judge_texts(rows, texts), Mention.UNSURE)
            return np.where(np.array(self._is_own(rows)), Mention.NONE, mentions).astype(np.int8)

        return judge

    def _judge_repeated(self, events: pa.Table) -> Judge:
        """Judges records that repeat an event: the user's if the event is one of these and both say the same."""
        ids, texts = _ids_of(events), _find_texts(self._deduplicated)

        def judge(rows: pa.RecordBatch) -> Verdicts:
            is_other = pc.fill_null(pc.invert(rows["is_same_content"]), False)
            is_own = np.array(pc.and_not(_is_in(rows, "event_id", ids), is_other))
            return np.where(is_own, Mention.CERTAIN, self._judge_texts(rows, texts)).astype(np.int8)

        return judge

    def _judge_texts(self, rows: pa.RecordBatch, names: list[str]) -> Verdicts:
        """Judges these columns as fields of an object."""
        columns = {name: rows[name].cast(pa.binary()) for name in names}
        suspects = np.zeros(len(rows), bool)
        for name, texts in columns.items():
            suspects |= np.array(find_suspects(texts, self._user, name))
        found = np.full(len(rows), Mention.NONE, np.int8)
        for row in np.flatnonzero(suspects).tolist():
            fields = [(name, text) for name, column in columns.items() if (text := column[row].as_py()) is not None]
            found[row] = judge_fields(fields, self._sought)
        return found

    def _judge_raw(self, rows: pa.RecordBatch) -> Verdicts:
        """Judges Kafka records by their key and value."""
        keys, values = (rows[name].cast(pa.binary()) for name in ("key", "value"))
        suspects = pc.or_(find_suspects(keys, self._user, USER), find_suspects(values, self._user))
        found = np.full(len(rows), Mention.NONE, np.int8)
        for row in pc.indices_nonzero(suspects).to_pylist():
            found[row] = judge_record(keys[row].as_py(), values[row].as_py(), self._sought)
        return found

    def _scan(
        self, spec: TableSpec, columns: list[str], tested: list[str], test: Callable[[pa.RecordBatch], pa.BooleanArray]
    ) -> pa.Table:
        """These columns of the rows that pass the test."""
        wanted = list(dict.fromkeys(columns))
        types = build_arrow_schema(spec)
        schema = pa.schema([types.field(name) for name in wanted])
        parts = [schema.empty_table()]
        for batch in DeltaReader(spec, self._context).find_rows(wanted, tested, test):
            parts.append(pa.Table.from_batches([batch]).cast(schema))
        return pa.concat_tables(parts)


def _find_texts(spec: TableSpec) -> list[str]:
    """The table's columns that hold what was sent, but the user."""
    is_text = ("string", "binary")
    return [c.name for c in spec.columns if c.type in is_text and c.name != USER and c.name not in _NOT_SENT]


def _ids_of(events: pa.Table) -> pa.Array:
    return pa.array(pc.unique(events["event_id"]).to_pylist(), pa.string())


def _is_in(rows: pa.RecordBatch, column: str, values: pa.Array) -> pa.BooleanArray:
    # Files that delta-rs has rewritten hold view types, which few kernels know.
    return pc.is_in(rows[column].cast(pa.string()), value_set=values)
