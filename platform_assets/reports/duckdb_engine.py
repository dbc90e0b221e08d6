"""Reports computed by DuckDB in the run's own process: no start of Spark, no second heap, milliseconds a query.

Its memory is bounded by the connection's limit; what does not fit is spilled to disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from platform_assets.delta_reader import register_pinned
from platform_assets.errors import StorageError
from platform_assets.reports.concurrent_runs import commit_over_others
from platform_assets.reports.daily_report import InputRows, ReportCommit
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

# Rows that cross from DuckDB to the writer at once: of wide rows its default, a million, are hundreds of MB.
_BATCH_ROWS = 100_000


class DuckDBEngine:
    """`ReportEngine` by DuckDB."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, lakehouse: Any) -> None:
        self._connection = connection
        self._lakehouse = lakehouse

    def fetch(self, sql: str, inputs: Sequence[InputRows]) -> pa.Table:
        """Implements `ReportEngine.fetch`."""
        with clear_errors():
            self._register(inputs)
            return self._connection.sql(sql).to_arrow_table()

    def replace(self, sql: str, inputs: Sequence[InputRows], spec: TableSpec, commit: ReportCommit) -> None:
        """Implements `ReportEngine.replace`. A commit that loses against another run's is computed again."""
        commit_over_others(lambda: self._replace(sql, inputs, spec, commit))

    def _replace(self, sql: str, inputs: Sequence[InputRows], spec: TableSpec, commit: ReportCommit) -> None:
        import pyarrow as pa
        from deltalake import CommitProperties, write_deltalake

        table = create_table(self._lakehouse.table_uri(spec.name), spec, self._lakehouse.storage_options())
        schema = build_arrow_schema(spec)
        columns = ", ".join(column.name for column in spec.columns)
        days = "true" if commit.days is None else commit.days.predicate(spec.partition_columns[0])
        with clear_errors():
            self._register(inputs)
            if commit.days is not None:
                self._connection.execute(f"CREATE OR REPLACE TEMP VIEW report_days AS {commit.days.relation()}")
            found = self._connection.sql(f"SELECT {columns} FROM ({sql}) WHERE {days}")
            batches = (pa.Table.from_batches([b]).cast(schema) for b in found.to_arrow_reader(_BATCH_ROWS))
            rows = pa.RecordBatchReader.from_batches(schema, (b for part in batches for b in part.to_batches()))
            write_deltalake(
                table, rows, mode="overwrite", predicate=None if commit.days is None else days,
                commit_properties=CommitProperties(custom_metadata={"userMetadata": commit.as_json()}),
            )  # fmt: skip

    def _register(self, inputs: Sequence[InputRows]) -> None:
        for rows in inputs:
            table = self._lakehouse.delta_table(rows.table.name)
            table.load_as_version(rows.table.version)
            columns = build_arrow_schema(rows.table.spec)
            register_pinned(self._connection, f"{rows.name}_rows", table, rows.bounds, columns)
            self._connection.execute(
                f"CREATE OR REPLACE TEMP VIEW {rows.name} AS SELECT * FROM {rows.name}_rows WHERE {rows.condition}"
            )


@contextmanager
def clear_errors() -> Iterator[None]:
    """Says what to do where memory or disk is too small; other errors pass."""
    try:
        yield
    except Exception as error:
        # Known by its words: delta-rs passes on as its own error what happens in the stream of rows that it writes.
        text = str(error)
        if "Out of Memory Error" in text:
            raise StorageError(
                "This needs more memory than HEADRACE_REPORTS_MEMORY_MIB allows. Nothing was written. Raise the "
                "setting, or set HEADRACE_REPORTS_ENGINE=spark."
            ) from error
        if "No space left on device" in text:
            raise StorageError(
                "No space is left for the reports, under HEADRACE_HOME, where rows go that memory does not hold, or in "
                f"the lakehouse ({text.splitlines()[0]}). Nothing was written. Free some space and run them again."
            ) from error
        raise
