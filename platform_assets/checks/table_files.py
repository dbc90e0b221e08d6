"""Checks that tables stay cheap to read: few files, none of them tiny among many, a short log."""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from platform_assets.errors import TableSchemaError
from platform_assets.int96_files import Int96Guard
from platform_assets.streaming.engine.table_upkeep import (
    COMMITS_OF_ONE_CHECKPOINT,
    COMMITS_OF_ONE_COMPACTION,
    SMALL_BYTES,
    find_checkpoint,
)
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    from deltalake import DeltaTable

# What a stream writes between two compactions, for a day that is written and one that is late; an upsert takes 0.1 s
# with a thousand files, 2.7 s with twenty thousand.
MAX_SMALL_FILES = 3 * COMMITS_OF_ONE_COMPACTION
# Readers replay the commits since the log's last checkpoint; a group that is busy is a few rounds late.
MAX_COMMITS_TO_REPLAY = 10 * COMMITS_OF_ONE_CHECKPOINT
_WHAT_TO_DO = "The stream group compacts its tables while it runs: is it paused, or does another program write here?"


@dataclass(frozen=True)
class TableFiles:
    """Live files of one version, by size, and the commits that a reader replays to know them."""

    files: int
    small_files: int
    size_bytes: int
    largest_bytes: int
    commits_to_replay: int


def build_table_files_checks(tables: Iterable[TableSpec]) -> list[dg.AssetChecksDefinition]:
    """One check `table_files` for each table; needs the resource `lakehouse`. It warns, for no row is wrong.

    It opens the footers of all files, in which it can see that another Spark has written them with INT96.
    """
    return [_build_check(spec) for spec in tables]


def read_table_files(table: "DeltaTable", storage_options: dict[str, str] | None = None) -> TableFiles:
    """Reads the table's files from the log; no file is opened."""
    import pyarrow as pa

    sizes = pa.table(table.get_add_actions(flatten=True))["size_bytes"].to_pylist()
    return TableFiles(
        files=len(sizes),
        small_files=sum(size < SMALL_BYTES for size in sizes),
        size_bytes=sum(sizes),
        largest_bytes=max(sizes, default=0),
        commits_to_replay=table.version() - find_checkpoint(table.table_uri, storage_options),
    )


def find_file_breaches(found: TableFiles) -> list[str]:
    """What makes the table slow to read, one sentence each."""
    breaches = []
    if found.small_files > MAX_SMALL_FILES:
        breaches.append(f"{found.small_files:,} of {found.files:,} files are smaller than 1 MiB.")
    if found.commits_to_replay > MAX_COMMITS_TO_REPLAY:
        breaches.append(f"A reader replays {found.commits_to_replay:,} commits since the log's last checkpoint.")
    return breaches


def _build_check(spec: TableSpec) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=list(spec.asset_path),
        name="table_files",
        description=f"{spec.name} has few small files and a short log.",
        required_resource_keys={"lakehouse"},
    )
    def table_files(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        from deltalake.exceptions import TableNotFoundError

        lakehouse = context.resources.lakehouse
        try:
            table = lakehouse.delta_table(spec.name)
            found, guard = read_table_files(table, lakehouse.storage_options()), Int96Guard(lakehouse.storage_options())
        except TableNotFoundError:
            return dg.AssetCheckResult(passed=True, description="The table does not exist yet.")
        breaches = [" ".join([*slow, _WHAT_TO_DO])] if (slow := find_file_breaches(found)) else []
        try:
            guard.check(table)
        except TableSchemaError as error:
            breaches.append(str(error))
        said = (
            f"{found.files:,} files, {found.size_bytes / 1e6:,.1f} MB, {found.small_files:,} smaller than 1 MiB; "
            f"{found.commits_to_replay:,} commits since the log's last checkpoint."
        )
        return dg.AssetCheckResult(
            passed=not breaches,
            severity=dg.AssetCheckSeverity.WARN,
            description=" ".join(breaches) or said,
            metadata={
                "files": found.files,
                "small_files": found.small_files,
                "size_bytes": found.size_bytes,
                "largest_file_bytes": found.largest_bytes,
                "commits_to_replay": found.commits_to_replay,
            },
        )

    return table_files
