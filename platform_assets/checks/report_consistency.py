"""Checks that the reports add up: recomputed from their inputs by another engine (DuckDB), with zero tolerance.

Each report's commit names the days it replaced and the version of the input it read, so a report is compared with
exactly the rows it was made from, however much has been written since. The days of the newest commit are compared:
with the checks in the same job as the assets, every day is compared when it is written.
"""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from platform_assets.reports.daily import ReportCommit
from platform_assets.streaming.specs import TableSpec

if TYPE_CHECKING:
    from deltalake import DeltaTable

# Breaches shown: the first ones tell what is wrong, all of them would be stored with every evaluation.
_SHOWN = 10

# Commits searched for the newest one made by a report; only the table's upkeep lies between.
_COMMITS_SEARCHED = 50

# Money becomes decimal by way of its text, as in Spark: 1.005 is 1.01 in both, and not what its binary value says.
# Each query returns the rows that are in one of the two but not in both, under `side`. `report` and `source` hold the
# rows of the days in question (`source` wider, where neighbours matter); `$first` and `$last` are the days.
_SESSION_REPORT_SQL = """
WITH expected AS (
  SELECT session_date AS report_date, device_type, country,
         count(*) AS sessions, count(DISTINCT user_id) AS users,
         count(*) FILTER (WHERE event_count = 1) AS bounced_sessions,
         count(*) FILTER (WHERE purchase_count > 0) AS converted_sessions,
         CAST(sum(CAST(total_revenue::VARCHAR AS DECIMAL(28, 2))) AS DOUBLE) AS total_revenue
  FROM source WHERE session_date BETWEEN $first AND $last
  GROUP BY ALL
), actual AS (
  SELECT report_date, device_type, country, sessions, users, bounced_sessions, converted_sessions, total_revenue
  FROM report
)
SELECT 'in the report only' AS breach, * FROM (FROM actual EXCEPT ALL FROM expected)
UNION ALL
SELECT 'in the sessions only', * FROM (FROM expected EXCEPT ALL FROM actual)
"""

_CORRELATIONS_SQL = """
WITH views AS (
  SELECT event_time::DATE AS report_date, user_id, product_id, event_time FROM source
  WHERE event_type = 'page_view' AND product_id IS NOT NULL
), purchases AS (
  SELECT event_time::DATE AS report_date, user_id, product_id, event_time, revenue FROM source
  WHERE event_type = 'purchase' AND product_id IS NOT NULL
), viewed AS (
  SELECT v.report_date, v.product_id, count(*) AS views,
         count(*) FILTER (WHERE p.event_time - v.event_time <= INTERVAL 30 MINUTE) AS converted_views
  FROM (SELECT *, event_time + INTERVAL 1 MICROSECOND AS after FROM views) v
  ASOF LEFT JOIN purchases p
    ON p.user_id = v.user_id AND p.product_id = v.product_id AND p.event_time >= v.after
  WHERE v.report_date BETWEEN $first AND $last GROUP BY ALL
), bought AS (
  SELECT p.report_date, p.product_id, count(*) AS purchases,
         COALESCE(CAST(sum(TRY_CAST(p.revenue::VARCHAR AS DECIMAL(18, 2)))
           FILTER (WHERE p.event_time - v.event_time <= INTERVAL 30 MINUTE) AS DOUBLE), 0) AS attributed_revenue
  FROM (SELECT *, event_time - INTERVAL 1 MICROSECOND AS before FROM purchases) p
  ASOF LEFT JOIN views v
    ON v.user_id = p.user_id AND v.product_id = p.product_id AND v.event_time <= p.before
  WHERE p.report_date BETWEEN $first AND $last GROUP BY ALL
), expected AS (
  SELECT COALESCE(v.report_date, b.report_date) AS report_date, COALESCE(v.product_id, b.product_id) AS product_id,
         COALESCE(views, 0) AS views, COALESCE(purchases, 0) AS purchases,
         COALESCE(converted_views, 0) AS converted_views, COALESCE(attributed_revenue, 0) AS attributed_revenue
  FROM viewed v FULL JOIN bought b ON v.report_date = b.report_date AND v.product_id = b.product_id
), actual AS (
  SELECT report_date, product_id, views, purchases, converted_views, attributed_revenue FROM report
)
SELECT 'in the report only' AS breach, * FROM (FROM actual EXCEPT ALL FROM expected)
UNION ALL
SELECT 'in the events only', * FROM (FROM expected EXCEPT ALL FROM actual)
"""

