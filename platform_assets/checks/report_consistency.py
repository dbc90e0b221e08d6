"""Checks that the reports add up: recomputed from their inputs by another engine (DuckDB), with zero tolerance.

Each report's commit names the days it replaced and the version of the input it read, so a report is compared with
exactly the rows it was made from, however much has been written since. The days of the newest commit are compared;
the customers' table as a whole.
"""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
import tempfile
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from platform_assets.reports.daily_report import ReportCommit
from platform_assets.reports.days import DayRange
from platform_assets.reports.product_affinity import MAX_PRODUCTS_OF_ONE_BASKET
from platform_assets.streams.view_to_purchase import MAX_LAG
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    from deltalake import DeltaTable

# Breaches shown: the first ones tell what is wrong, all of them would be stored with every evaluation.
_SHOWN = 10

# DuckDB's own limit is four fifths of the machine: the kernel would kill the streams for a check. Beyond it is disk.
_MEMORY_LIMIT = "2GB"

# Commits searched for the newest one made by a report; only the table's upkeep lies between.
_COMMITS_SEARCHED = 50

# Money becomes decimal by way of its text, as in Spark: 1.005 is 1.01 in both, and not what its binary value says.
# An event's amount that does not fit counts as nothing there too; a sum that does not fit is an error.
_AMOUNTS = "CAST(sum(TRY_CAST({0}::VARCHAR AS DECIMAL(18, 2))) AS DOUBLE)"
_SUMS = "CAST(sum(CAST({0}::VARCHAR AS DECIMAL(28, 2))) AS DOUBLE)"

# Each query gives the report's rows from its inputs, in the columns that are compared. The inputs go by the last part
# of their names; `$first` and `$last` are the report's days.
_SESSION_REPORT_SQL = f"""
  SELECT session_date AS report_date, device_type, country,
         count(*) AS sessions, count(DISTINCT user_id) AS users,
         count(*) FILTER (WHERE event_count = 1) AS bounced_sessions,
         count(*) FILTER (WHERE purchase_count > 0) AS converted_sessions,
         {_SUMS.format("total_revenue")} AS total_revenue
  FROM sessions GROUP BY ALL
"""

# The same by product and by device. No row of one part may meet two of another, and null is a device like others.
_CONVERSIONS_SQL = f"""
  WITH counted AS (
    SELECT event_time::DATE AS report_date, {{by}}, count(*) FILTER (WHERE event_type = 'page_view') AS views,
           count(*) FILTER (WHERE event_type = 'purchase') AS purchases, 0 AS converted_views,
           0 AS attributed_purchases, 0.0 AS attributed_revenue
    FROM events WHERE event_type IN ('page_view', 'purchase') AND product_id IS NOT NULL GROUP BY ALL
  ), converted AS (
    SELECT view_time::DATE AS report_date, {{by}}, 0, 0, count(DISTINCT (view_event_id, view_time)), 0, 0.0
    FROM view_to_purchase GROUP BY ALL
  ), last_views AS (
    SELECT *, row_number() OVER (
      PARTITION BY purchase_event_id, purchase_time, product_id ORDER BY view_time DESC, view_event_id DESC
    ) AS place FROM view_to_purchase QUALIFY place = 1
  ), attributed AS (
    SELECT purchase_time::DATE AS report_date, {{by}}, 0, 0, 0, count(*), COALESCE({_AMOUNTS.format("revenue")}, 0.0)
    FROM last_views GROUP BY ALL
  )
  SELECT report_date, {{by}}, {{sums}} FROM (
    FROM counted UNION ALL FROM converted UNION ALL FROM attributed
  ) WHERE report_date BETWEEN $first AND $last GROUP BY ALL
"""

_CORRELATIONS_SQL = _CONVERSIONS_SQL.format(
    by="product_id",
    sums="sum(views)::BIGINT AS views, sum(purchases)::BIGINT AS purchases, "
    "sum(converted_views)::BIGINT AS converted_views, sum(attributed_revenue) AS attributed_revenue",
)

_DEVICES_SQL = (
    _CONVERSIONS_SQL.format(
        by="product_id, device_type",
        sums="sum(views)::BIGINT AS views, sum(converted_views)::BIGINT AS converted_views, "
        "sum(attributed_purchases)::BIGINT AS attributed_purchases, sum(attributed_revenue) AS attributed_revenue",
    )
    + " HAVING sum(views) > 0 OR sum(attributed_purchases) > 0"
)

