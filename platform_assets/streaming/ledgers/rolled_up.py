"""Rolls up rows of `platform.ledger`: batches that read on from one another within a day become one row.

Such a row has the exact range that its batches read, the sums of what became of the records, each gap as it was found,
and the first and the last batch with their times. Only sound accounts go together: what does not add up, leaves a
hole or overlaps stays a row of its own, so that every check says of rolled-up rows what it says of the batches.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from platform_assets.delta_reader import PORTION_ROWS, read_portions
from platform_assets.streaming.arrays import to_int64s
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.moments import MICROS_PER_DAY, count_micros
from platform_assets.tables.platform import LEDGER

if TYPE_CHECKING:
    import numpy.typing as npt
    from deltalake import DeltaTable

    from platform_assets.streaming.arrays import Int64s

# Columns of rolled-up rows: null in the row of one batch.
FIRST_BATCH, FIRST_ARRIVAL, BATCHES = "first_batch_id", "first_arrived_at", "batches"
NO_GAPS = "[]"

_SUMMED = ("rows_in", "accepted", "quarantined", "deduplicated", "erased", BATCHES)
_GROUPED = ("query", "txn_app_id", "topic")

Cuts = Mapping[tuple[str, int], Sequence[int]]
"""By topic and partition: when its log began again, in microseconds, oldest first. Nothing is joined across."""


def read_rolled_up(ledger: DeltaTable, query: str, cuts: Cuts | None = None, row_filter: Any = None) -> pa.Table:
    """Rows of a query in `platform.ledger` (a filter over Arrow expressions chooses among them), rolled up.

    Read in portions: what is in memory is one of them, and the rolled-up rows of those before.
    """
    found = [build_arrow_schema(LEDGER).empty_table()]
    waiting = 0
    for portion in read_rows(ledger, query, row_filter):
        found.append(_complete(portion))
        waiting += len(portion)
        if waiting >= PORTION_ROWS:
            found, waiting = [roll_up(pa.concat_tables(found), cuts)], 0
    return roll_up(pa.concat_tables(found), cuts)


def read_rows(ledger: DeltaTable, query: str, row_filter: Any = None) -> Iterator[pa.Table]:
    """Rows of a query in `platform.ledger` as they are, with the columns that the table has."""
    dataset = ledger.to_pyarrow_dataset()
    known = [name for name in build_arrow_schema(LEDGER).names if name in dataset.schema.names]
    for portion in read_portions(dataset, known, row_filter):
        own = portion.filter(pc.equal(portion["query"], query))
        if len(own):
            yield own


def find_cuts(lost_ranges: Iterable[Mapping[str, Any]]) -> Cuts:
    """When logs began again, from the rows of `platform.lost_ranges`."""
    cuts: dict[tuple[str, int], list[int]] = {}
    for row in lost_ranges:
        if row["until_offset"] is None:
            times = cuts.setdefault((row["topic"], row["kafka_partition"]), [])
            insort(times, count_micros(row["acknowledged_at"]))
    return cuts


def roll_up(rows: pa.Table, cuts: Cuts | None = None) -> pa.Table:
    """The rows (columns of `platform.ledger`; those that older code did not have may be missing), as few as may be.

    Rolled-up rows can be among them, and go on being joined. What is returned has all columns, in the table's order.
    """
    rows = _complete(rows)
    if not len(rows):
        return rows
    group = np.stack(
        [*(_number(rows[name]) for name in _GROUPED), to_int64s(rows, "kafka_partition"), *_times(rows, cuts)]
    )
    order = np.lexsort((to_int64s(rows, "from_offset"), to_int64s(rows, FIRST_BATCH), *group[::-1]))
    rows, group = rows.take(pa.array(order)), group[:, order]
    return _join(rows, np.flatnonzero(~_continues(rows, group)))


def _complete(rows: pa.Table) -> pa.Table:
    """The rows with all columns; the row of one batch is one from this batch to this batch."""
    schema = build_arrow_schema(LEDGER)
    for field in schema:
        if field.name not in rows.column_names:
            rows = rows.append_column(field.name, pa.nulls(len(rows), field.type))
    rows = rows.select(schema.names).cast(schema).combine_chunks()
    filled = {
        FIRST_BATCH: rows["batch_id"], FIRST_ARRIVAL: rows["arrived_at"], BATCHES: pa.scalar(1, pa.int64()),
        "erased": pa.scalar(0, pa.int64()), "gaps": pa.scalar(NO_GAPS),
    }  # fmt: skip
    for name, value in filled.items():
        at = schema.get_field_index(name)
        rows = rows.set_column(at, schema.field(name), pc.coalesce(rows[name], value))
    return rows


def _number(texts: pa.ChunkedArray) -> Int64s:
    """A number for each distinct text."""
    return texts.combine_chunks().dictionary_encode().indices.cast(pa.int64()).to_numpy()


def _times(rows: pa.Table, cuts: Cuts | None) -> tuple[Int64s, Int64s]:
    """The day of each row, and how often the log of its partition had begun again."""
    arrivals = to_int64s(rows, "arrived_at")
    numbers = np.zeros(len(rows), np.int64)
    for (topic, partition), times in (cuts or {}).items():
        is_own = np.asarray(pc.equal(rows["topic"], topic)) & (to_int64s(rows, "kafka_partition") == partition)
        numbers[is_own] = np.searchsorted(np.array(times), arrivals[is_own], side="right")
    return arrivals // MICROS_PER_DAY, numbers


def _continues(rows: pa.Table, group: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether each row reads on from the one before it, and both are sound."""
    is_sound = _find_sound(rows)
    known = pc.fill_null(rows["is_compacted"].cast(pa.int8()), -1).to_numpy()
    start, end = to_int64s(rows, "from_offset"), to_int64s(rows, "until_offset")
    follows = np.zeros(len(rows), bool)
    follows[1:] = (group[:, 1:] == group[:, :-1]).all(axis=0) & is_sound[1:] & is_sound[:-1]
    follows[1:] &= (start[1:] == end[:-1]) & (known[1:] == known[:-1])
    return follows


