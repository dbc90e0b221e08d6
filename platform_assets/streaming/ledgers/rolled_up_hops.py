"""Rolls up rows of `platform.hop_ledger`: batches that read on from one another within a day become one row.

A batch of which Spark said something else than the writers stays a row of its own, and one of which nobody knows what
it read. So does a query's first, which says with which state of its source it began.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from platform_assets.delta_reader import read_portions
from platform_assets.streaming.arrays import to_int64s
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.moments import MICROS_PER_DAY
from platform_assets.tables.platform import HOP_LEDGER

if TYPE_CHECKING:
    import numpy.typing as npt
    from deltalake import DeltaTable

_GROUPED = ("query", "txn_app_id", "source_table")
_FIRST = ("first_batch_id", "from_version", "from_files")
_SUMMED = ("rows_passed", "rows_in", "rows_read", "rows_out", "rows_late", "rows_expired", "batches")


def read_rolled_up_hops(hops: DeltaTable, query: str, row_filter: Any) -> pa.Table:
    """Rows of a query in `platform.hop_ledger`, rolled up; a filter over Arrow expressions chooses among them."""
    dataset = hops.to_pyarrow_dataset()
    portions = read_portions(dataset, build_arrow_schema(HOP_LEDGER).names, row_filter)
    own = (portion.filter(pc.equal(portion["query"], query)) for portion in portions)
    return roll_up_hops(pa.concat_tables([build_arrow_schema(HOP_LEDGER).empty_table(), *own]))


def roll_up_hops(rows: pa.Table) -> pa.Table:
    """The rows, with all columns, as few as may be; in the order of the batches of each query."""
    if not len(rows):
        return rows
    place = rows.schema.get_field_index("batches")
    rows = rows.set_column(place, rows.schema.field(place), pc.coalesce(rows["batches"], pa.scalar(1, pa.int64())))
    numbers = [rows[name].combine_chunks().dictionary_encode().indices.to_numpy() for name in _GROUPED]
    group = np.stack([*numbers, to_int64s(rows, "planned_at") // MICROS_PER_DAY])
    order = np.lexsort((to_int64s(rows, "batch_id"), *group[::-1]))
    rows, group = rows.take(pa.array(order)), group[:, order]
    starts = np.flatnonzero(~_continues(rows, group))
    ends = np.append(starts[1:], len(rows)) - 1
    joined: dict[str, Any] = {
        name: rows[name].take(pa.array(starts if name in _FIRST else ends)) for name in rows.column_names
    }
    for name in _SUMMED:
        summed = np.add.reduceat(pc.fill_null(rows[name], 0).to_numpy(), starts)
        is_unknown = (starts == ends) & np.asarray(joined[name].is_null())
        joined[name] = pa.array(summed, mask=is_unknown)
    return pa.table(joined, schema=rows.schema)


def _continues(rows: pa.Table, group: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether each row reads on from the one before it, and nothing is to be said of either."""
    read, known = (pc.fill_null(rows[name], -1).to_numpy() for name in ("rows_read", "rows_in"))
    is_plain = (read == known) & np.asarray(rows["rows_passed"].is_valid()) & (to_int64s(rows, "first_batch_id") > 0)
    for name in ("rows_read", "rows_in_state", "rows_expired"):
        is_plain &= np.asarray(rows[name].is_valid())
    follows = np.zeros(len(rows), bool)
    follows[1:] = (group[:, 1:] == group[:, :-1]).all(axis=0) & is_plain[1:] & is_plain[:-1]
    follows[1:] &= to_int64s(rows, "first_batch_id")[1:] == to_int64s(rows, "batch_id")[:-1] + 1
    for begin, end in (("from_version", "until_version"), ("from_files", "until_files")):
        follows[1:] &= to_int64s(rows, begin)[1:] == to_int64s(rows, end)[:-1]
    return follows
