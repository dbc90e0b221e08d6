"""Reports computed by Spark, on any master: for a lake that has outgrown one machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from platform_assets.errors import TerminalError
from platform_assets.reports.daily_report import InputRows, PinnedTable, ReportCommit
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession
    from sqlglot import exp


class SparkEngine:
    """`ReportEngine` by Spark. `session` starts the application at its first call, with the first query."""

    def __init__(self, session: Callable[[], SparkSession], lakehouse: Any) -> None:
        self._session = session
        self._lakehouse = lakehouse
        self._frames: dict[PinnedTable, DataFrame] = {}

    def fetch(self, sql: str, inputs: Sequence[InputRows]) -> pa.Table:
        """Implements `ReportEngine.fetch`."""
        return self._query(sql, inputs).toArrow()

    def replace(self, sql: str, inputs: Sequence[InputRows], spec: TableSpec, commit: ReportCommit) -> None:
        """Implements `ReportEngine.replace`."""
        from pyspark.sql import functions as F

        from platform_assets.streaming.delta.delta_tables import create_table

        uri = self._lakehouse.table_uri(spec.name)
        create_table(uri, spec, self._lakehouse.storage_options())
        if commit.days is not None:
            self._session().sql(translate(commit.days.relation())).createOrReplaceTempView("report_days")
        rows = self._query(sql, inputs).select(*(F.col(c.name).cast(c.type) for c in spec.columns))
        if commit.days is not None:
            (column,) = spec.partition_columns
            # One file a day: a report's day is small, and a file for each shuffle partition would be read for ever.
            rows = rows.where(commit.days.predicate(column)).repartition(column)
        writer = rows.write.format("delta").mode("overwrite").option("userMetadata", commit.as_json())
        if commit.days is not None:
            writer = writer.option("replaceWhere", commit.days.predicate(column))
        writer.save(uri)

    def _query(self, sql: str, inputs: Sequence[InputRows]) -> DataFrame:
        for rows in inputs:
            self._read(rows.table).where(translate(rows.condition)).createOrReplaceTempView(rows.name)
        return self._session().sql(translate(sql))

    def _read(self, table: PinnedTable) -> DataFrame:
        """The table's rows, lazily. Delta puts a version's files together once for a frame, which takes seconds."""
        from platform_assets.streaming.repair.table_difference import select_columns

        if table not in self._frames:
            reader = self._session().read.format("delta").option("versionAsOf", table.version)
            self._frames[table] = select_columns(reader.load(table.uri), table.spec.columns)
        return self._frames[table]


def translate(sql: str) -> str:
    """A query, or a condition, in DuckDB's dialect as one in Spark's.

    sqlglot knows both dialects; it leaves out two functions, which go by other names in Spark. Raises `TerminalError`
    for what Spark does not have, and for what would be translated and come to another value.
    """
    import sqlglot
    from sqlglot import exp

    tree = sqlglot.parse_one(sql, read="duckdb")
    _refuse_other_meanings(tree)
    for call in list(tree.find_all(exp.Anonymous)):
        if call.name.lower() == "epoch_us":
            call.replace(exp.Anonymous(this="unix_micros", expressions=call.expressions))
    for percentile in list(tree.find_all(exp.PercentileCont)):
        arguments = [percentile.this, percentile.expression]
        percentile.replace(exp.Anonymous(this="percentile", expressions=arguments))
    try:
        return tree.sql("spark", unsupported_level=sqlglot.ErrorLevel.RAISE)
    except sqlglot.errors.UnsupportedError as error:
        raise TerminalError(f"A report's SQL has no counterpart in Spark: {error}") from None


def _refuse_other_meanings(tree: exp.Expr) -> None:
    """Raises `TerminalError` for functions that have one name in both and another value in Spark.

    Found by running both (sqlglot 30.30, DuckDB 2.0, Spark 4.2): `findings/sqlglot-duckdb-to-spark.sh`.
    """
    from sqlglot import exp

    instead: dict[type[exp.Expr], str] = {
        exp.Log: "ln(x) / ln(10)",  # Spark's log is the natural one
        exp.DayOfWeek: "a day's distance from a known Monday",  # counts from 0 here, from 1 in Spark
        exp.DayOfWeekIso: "a day's distance from a known Monday",
        exp.Dayname: "a CASE over known days",  # Monday, and Mon
        exp.DateDiff: "epoch_us(later) - epoch_us(earlier)",  # borders crossed here, whole units in Spark
        exp.TimeToUnix: "epoch_us(time)",  # whole seconds in Spark
        exp.UnixToTime: "epoch_us(time)",
        exp.RegexpReplace: "replace(text, part, with)",  # the first match here, all in Spark
    }
    for node in tree.walk():
        if isinstance(node, exp.Log) and node.expression is not None:
            continue  # with a base it is the same
        is_list = isinstance(node, exp.ArrayAgg) and isinstance(node.this, exp.Order)  # its order would be dropped
        advice = "string_agg(... ORDER BY ...)" if is_list else instead.get(type(node))
        if advice is not None:
            raise TerminalError(
                f"A report's SQL has {node.sql('duckdb')}, which comes to another value in Spark: use {advice}."
            )
