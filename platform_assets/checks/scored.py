"""The check `scored`: each accepted card transaction of the last day has a score, or is named as missing.

The relay that scores has no ledger of batches: in real-time mode a stop abandons its batch, and what the batch had
passed on is passed on again. So both ends are compared, by the transactions' ids: what was accepted, and what has come
back from the topic of scores. Twice is what `repeated_events` on the same table looks for.
"""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from platform_assets.fraud.score_rows import LONGEST_TEXT
from platform_assets.reports.assets import REPORTS_POOL
from platform_assets.topics.fraud_scores import FRAUD_SCORES
from platform_assets.topics.transactions import TRANSACTIONS

if TYPE_CHECKING:
    import duckdb
    from deltalake import DeltaTable

SPAN = timedelta(days=1)
"""How far back the check looks, by the time at which a transaction came into its table."""

# Both ways end in a micro-batch, and a batch after a crash takes its time: what is younger is on its way.
GRACE = timedelta(minutes=2)
# Coordinates that are shown: enough to look at the records, and no more is kept with every verdict.
_SHOWN = 5

_DUE = f"""
    CREATE OR REPLACE TEMP TABLE due AS
    SELECT p.transaction_id, p.topic || '/' || p.kafka_partition || '/' || p.kafka_offset AS place, p.ingested_at,
           s.verdict, s.unscored_reason
    FROM payments p LEFT JOIN scores s ON s.score_id = CASE WHEN length(p.transaction_id) <= {LONGEST_TEXT}
      THEN p.transaction_id ELSE p.kafka_partition || '-' || p.kafka_offset END
    LEFT JOIN (SELECT source_partition, min(source_offset) AS begun FROM scores GROUP BY ALL) b
      ON b.source_partition = p.kafka_partition
    WHERE p.ingested_at >= $since AND p.ingested_at < $until AND ($has_begun_before OR p.kafka_offset >= b.begun)
"""
_TOTALS = """
    SELECT count(*) AS due, count(*) FILTER (verdict IS NULL) AS missing,
           count(*) FILTER (unscored_reason = 'no_model') AS without_model,
           min(ingested_at) FILTER (verdict IS NULL) AS since, max(ingested_at) FILTER (verdict IS NULL) AS until,
           list(place ORDER BY ingested_at, place) FILTER (verdict IS NULL)[:{shown}] AS places
    FROM due
"""


def build_scored_check() -> dg.AssetChecksDefinition:
    """The check; needs the resources `lakehouse` and `duckdb`."""

    @dg.asset_check(
        asset=list(FRAUD_SCORES.asset_path),
        name="scored",
        description="Each transaction of the last day that was accepted has a score, or is named here.",
        required_resource_keys={"lakehouse", "duckdb"},
        pool=REPORTS_POOL,
    )
    def scored(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        from platform_assets.reports.duckdb_engine import clear_errors

        lakehouse = context.resources.lakehouse
        payments, scores = (lakehouse.find_table(table.name) for table in (TRANSACTIONS, FRAUD_SCORES))
        if payments is None or scores is None:
            return dg.AssetCheckResult(passed=True, description="There is no transaction or no score yet.")
        with context.resources.duckdb.connected() as connection, clear_errors():
            return _judge(compare(connection, payments, scores, datetime.now(UTC)))

    return scored


def compare(
    connection: "duckdb.DuckDBPyConnection", payments: "DeltaTable", scores: "DeltaTable", now: datetime
) -> dict[str, Any]:
    """What is due of the accepted transactions, and what of it is missing.

    Due is what came within `SPAN` before `now`, but for the last `GRACE`; where scoring has begun within it, what came
    after the first record that was scored, in its partition.
    """
    from platform_assets.delta_reader import register_pinned

    since, until = now - SPAN, now - GRACE
    register_pinned(connection, "payments", payments, ("ingested_at", since, until))
    register_pinned(connection, "scores", scores, ("ingested_at", since - GRACE, now))
    begun = _find_first(scores)
    has_begun_before = begun is not None and begun < since
    values = {"since": since, "until": until, "has_begun_before": has_begun_before}
    connection.execute(_DUE, values)
    (found,) = connection.sql(_TOTALS.format(shown=_SHOWN)).to_arrow_table().to_pylist()
    return dict(found)


def _find_first(scores: "DeltaTable") -> datetime | None:
    """When the first score that is still there came, as the table's log says; None where there is none."""
    import pyarrow as pa

    actions = pa.table(scores.get_add_actions(flatten=True))
    if "min.ingested_at" not in actions.column_names:
        return None
    return min((each for each in actions["min.ingested_at"].to_pylist() if each is not None), default=None)


def _judge(found: dict[str, Any]) -> dg.AssetCheckResult:
    metadata = {name: int(found[name]) for name in ("due", "missing", "without_model")}
    if found["missing"]:
        description = (
            f"{found['missing']:,} of {found['due']:,} transactions have no score; they came between "
            f"{found['since']:%Y-%m-%d %H:%M:%S} and {found['until']:%H:%M:%S} UTC. The first: "
            f"{', '.join(found['places'])}. Was the group fraud stopped for longer than Kafka keeps records, or its "
            "checkpoint removed? The supervisor's row and the group's runs say so."
        )
        return dg.AssetCheckResult(passed=False, description=description, metadata=metadata)
    if found["without_model"]:
        description = (
            f"All {found['due']:,} transactions were looked at, and {found['without_model']:,} of them have no score, "
            "for there was no version of the model that could be used. Train one: headrace model train."
        )
        severity = dg.AssetCheckSeverity.WARN
        return dg.AssetCheckResult(passed=False, severity=severity, description=description, metadata=metadata)
    description = f"All {found['due']:,} transactions of the last day that are due have a score."
    return dg.AssetCheckResult(passed=True, description=description, metadata=metadata)
