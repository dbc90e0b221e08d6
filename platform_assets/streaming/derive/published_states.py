"""Finds the newest row of each key of a topic of states: see `stream_spec.PublishedState`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from platform_assets.streaming.delta.delta_tables import build_arrow_schema, open_table
from platform_assets.streaming.stream_spec import PublishedState
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    import pyarrow as pa

    from platform_assets.streaming.context import StreamContext

Key = tuple[Any, ...]


@dataclass(frozen=True)
class NewestRows:
    """The newest row of each key by the table that it is of, and `without`: a row of each key that has none any more.

    `states` says of which table and moment each key's is. Two are equal when these are: a row may hold NaN.
    """

    states: dict[Key, tuple[str, datetime]]
    found: tuple[tuple[TableSpec, pa.Table], ...] = field(compare=False)
    without: pa.Table = field(compare=False)


class PublishedStates:
    """Reads what a stream's topic of states is to say. `table` is the stream's own."""

    def __init__(self, table: TableSpec, state: PublishedState, context: StreamContext) -> None:
        self._table, self._state, self._context = table, state, context

    def find_newest(self, rows: pa.Table, removed: bool) -> NewestRows:
        """The newest rows of the keys of these rows, which the stream has written, or (`removed`) has taken out.

        They may still be in the table when they are taken out. A key that is left without a row of the stream's own has
        no newest one, whatever the other tables say of it.
        """
        import pyarrow as pa

        state = self._state
        keys = list(_list_keys(rows, state.key))
        gone = set(_list_keys(rows, self._table.key)) if removed else set()
        # Where nothing is removed, no row that is newest is older than these rows are.
        since = None if removed else min(rows[state.time_column].to_pylist())
        newest: dict[Key, tuple[TableSpec, dict[str, Any]]] = {}
        for spec in (self._table, *state.others):
            is_own = spec is self._table
            for key, row in self._read(spec, since, set(keys if is_own else newest)):
                if is_own and tuple(row[name] for name in spec.key) in gone:
                    continue
                if key not in newest or row[state.time_column] >= newest[key][1][state.time_column]:
                    newest[key] = spec, row
        found = tuple(
            (spec, pa.Table.from_pylist([row for of, row in newest.values() if of is spec], build_arrow_schema(spec)))
            for spec in (self._table, *state.others)
        )
        last = {key: place for place, key in enumerate(keys) if key not in newest}
        states = {key: (spec.name, row[state.time_column]) for key, (spec, row) in newest.items()}
        return NewestRows(states, found, rows.take(pa.array(sorted(last.values()), pa.int64())))

    def _read(self, spec: TableSpec, since: datetime | None, keys: set[Key]) -> Iterator[tuple[Key, dict[str, Any]]]:
        """The rows of these keys since a moment, in portions: Arrow has no filters for the keys' text."""
        import pyarrow as pa
        import pyarrow.compute as pc
        from deltalake.exceptions import TableNotFoundError

        try:
            table = open_table(self._context.table_uri(spec.name), self._context.storage_options)
        except TableNotFoundError:  # nobody has written there yet
            return
        recent = None if since is None else pc.field(self._state.time_column) >= since
        for batch in table.to_pyarrow_dataset().to_batches(filter=recent):
            wanted = [(place, key) for place, key in enumerate(_list_keys(batch, self._state.key)) if key in keys]
            rows = batch.take(pa.array([place for place, _ in wanted], pa.int64())).to_pylist()
            yield from zip((key for _, key in wanted), rows, strict=True)


def _list_keys(rows: pa.Table | pa.RecordBatch, names: tuple[str, ...]) -> Iterator[Key]:
    return zip(*(rows[name].to_pylist() for name in names), strict=True)