def _find_sound(rows: pa.Table) -> npt.NDArray[np.bool_]:
    """Whether a row's numbers add up, and its gaps lie in its range, one behind the other."""
    start, end, read = (to_int64s(rows, name) for name in ("from_offset", "until_offset", "rows_in"))
    outcomes = sum(to_int64s(rows, name) for name in ("accepted", "quarantined", "deduplicated", "erased"))
    missing = np.zeros(len(rows), np.int64)
    for at in np.flatnonzero(np.asarray(pc.not_equal(rows["gaps"], NO_GAPS))):
        gaps = read_gaps(rows["gaps"][int(at)].as_py())
        edges = [int(start[at]), *(offset for gap in gaps for offset in gap), int(end[at])]
        is_inside = all(low <= high for low, high in pairwise(edges))
        missing[at] = sum(until - since for since, until in gaps) if is_inside else -1
    return (missing >= 0) & (end >= start) & (read == outcomes) & (read + missing == end - start)


def read_gaps(text: str) -> tuple[tuple[int, int], ...]:
    """The gaps of a row."""
    return () if text == NO_GAPS else msgspec.json.decode(text, type=tuple[tuple[int, int], ...])


def _join(rows: pa.Table, starts: Int64s) -> pa.Table:
    """One row from each start to the next."""
    ends = np.append(starts[1:], len(rows)) - 1
    joined: dict[str, Any] = {name: rows[name].take(pa.array(ends)) for name in rows.column_names}
    joined["from_offset"] = rows["from_offset"].take(pa.array(starts))
    for name in _SUMMED:
        joined[name] = pa.array(np.add.reduceat(to_int64s(rows, name), starts))
    bounds = dict.fromkeys(("batch_id", "table_version", "arrived_at"), np.maximum)
    for name, reduce in (bounds | dict.fromkeys((FIRST_BATCH, FIRST_ARRIVAL), np.minimum)).items():
        joined[name] = pa.array(reduce.reduceat(to_int64s(rows, name), starts)).cast(rows.schema.field(name).type)
    joined["gaps"] = _join_gaps(rows["gaps"], starts, ends)
    return pa.table(joined, schema=rows.schema)


def _join_gaps(texts: pa.ChunkedArray, starts: Int64s, ends: Int64s) -> pa.Array:
    """The lists of gaps (JSON) from each start to its end as one list."""
    found = np.flatnonzero(np.asarray(pc.not_equal(texts, NO_GAPS)))
    lists = texts.take(pa.array(found)).to_pylist()
    low, high = np.searchsorted(found, starts), np.searchsorted(found, ends, side="right")
    joined = [", ".join(text[1:-1] for text in lists[a:b]) for a, b in zip(low, high, strict=True)]
    return pa.array([f"[{text}]" for text in joined], pa.string())