# Report table -> its input and the comparison.
_COMPARISONS: Mapping[str, tuple[str, str]] = {
    "gold.session_report": ("gold.sessions", _SESSION_REPORT_SQL),
    "gold.purchase_correlations": ("silver.events", _CORRELATIONS_SQL),
}


def build_report_consistency_checks(tables: Iterable[TableSpec]) -> list[dg.AssetChecksDefinition]:
    """One check `consistency` for each report among `tables`; needs the resource `lakehouse`.

    Raises `KeyError` for a table that is not a report.
    """
    return [_build_check(spec, *_COMPARISONS[spec.name]) for spec in tables]


def find_newest_report_commit(table: "DeltaTable") -> ReportCommit | None:
    """What the newest commit made by a report says; None when no report has written the table."""
    for commit in table.history(_COMMITS_SEARCHED):
        parsed = ReportCommit.parse(commit.get("userMetadata"))
        if parsed is not None:
            return parsed
    return None


def find_inconsistencies(
    report: "DeltaTable", source: "DeltaTable", spec: TableSpec, commit: ReportCommit
) -> list[dict[str, Any]]:
    """Rows of the commit's days that differ between the report and its recomputation; empty when all agree.

    `source` must stand at the version that the commit names. Reads with delta-rs, computes in DuckDB, single-threaded
    memory of the process that calls.
    """
    import duckdb
    import pyarrow.dataset as ds

    source_name, sql = _COMPARISONS[spec.name]
    (date_column,) = spec.partition_columns
    first, last = commit.days.first, commit.days.last
    own_days = (ds.field(date_column) >= first) & (ds.field(date_column) <= last)
    columns = {
        "silver.events": ["event_type", "event_time", "user_id", "product_id", "revenue"],
        "gold.sessions": None,
    }[source_name]
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("report", report.to_pyarrow_dataset().scanner(filter=own_days).to_table())
        # The neighbours of the first and last day matter: a view at 23:50 may lead to a purchase at 00:10.
        connection.register("source", _read_source(source, source_name, columns, commit))
        cursor = connection.execute(sql, {"first": first, "last": last} if "$first" in sql else {})
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _read_source(
    source: "DeltaTable",
    name: str,
    columns: list[str] | None,
    commit: ReportCommit,
) -> Any:
    from datetime import timedelta

    import pyarrow.dataset as ds

    dataset = source.to_pyarrow_dataset()
    if name != "silver.events":
        return dataset.to_table(columns=columns)
    day = timedelta(days=1)
    last = commit.days.last + day
    return dataset.to_table(
        columns=columns,
        filter=(ds.field("event_date") >= commit.days.first - day) & (ds.field("event_date") <= last),
    )


def _build_check(spec: TableSpec, source_name: str, sql: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=list(spec.asset_path),
        name="consistency",
        description=f"{spec.name} agrees, row by row, with {source_name} recomputed by another engine (DuckDB).",
        required_resource_keys={"lakehouse"},
    )
    def consistency(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        from deltalake.exceptions import TableNotFoundError

        lakehouse = context.resources.lakehouse
        try:
            report, source = lakehouse.delta_table(spec.name), lakehouse.delta_table(source_name)
        except TableNotFoundError as error:
            return dg.AssetCheckResult(
                passed=False,
                severity=dg.AssetCheckSeverity.WARN,  # nothing is wrong with a report that nobody has asked for yet
                description=f"A table is missing ({error}). Materialize {spec.name} first.",
            )
        commit = find_newest_report_commit(report)
        if commit is None:
            return dg.AssetCheckResult(
                passed=False, description=f"{spec.name} was never written by its asset. Materialize it."
            )
        source.load_as_version(commit.inputs[source_name])
        breaches = find_inconsistencies(report, source, spec, commit)
        return dg.AssetCheckResult(
            passed=not breaches,
            description=f"{len(breaches)} differing rows; the first: {breaches[0]}" if breaches else "All rows agree.",
            metadata={
                "headrace/days": str(commit.days),
                "headrace/input_version": commit.inputs[source_name],
                "differing_rows": len(breaches),
                "first_differences": dg.MetadataValue.md(
                    "\n".join(f"- `{row}`" for row in breaches[:_SHOWN]) or "none"
                ),
            },
        )

    return consistency
