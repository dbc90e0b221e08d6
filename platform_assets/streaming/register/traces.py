"""Finds what the stream over Kafka has of a user, and what mentions the user and may be somebody else's.

Reads the whole tables: nothing in them is ordered by user.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from platform_assets.errors import UsageError
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.delta.reader import DeltaReader
from platform_assets.streaming.register.found_traces import AlsoErased, Traces, UnsureRecord
from platform_assets.streaming.register.named_users import (
    Mention,
    find_suspects,
    judge_fields,
    judge_record,
    list_headers,
)
from platform_assets.streaming.register.sought_names import Sought
from platform_assets.streaming.topic_spec import Topic
from platform_assets.tables.coordinates import COORDINATES, Coordinates
from platform_assets.tables.platform import REQUEUED_RECORDS
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    import numpy.typing as npt

    from platform_assets.streaming.context import StreamContext

    Verdicts = npt.NDArray[np.int8]
    Judge = Callable[[pa.RecordBatch], Verdicts]

_OF_EVENTS = ["event_time", "event_date", "kafka_timestamp", "ingested_at"]
# A record's key is the user, by the contract of each topic that has users.
_OF_KEY = "user_id"


class TraceFinder:
    """Finds traces of one user in the tables of a topic."""

    def __init__(self, user: str, topic: Topic, also: AlsoErased, context: StreamContext) -> None:
        self._user = user
        self._events, self._quarantined, self._deduplicated = topic.tables
        self._roles = self._events.roles
        self._sought = Sought.one(user, [topic], context.schemas)
        self._also = also
        self._context = context

    def find(self) -> Traces:
        """All of it."""
        roles, user = self._roles, self._require_user()
        columns = [*_OF_EVENTS, *(name for name in (roles.event_id, roles.event_type, user) if name is not None)]
        own = self.find_own(self._events, user, [*self._events.key, *columns])
        texts = self._find_texts(self._events)
        others, unsure = self._find_mentions(self._events, columns, [user, *texts], self._judge_others(texts, user))
        tested, judge = [*self._find_texts(self._deduplicated), "is_same_content"], self._judge_repeated(own)
        repeated, more = self._find_mentions(self._deduplicated, ["deduplicated_at"], tested, judge)
        unsure += more
        texts, arrival = self._list_raw(), ["quarantined_at"]
        refused, more = self._find_mentions(self._quarantined, arrival, texts, self._judge_raw)
        requeued = self._find_requeued(pa.concat_tables([own, others]))
        return Traces(self._events.name, own, others, refused, repeated, requeued, tuple(unsure + more))

    def find_own(self, spec: TableSpec, user_column: str, columns: list[str]) -> pa.Table:
        """These columns of the user's rows of a table that has users, in `user_column`."""
        return self._scan(spec, columns, [user_column], lambda rows: self._is_own(rows, user_column))

    def _find_requeued(self, events: pa.Table) -> pa.Table:
        """What the requeues have noted of these events: by their id, which repetitions have too, or by the record."""
        name = self._roles.event_id
        if name is not None:
            # The table is of all topics, whose ids may be the same.
            ids, topics = _texts_of(events, name), _texts_of(events, "topic")
            return self._scan(
                REQUEUED_RECORDS, [*REQUEUED_RECORDS.key], ["event_id", "topic"],
                lambda rows: pc.and_(_is_in(rows, "event_id", ids), _is_in(rows, "topic", topics)),
            )  # fmt: skip
        places = set(_read_places(events))
        return self._scan(
            REQUEUED_RECORDS, [*REQUEUED_RECORDS.key], [*REQUEUED_RECORDS.key],
            lambda rows: pa.array([place in places for place in _read_places(rows)], pa.bool_()),
        )  # fmt: skip

    def _require_user(self) -> str:
        if self._roles.user_id is None:
            raise UsageError(f"{self._events.name} has no column that says whose a record is.")
        return self._roles.user_id

    def _find_mentions(
        self, spec: TableSpec, columns: list[str], tested: list[str], judge: Judge
    ) -> tuple[pa.Table, list[UnsureRecord]]:
        """The rows that go, and the others that mention the user."""
        found = self._scan(
            spec, [*spec.key, *columns, *tested], tested, lambda rows: pa.array(judge(rows) != Mention.NONE)
        )
        places = read_coordinates(found)
        verdicts = [verdict for rows in found.to_batches() for verdict in judge(rows)]
        goes = [v == Mention.CERTAIN or self._also.holds(p) for v, p in zip(verdicts, places, strict=True)]
        unsure = [UnsureRecord(spec.name, place) for place, is_gone in zip(places, goes, strict=True) if not is_gone]
        rows = found.filter(pa.array(goes, pa.bool_())).select(list(dict.fromkeys([*spec.key, *columns])))
        return rows, unsure

    def _is_own(self, rows: pa.RecordBatch, user_column: str) -> pa.BooleanArray:
        return _is_in(rows, user_column, pa.array([self._user]))

    def _judge_others(self, texts: list[str], user_column: str) -> Judge:
        """Judges events of others: they count as theirs, whomever else they name."""

        def judge(rows: pa.RecordBatch) -> Verdicts:
            mentions = np.minimum(self._judge_texts(rows, texts), Mention.UNSURE)
            return np.where(np.array(self._is_own(rows, user_column)), Mention.NONE, mentions).astype(np.int8)

        return judge

    def _judge_repeated(self, events: pa.Table) -> Judge:
        """Judges records that repeat an event: the user's if the event is one of these and both say the same."""
        name, texts = self._roles.event_id, self._find_texts(self._deduplicated)
        ids = pa.array([], pa.string()) if name is None else _texts_of(events, name)

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
            suspects |= np.array(find_suspects(texts, self._sought, name))
        found = np.full(len(rows), Mention.NONE, np.int8)
        for row in np.flatnonzero(suspects).tolist():
            fields = [(name, text) for name, column in columns.items() if (text := column[row].as_py()) is not None]
            found[row] = judge_fields(fields, self._sought)
        return found

    def _list_raw(self) -> list[str]:
        """The columns of the quarantine that hold what was sent."""
        return [column.name for column in self._quarantined.columns if column.name in ("key", "value", "headers")]

    def _judge_raw(self, rows: pa.RecordBatch) -> Verdicts:
        """Judges Kafka records by their key, their value and their headers."""
        keys, values = (rows[name].cast(pa.binary()) for name in ("key", "value"))
        headers = rows["headers"] if "headers" in rows.schema.names else pa.nulls(len(rows))
        suspects = pc.or_(
            find_suspects(keys, self._sought, _OF_KEY, is_raw=True), find_suspects(values, self._sought, is_raw=True)
        )
        found = np.full(len(rows), Mention.NONE, np.int8)
        for row in pc.indices_nonzero(pc.or_(suspects, headers.is_valid())).to_pylist():
            own = list_headers(headers[row].as_py())
            found[row] = judge_record(keys[row].as_py(), values[row].as_py(), self._sought, own)
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

    def _find_texts(self, spec: TableSpec) -> list[str]:
        """The table's columns that hold what was sent, but the user, and but texts that no sender chooses."""
        left_out = ("topic", "kept_topic", spec.roles.user_id, spec.roles.event_type)
        return [c.name for c in spec.columns if c.type in ("string", "binary") and c.name not in left_out]


def read_coordinates(rows: pa.Table | pa.RecordBatch) -> list[Coordinates]:
    """The coordinates of each of these rows."""
    return list(map(Coordinates, *(rows[name].to_pylist() for name in COORDINATES)))


def _read_places(rows: pa.Table | pa.RecordBatch) -> list[tuple[Any, ...]]:
    """Coordinates and index of each of these rows; null for the index where records hold no lists."""
    known = set(rows.schema.names)
    columns = [rows[name].to_pylist() if name in known else [None] * len(rows) for name in REQUEUED_RECORDS.key]
    return list(zip(*columns, strict=True))


def _texts_of(events: pa.Table, column: str) -> pa.Array:
    return pa.array(pc.unique(events[column]).to_pylist(), pa.string())


def _is_in(rows: pa.RecordBatch, column: str, values: pa.Array) -> pa.BooleanArray:
    # Files that delta-rs has rewritten hold view types, which few kernels know.
    return pc.is_in(rows[column].cast(pa.string()), value_set=values)
