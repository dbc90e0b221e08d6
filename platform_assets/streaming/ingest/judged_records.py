"""A batch of parsed records with what became of each: numbers about all of them in memory, the records by portion.

What each stage of `event_writer` needs to know of a record are a few numbers. Its texts and raw bytes, which may be
large, are loaded when they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from platform_assets.streaming.ingest.deduplication import OFFSET_BITS, Duplicates, hash_ids, pack_coordinates
from platform_assets.streaming.ingest.event_content import describe_contents
from platform_assets.streaming.ingest.record_lists import PLACE_IN_LIST
from platform_assets.streaming.ingest.record_parser import REFUSALS
from platform_assets.streaming.register.forgotten_users import ON_ARRIVAL, UNSURE_ON_ARRIVAL, build_erased
from platform_assets.streaming.register.named_users import Mention
from platform_assets.tables.coordinates import COORDINATES

if TYPE_CHECKING:
    from platform_assets.streaming.arrays import Int64s
    from platform_assets.streaming.checkpoint.checkpoint import PlannedBatch
    from platform_assets.streaming.delta.batch_writer import DeltaBatchWriter
    from platform_assets.streaming.delta.commit_info import CommitInfo
    from platform_assets.streaming.ingest.batch_records import Portion
    from platform_assets.streaming.topic_spec import Topic

_UTC_MICROS = pa.timestamp("us", tz="UTC")
_ARRIVED = "_arrived_at"
_RECORD = {name: name for name in (*COORDINATES, "kafka_timestamp")}
_ERASED = _RECORD | {_ARRIVED: "arrived_at"}
_KEPT = ["kafka_partition", "kafka_offset", "event_time", "kafka_timestamp"]


def number_records(topic: Topic, records: pa.Table, mentions: Any, hashes: Sequence[Int64s]) -> pa.Table:
    """What is kept in memory of parsed records (`record_parser.parsed_schema`), one row each.

    Columns: where and when, `_type` (of the event, where the topic has types), `sender` (a hash
    of whose record it is; 0 where the topic does not say), `is_rejected`, `mention` (how it names a
    forgotten user, `named_users.Mention`), and where anything is deduplicated, the hashes of its event_id and of its
    content: `hash1`, `hash2`, `content` (of a rejected record too, where they mean nothing).
    """
    roles = topic.roles
    added = {
        "sender": pa.nulls(len(records), pa.int64()).fill_null(0)
        if roles.user_id is None
        else _hash_senders(records[roles.user_id]),
        "is_rejected": pa.array(records["_reason"].is_valid().to_numpy() & (mentions == Mention.NONE)),
        "mention": pa.array(mentions, pa.int8()),
        **dict(zip(("hash1", "hash2", "content"), map(pa.array, hashes), strict=False)),
    }
    if roles.event_type is not None:
        added["_type"] = records[roles.event_type]
    numbers = records.select(_KEPT)
    for name, values in added.items():
        numbers = numbers.append_column(name, values)
    return numbers


@dataclass(frozen=True)
class JudgedBatch:
    """The records of a batch of a topic, in portions, and what became of each. `numbers`: of all (`number_records`).

    `duplicates` are positions in `numbers`. The masks, and all columns that are asked for, are parallel: one item a
    record, in the order of the portions.
    """

    topic: Topic
    portions: Sequence[Portion]
    numbers: pa.Table
    duplicates: Duplicates

    def column(self, name: str) -> Int64s:
        """A column of the numbers."""
        return to_int64s(self.numbers, name)

    @cached_property
    def is_rejected(self) -> Any:
        """Which records are quarantined."""
        return self.numbers["is_rejected"].to_numpy()

    @cached_property
    def is_erased(self) -> Any:
        """Which records are of a forgotten user, or may be."""
        return self.column("mention") != Mention.NONE

    @cached_property
    def is_duplicate(self) -> Any:
        """Which records repeat an accepted one."""
        found = np.zeros(len(self.numbers), dtype=bool)
        found[self.duplicates.positions] = True
        return found

    @cached_property
    def is_accepted(self) -> Any:
        """Which records go into the main table."""
        return ~(self.is_rejected | self.is_duplicate | self.is_erased)

    def append_rejected(self, table: DeltaBatchWriter, planned: PlannedBatch, info: CommitInfo) -> None:
        """Appends the rejected records to a table, in one commit; none where there are no such records."""
        self._append_any(self.is_rejected, table, planned, info, lambda records, _: _as_refused(records))

    def append_duplicates(self, table: DeltaBatchWriter, planned: PlannedBatch, info: CommitInfo) -> None:
        """The same with the repeated ones, which say what they repeat."""
        self._append_any(
            self.is_duplicate, table, planned, info,
            lambda records, places: _add_kept(
                self.topic, records, self.duplicates, np.searchsorted(self.duplicates.positions, places)
            ),
        )  # fmt: skip

    def append_erased(self, table: DeltaBatchWriter, planned: PlannedBatch, info: CommitInfo) -> None:
        """The same with the coordinates of those of forgotten users; of several in one list once.

        What may be the user's goes too: nobody could say afterwards that it had come.
        """
        was = np.where(self.column("mention") == Mention.CERTAIN, ON_ARRIVAL, UNSURE_ON_ARRIVAL)
        chosen = self.is_erased
        if self.topic.is_list:
            chosen = np.zeros(len(self.numbers), dtype=bool)
            places = np.flatnonzero(self.is_erased)
            chosen[places[np.unique(read_coordinates(self.numbers)[places], return_index=True)[1]]] = True
        self._append_any(
            chosen,
            table,
            planned,
            info,
            lambda records, places: build_erased(_take(records, _ERASED), pa.array(was[places])),
        )

    def append_accepted(self, table: DeltaBatchWriter, planned: PlannedBatch, info: CommitInfo) -> bool:
        """Appends the accepted records, and the commit also where there are none; whether it was this call."""
        return self._append(self.is_accepted, table, planned, info, lambda records, _: _as_accepted(records))

    def _append_any(self, chosen: Any, *where: Any) -> None:
        if chosen.any():
            self._append(chosen, *where)

    def _append(
        self, chosen: Any, table: DeltaBatchWriter, planned: PlannedBatch, info: CommitInfo,
        build: Callable[[pa.Table, Any], pa.Table],
    ) -> bool:  # fmt: skip
        """Appends the chosen records (a mask) as `build` makes rows of them and of their places in the arrays."""

        def read() -> Iterator[pa.Table]:
            for records, places in self._read(chosen):
                arrived = pa.repeat(pa.scalar(planned.arrival_micros, pa.int64()).cast(_UTC_MICROS), len(records))
                topic = pa.repeat(planned.ranges[0].topic, len(records))
                yield build(records.append_column("topic", topic).append_column(_ARRIVED, arrived), places)

        if len(self.portions) == 1:
            return table.append(next(read()), info)
        return table.append_portions(read, int(chosen.sum()), info)

    def _read(self, chosen: Any) -> Iterator[tuple[pa.Table, Any]]:
        """Reads by portion; at least one, perhaps without a record."""
        start = 0
        for number, portion in enumerate(self.portions):
            own = chosen[start : start + portion.count]
            if own.any() or number == 0:
                records = portion.load()
                yield records if own.all() else records.filter(pa.array(own)), start + np.flatnonzero(own)
            start += portion.count


def count_by_type(events: pa.Table, type_column: str | None) -> dict[str, int]:
    """Parsed records by their type; all under one name, which is none, where the topic has no types."""
    if type_column is None:
        return {"": len(events)} if len(events) else {}
    return {item["values"]: item["counts"] for item in pc.value_counts(events.column(type_column)).to_pylist()}


def read_coordinates(records: pa.Table) -> Int64s:
    """The coordinates of each record, in the form of `pack_coordinates`."""
    return pack_coordinates(to_int64s(records, "kafka_partition"), to_int64s(records, "kafka_offset"))


def to_int64s(table: pa.Table, column: str) -> Int64s:
    """A column of whole numbers or times without nulls."""
    found: Int64s = table.column(column).cast(pa.int64()).to_numpy()
    return found


def _as_accepted(records: pa.Table) -> pa.Table:
    return records.drop_columns(list(REFUSALS)).rename_columns({_ARRIVED: "ingested_at"})


def _as_refused(records: pa.Table) -> pa.Table:
    return _take(records, _RECORD | {name: name.removeprefix("_") for name in REFUSALS} | {_ARRIVED: "quarantined_at"})


def _take(records: pa.Table, names: Mapping[str, str]) -> pa.Table:
    """These columns under other names. The others may be fields that have those names."""
    return records.select(list(names)).rename_columns(list(names.values()))


def _hash_senders(users: pa.ChunkedArray) -> pa.Array:
    encoded = users.combine_chunks().dictionary_encode()
    senders, _ = hash_ids(pa.chunked_array([encoded.dictionary]))
    return pa.array(senders).take(encoded.indices).fill_null(0)


def _add_kept(topic: Topic, repeated: pa.Table, found: Duplicates, own: Any) -> pa.Table:
    """Adds where the record that each of these repeats was kept: `kept_topic`, `kept_partition`, `kept_offset`.

    It also adds whether both say the same; if not, what the repetition says and whose it is. `own` are the places of
    these among all that were found.
    """
    kept, is_same = found.kept[own], pa.array(found.is_same[own])
    others = iter(describe_contents(topic, repeated.filter(pc.invert(is_same))))
    added = {
        "kept_topic": repeated.column("topic"),
        "kept_partition": pa.array(kept >> OFFSET_BITS).cast(pa.int32()),
        "kept_offset": pa.array(kept & ((1 << OFFSET_BITS) - 1)),
        "is_same_content": is_same,
        "content": pa.array([None if same else next(others) for same in is_same.to_pylist()], pa.string()),
    }
    if topic.roles.user_id is not None:
        users = repeated.column(topic.roles.user_id)
        added["other_user_id"] = pc.if_else(is_same, pa.scalar(None, pa.string()), users)
    else:
        added["other_user_id"] = pa.nulls(len(repeated), pa.string())
    in_list = {name: name for name in PLACE_IN_LIST if topic.is_list}
    rows = _take(repeated, _RECORD | in_list | {_ARRIVED: "deduplicated_at"})
    added["event_id"] = repeated.column(topic.roles.event_id)
    for name, values in added.items():
        rows = rows.append_column(name, values)
    return rows