_AFFINITY_SQL = f"""
  WITH bought AS (
    SELECT DISTINCT event_time::DATE AS report_date, user_id, product_id FROM events
    WHERE event_type = 'purchase' AND product_id IS NOT NULL AND event_time::DATE BETWEEN $first AND $last
  ), kept AS (
    SELECT *, count(*) OVER (PARTITION BY report_date, user_id) AS size FROM bought
    QUALIFY size <= {MAX_PRODUCTS_OF_ONE_BASKET}
  ), days AS (
    SELECT report_date, count(DISTINCT user_id) AS baskets FROM kept GROUP BY ALL
  ), products AS (
    SELECT report_date, product_id, count(*) AS n FROM kept GROUP BY ALL
  ), pairs AS MATERIALIZED (  -- left to itself DuckDB pairs the products first: over 14 GB for 390,000 purchases
    SELECT a.report_date, a.product_id, b.product_id AS other_product_id, count(*) AS shared_baskets
    FROM kept a JOIN kept b ON a.report_date = b.report_date AND a.user_id = b.user_id
    WHERE a.product_id != b.product_id GROUP BY ALL
  )
  SELECT report_date, pairs.product_id, other_product_id, baskets, p.n AS product_baskets, o.n AS other_baskets,
         shared_baskets
  FROM pairs JOIN days USING (report_date) JOIN products p USING (report_date, product_id)
  JOIN products o ON o.report_date = pairs.report_date AND o.product_id = other_product_id
"""

_CUSTOMER_DAYS_SQL = f"""
  WITH own AS (
    SELECT event_time::DATE AS report_date, user_id, min(event_time) AS first_event_at,
           max(event_time) AS last_event_at, count(*) AS events,
           count(*) FILTER (WHERE event_type = 'purchase') AS purchases,
           COALESCE({_AMOUNTS.format("CASE WHEN event_type = 'purchase' THEN revenue END")}, 0.0) AS total_revenue
    FROM events WHERE event_time::DATE BETWEEN $first AND $last GROUP BY ALL
  ), visits AS (
    SELECT session_date AS report_date, user_id, count(*) AS sessions, max(session_start) AS last_session_start
    FROM sessions GROUP BY ALL
  )
  SELECT own.*, COALESCE(sessions, 0) AS sessions, last_session_start
  FROM own LEFT JOIN visits ON own.report_date = visits.report_date AND own.user_id = visits.user_id
"""

_CUSTOMER_360_SQL = f"""
  WITH actions AS (
    SELECT user_id, j.key, j.value,
           row_number() OVER (PARTITION BY user_id, j.key ORDER BY (j.value->>'at')::BIGINT DESC,
             (j.value->>'partition')::INT DESC, (j.value->>'offset')::BIGINT DESC) AS place
    FROM customer_days, json_each(cart_actions) j QUALIFY place = 1
  ), carts AS (
    SELECT user_id, count(*) AS n FROM actions WHERE (value->>'open')::BOOLEAN GROUP BY ALL
  ), own AS (
    SELECT user_id, min(first_event_at) AS first_seen_at, max(last_event_at) AS last_seen_at,
           max(last_purchase_at) AS last_purchase_at, sum(purchases)::BIGINT AS purchases,
           {_SUMS.format("total_revenue")} AS total_revenue,
           sum(events)::BIGINT AS events, sum(sessions)::BIGINT AS sessions
    FROM customer_days GROUP BY ALL
  )
  SELECT own.*, COALESCE(n, 0) AS open_cart_products FROM own LEFT JOIN carts USING (user_id)
"""

_EVENTS, _SESSIONS, _PAIRS, _DAYS = "silver.events", "gold.sessions", "gold.view_to_purchase", "gold.customer_days"

# Report table -> its inputs, and its rows from them.
_COMPARISONS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "gold.session_report": ((_SESSIONS,), _SESSION_REPORT_SQL),
    "gold.purchase_correlations": ((_EVENTS, _PAIRS), _CORRELATIONS_SQL),
    "gold.purchase_devices": ((_EVENTS, _PAIRS), _DEVICES_SQL),
    "gold.product_affinity": ((_EVENTS,), _AFFINITY_SQL),
    "gold.customer_days": ((_EVENTS, _SESSIONS), _CUSTOMER_DAYS_SQL),
    "gold.customer_360": ((_DAYS,), _CUSTOMER_360_SQL),
}

_EVENT_COLUMNS = ["event_type", "event_time", "user_id", "product_id", "device_type", "revenue"]


