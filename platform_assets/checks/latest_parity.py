"""Compares a table of latest rows with its rule over the whole source, a share of the keys at a time.

No row of such a table is ever final: a change of today may be of the oldest row. So all rows are compared, with the
source at the version that the table's newest batch has read.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from platform_assets.delta_reader import as_timestamptz, register_pinned
from platform_assets.streaming.delta.commit_info import CommitKind
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, read_commit_infos
from platform_assets.streaming.delta.reader import MAX_COMMITS_SEARCHED
from platform_assets.streaming.derive.commit_source import WHOLE_VERSION
from platform_assets.streaming.repair.table_difference import COPIES
from platform_assets.streaming.stream_spec import TableStream

if TYPE_CHECKING:
    import duckdb
    from deltalake import DeltaTable

    from platform_assets.streaming.delta.commit_log import CommitLog

# Of ten million changes DuckDB holds a gigabyte where rows are wide, and spills what is more.
CHANGES_OF_ONE_SHARE = 5_000_000
_BEGUN_ANEW = (CommitKind.RECOMPUTE, CommitKind.REPLAY_UNDONE)


@dataclass(frozen=True)
class LatestDifference:
    """How many rows were compared, by the rule; how many only one side has; the first of these, with `COPIES`."""

    rows: int
    differences: int
    first: list[dict[str, Any]]


def find_source_version(table: DeltaTable, stream: TableStream, log: CommitLog) -> int | None:
    """The version of the source that follows from what the table has; None while it has not read all of one version.

    A later one, up to which nothing was appended: what was taken out of both tables since is then missing in both.
    """
    source: dict[str, Any] | None = None
    for _, info in read_commit_infos(table, MAX_COMMITS_SEARCHED):
        if info.query != stream.name and info.value != stream.name:
            continue
        if info.kind in _BEGUN_ANEW:
            return None
        if info.source is not None:
            source = info.source
            break
    if source is None or source["files"] != WHOLE_VERSION:
        return None
    version: int = source["version"]
    while (commit := log.read(version + 1)) is not None and not commit.files:
        version += 1
    return version


def compare_latest(
    connection: duckdb.DuckDBPyConnection,
    stream: TableStream,
    table: DeltaTable,
    source: DeltaTable,
    kept_from: datetime | None,
    shown: int,
    changes_of_one_share: int = CHANGES_OF_ONE_SHARE,
) -> LatestDifference:
    """The difference of the two tables at their versions. Rows that last changed before `kept_from` are left out.

    Memory: a share of the keys, which DuckDB spills where that is too much.
    """
    register_pinned(connection, "all_present", table, columns=build_arrow_schema(stream.main_table))
    register_pinned(connection, "all_events", source, columns=build_arrow_schema(stream.source.table))
    [(changes,)] = connection.sql("SELECT count(*) FROM all_events").fetchall()
    shares = max(1, -(-changes // changes_of_one_share))
    columns = ", ".join(f'"{column.name}"' for column in stream.main_table.columns)
    key = ", ".join(f'"{name}"' for name in stream.main_table.key)
    is_kept = "true" if kept_from is None else f"{stream.span.start_column} >= {as_timestamptz(kept_from)}"
    rows, differences, first = 0, 0, list[dict[str, Any]]()
    for share in range(shares):
        is_own = f"hash({key}) % {shares} = {share}"
        for name in ("events", "present"):
            connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT * FROM all_{name} WHERE {is_own}")
        sides = f"SELECT {columns}, 1 AS {COPIES} FROM ({stream.rule}) UNION ALL SELECT {columns}, -1 FROM present"
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE differing AS "
            f"SELECT {columns}, sum({COPIES})::BIGINT AS {COPIES}, count(*) FILTER ({COPIES} > 0) AS _wanted "
            f"FROM ({sides}) WHERE {is_kept} GROUP BY {columns}"
        )
        [(wanted, unequal)] = connection.sql(
            f"SELECT coalesce(sum(_wanted), 0)::BIGINT, coalesce(sum(abs({COPIES})), 0)::BIGINT FROM differing"
        ).fetchall()
        rows, differences = rows + wanted, differences + unequal
        if unequal and len(first) < shown:
            found = connection.sql(f"SELECT {COPIES}, {columns} FROM differing WHERE {COPIES} <> 0 ORDER BY {key}")
            first += found.limit(shown - len(first)).to_arrow_table().to_pylist()
    return LatestDifference(rows, differences, first)


def describe_nothing(stream: TableStream) -> str:
    """Says why there is nothing to compare yet."""
    return f"The stream {stream.name} has not read all of {stream.source.table.name} yet, of any version."
