"""The latest row of each key among the rows of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_PLACE = "_place"


def keep_latest(tables: Iterable[pa.Table], key: Sequence[str], latest_by: Sequence[str]) -> pa.Table:
    """Keeps of each key, in which a null is a value as any other, the row that is the greatest by `latest_by`.

    The tables have the same columns, and there is one at least. Memory: the latest rows, and one table.
    """
    import pyarrow as pa

    found: pa.Table | None = None
    for rows in tables:
        found = _keep(rows if found is None else pa.concat_tables([found, rows.cast(found.schema)]), key, latest_by)
    assert found is not None, "A batch without rows is not written."
    return found


def _keep(rows: pa.Table, key: Sequence[str], latest_by: Sequence[str]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    # The places alone are sorted: nested columns cannot be.
    order = pc.sort_indices(rows.select(latest_by), [(name, "ascending") for name in latest_by])
    keys = rows.select(key).take(order).append_column(_PLACE, pa.array(range(len(rows)), pa.int64()))
    last = keys.group_by(list(key)).aggregate([(_PLACE, "max")])[f"{_PLACE}_max"]
    return rows.take(order.take(last.combine_chunks()))
