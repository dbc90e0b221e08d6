"""A Delta table as a whole, as it was at one version: what a load or a publisher begins with, in portions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from platform_assets.sinks.table_log import DataFile, LogGapError
from platform_assets.store_errors import find_store_error
from platform_assets.streaming.delta.delta_tables import build_arrow_schema

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

    from platform_assets.tables.spec import TableSpec
    from resources.lakehouse import LakehouseResource

# A portion is done again whole after a kill; each costs a commit.
_PORTION_BYTES = 32 * 1024 * 1024


def open_version(lakehouse: LakehouseResource, name: str, version: int, table_id: str | None = None) -> DeltaTable:
    """The table as it was. `table_id`: which table it must be.

    Raises `LogGapError` when that cannot be read any more, and what the object store refuses or does not answer.
    """
    from deltalake.exceptions import DeltaError

    table = lakehouse.find_table(name)
    try:
        if table is None or table.version() < version:
            raise LogGapError(f"{name} no longer has version {version}")
        table.load_as_version(version)
    except (DeltaError, FileNotFoundError) as error:
        if (store := find_store_error(lakehouse.root_uri, str(error))) is not None:
            raise store from None
        raise LogGapError(f"the log of {name} no longer holds version {version}") from None
    if table_id is not None and str(table.metadata().id) != table_id:
        raise LogGapError(f"{name} is another table")
    return table


def list_files(table: DeltaTable) -> list[DataFile]:
    """All files of the table's version, in an order that does not change."""
    from urllib.parse import unquote

    import pyarrow as pa

    found = []
    for action in pa.table(table.get_add_actions(flatten=True)).to_pylist():
        partition = {
            name.removeprefix("partition."): None if value is None else str(value)
            for name, value in action.items() if name.startswith("partition.")
        }  # fmt: skip
        found.append(DataFile(unquote(action["path"]), action["size_bytes"], partition))
    return sorted(found, key=lambda file: file.path)


def cut_portions(files: Sequence[DataFile]) -> list[list[DataFile]]:
    """The files in portions of some size, of at least one file each. The same files give the same portions."""
    portions: list[list[DataFile]] = []
    size = 0
    for file in files:
        if not portions or size + file.size_bytes > _PORTION_BYTES:
            portions.append([])
            size = 0
        portions[-1].append(file)
        size += file.size_bytes
    return portions


def build_nullable_schema(spec: TableSpec) -> pa.Schema:
    """The table's columns, each of which may lack a value.

    What another program has written may lack one; a required column would refuse the whole file.
    """
    return build_arrow_schema(replace(spec, columns=tuple(replace(column, nullable=True) for column in spec.columns)))
