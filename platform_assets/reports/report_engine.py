"""The engine of the reports: what runs their SQL and commits the rows. DuckDB in this process, or Spark.

The setting `HEADRACE_REPORTS_ENGINE` chooses. Both read the same pinned versions and write the same rows, but for the
last bits of percentiles, which each interpolates in its own order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from platform_assets.reports.daily_report import InputRows, ReportCommit
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    import pyarrow as pa

EngineName = Literal["duckdb", "spark"]


class ReportEngine(Protocol):
    """Runs SQL in DuckDB's dialect over rows of pinned tables. For one thread."""

    def fetch(self, sql: str, inputs: Sequence[InputRows]) -> pa.Table:
        """The query's rows, in this process: for small results."""

    def replace(self, sql: str, inputs: Sequence[InputRows], spec: TableSpec, commit: ReportCommit) -> None:
        """Puts the query's rows in the place of those of the commit's days, or of all, in one commit of `spec`'s table.

        The table is created when it is missing. Rows of other days are dropped; no rows: the days are empty
        afterwards. When anything fails, nothing has been written: the table is as it was.
        """


class Engines(NamedTuple):
    """What `computes` the reports, and what `looks` into their inputs: DuckDB, for which nobody has to start Spark."""

    computes: ReportEngine
    looks: ReportEngine


@contextmanager
def opened_engines(name: EngineName, resources: Any) -> Iterator[Engines]:
    """The engines for the length of the block, by a run's resources: `lakehouse`, `duckdb` and perhaps `spark`.

    DuckDB costs milliseconds to open; Spark is started at the first use.
    """
    from platform_assets.reports.duckdb_engine import DuckDBEngine

    with resources.duckdb.connected() as connection:
        looks = DuckDBEngine(connection, resources.lakehouse)
        if name == "duckdb":
            yield Engines(looks, looks)
            return
        from platform_assets.reports.spark_engine import SparkEngine

        yield Engines(SparkEngine(lambda: resources.spark.spark_session, resources.lakehouse), looks)