def build_report_consistency_checks(tables: Iterable[TableSpec]) -> list[dg.AssetChecksDefinition]:
    """One check `consistency` for each report among `tables`; needs the resource `lakehouse`.

    Raises `KeyError` for a table that is not a report.
    """
    return [_build_check(spec, _COMPARISONS[spec.name][0]) for spec in tables]


def find_newest_report_commit(table: "DeltaTable") -> ReportCommit | None:
    """What the newest commit made by a report says; None when no report has written the table."""
    for commit in table.history(_COMMITS_SEARCHED):
        parsed = ReportCommit.parse(commit.get("userMetadata"))
        if parsed is not None:
            return parsed
    return None


def find_inconsistencies(
    report: "DeltaTable", sources: Mapping[str, "DeltaTable"], spec: TableSpec, commit: ReportCommit
) -> list[dict[str, Any]]:
    """Rows of the commit's days that differ between the report and its recomputation; empty when all agree.

    `sources` (by name) must stand at the versions that the commit names. Reads with delta-rs, computes in DuckDB,
    in the process that calls: its inputs in memory, what is made of them in up to `_MEMORY_LIMIT`, then on disk.
    """
    import duckdb

    _, expected = _COMPARISONS[spec.name]
    own_days, parameters = None, {}
    if commit.days is not None:
        own_days = _is_between(spec.partition_columns[0], commit.days)
        if "$first" in expected:
            parameters = {"first": commit.days.first, "last": commit.days.last}
    with (
        tempfile.TemporaryDirectory(prefix="headrace-check-") as folder,
        duckdb.connect(config={"memory_limit": _MEMORY_LIMIT, "temp_directory": folder}) as connection,
    ):
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("report", report.to_pyarrow_dataset().scanner(filter=own_days).to_table())
        for name, source in sources.items():
            connection.register(name.split(".")[1], _read_source(source, name, commit.days))
        connection.execute(f"CREATE TEMP TABLE expected AS {expected}", parameters)
        compared = ", ".join(row[0] for row in connection.execute("DESCRIBE expected").fetchall())
        cursor = connection.execute(
            f"WITH actual AS (SELECT {compared} FROM report) "
            "SELECT 'in the report only' AS breach, * FROM (FROM actual EXCEPT ALL FROM expected) UNION ALL "
            "SELECT 'in its inputs only', * FROM (FROM expected EXCEPT ALL FROM actual)"
        )
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _read_source(source: "DeltaTable", name: str, days: DayRange | None) -> Any:
    """The rows that the days (None: all) may depend on. A view at 23:50 may lead to a purchase at 00:10."""
    import pyarrow.dataset as ds

    dataset = source.to_pyarrow_dataset()
    if days is None:
        return dataset.to_table()
    if name == _EVENTS:
        return dataset.to_table(columns=_EVENT_COLUMNS, filter=_is_between("event_date", days))
    if name == _SESSIONS:
        return dataset.to_table(filter=_is_between("session_date", days))
    assert name == _PAIRS
    return dataset.to_table(filter=(ds.field("view_time") >= days.start - MAX_LAG) & (ds.field("view_time") < days.end))


def _is_between(column: str, days: DayRange) -> Any:
    import pyarrow.dataset as ds

    return (ds.field(column) >= days.first) & (ds.field(column) <= days.last)


def _build_check(spec: TableSpec, inputs: tuple[str, ...]) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=list(spec.asset_path),
        name="consistency",
        description=f"{spec.name} agrees, row by row, with {' and '.join(inputs)}, by another engine (DuckDB).",
        required_resource_keys={"lakehouse"},
    )
    def consistency(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        from deltalake.exceptions import TableNotFoundError

        lakehouse = context.resources.lakehouse
        try:
            report = lakehouse.delta_table(spec.name)
            sources = {name: lakehouse.delta_table(name) for name in inputs}
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
        for name, source in sources.items():
            source.load_as_version(commit.inputs[name])
        breaches = find_inconsistencies(report, sources, spec, commit)
        return dg.AssetCheckResult(
            passed=not breaches,
            description=f"{len(breaches)} differing rows; the first: {breaches[0]}" if breaches else "All rows agree.",
            metadata={
                "headrace/days": "all" if commit.days is None else str(commit.days),
                "headrace/inputs": str(dict(commit.inputs)),
                "differing_rows": len(breaches),
                "first_differences": dg.MetadataValue.md(
                    "\n".join(f"- `{row}`" for row in breaches[:_SHOWN]) or "none"
                ),
            },
        )

    return consistency
