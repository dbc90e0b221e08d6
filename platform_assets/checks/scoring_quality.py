"""The checks on how scoring goes: how soon, how old what is known of cards is, how many alerts, what scores.

They look at the last hour, and hold alerts and scores against the 24 hours before: a model that was trained on other
payments than those of today says so here first, long before a report of fraud can.
"""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from platform_assets.checks.duckdb_check import build_duckdb_check
from platform_assets.topics.fraud_scores import FRAUD_SCORES

if TYPE_CHECKING:
    import duckdb
    from deltalake import DeltaTable

SPAN, BEFORE = timedelta(hours=1), timedelta(hours=24)

# Real-time mode passes a record on within milliseconds, but for those that meet the pause between two batches. Behind
# this most are late: the machine is too small, or the query is behind.
LATE_MILLISECONDS = 2_000
# What is known of cards is read with each batch, of two minutes, and two streams are as far behind as their own batches
# last, half a minute each: five minutes are streams or a refresh that do not work.
OLD_SECONDS = 300
# Each card was new once; but where most are unknown that were known a day ago, what is known of them is not read.
MOST_UNKNOWN = 0.5
# A rate of few alerts is chance: of nine expected ones, three times as many come once in ten thousand hours.
EXPECTED_ALERTS, RATE_FACTOR = 9, 3.0
# Population stability: the usual limits of the field are 0.1 (look) and 0.25 (act).
DRIFT_LIMIT = 0.25
# With fewer scores than this a tenth of them may be empty by chance.
LEAST_SCORES = 500

_BANDS = 10

_CAUSES = (
    " Either the streams over payments stand still or are behind (group payments), or the relay cannot read what they "
    "have written: the log of the group fraud says so."
)

_ASK = f"""
    WITH new AS (SELECT * FROM scores WHERE ingested_at >= $middle),
         old AS (SELECT * FROM scores WHERE ingested_at < $middle AND ingested_at >= $since),
         version AS (SELECT max(model_version) AS model_version FROM new),
         new_scores AS (SELECT score FROM new JOIN version USING (model_version) WHERE score IS NOT NULL),
         old_scores AS (SELECT score FROM old JOIN version USING (model_version) WHERE score IS NOT NULL),
         limits AS (SELECT quantile_disc(score, [i / {_BANDS}.0 FOR i IN range(1, {_BANDS})]) AS found FROM old_scores),
         bands AS (
           SELECT band, sum(is_new::INT) AS new, sum((NOT is_new)::INT) AS old FROM (
             SELECT true AS is_new, len(list_filter(found, lambda border: border < score)) AS band
             FROM new_scores, limits
             UNION ALL
             SELECT false, len(list_filter(found, lambda border: border < score)) FROM old_scores, limits
           ) GROUP BY band
         ),
         counted AS (SELECT (SELECT count(*) FROM new_scores) AS of_new, (SELECT count(*) FROM old_scores) AS of_old)
    SELECT (SELECT count(*) FROM new) AS scores,
           (SELECT quantile_cont(epoch_ms(scored_at) - epoch_ms(received_at), [0.5, 0.99, 0.999]) FROM new) AS late,
           (SELECT quantile_cont(epoch_ms(scored_at) - epoch_ms(features_as_of), 0.99) / 1000 FROM new) AS age,
           (SELECT count(*) FILTER (list_contains(marks, 'unknown card')) FROM new) AS unknown_cards,
           (SELECT count(*) FILTER (list_contains(marks, 'unknown card')) FROM old) AS old_unknown_cards,
           (SELECT count(*) FILTER (verdict = 'alert') FROM new) AS alerts,
           (SELECT count(*) FILTER (verdict = 'alert') FROM old) AS old_alerts,
           (SELECT count(*) FROM old) AS old_scores, counted.of_new, counted.of_old,
           (SELECT model_version FROM version) AS model_version,
           -- Half a score in each band: an empty one is rare, and not infinitely so.
           (SELECT sum(((new + 0.5) / of_new - (old + 0.5) / of_old) * ln((new + 0.5) / of_new * of_old / (old + 0.5)))
            FROM bands) AS drift
    FROM counted
"""


def build_scoring_checks() -> list[dg.AssetChecksDefinition]:
    """The checks `score_latency`, `features_age`, `alert_rate` and `score_drift`; need `lakehouse` and `duckdb`."""
    checks = {
        "score_latency": ("A transaction has its score moments after Kafka has the transaction.", judge_latency),
        "features_age": ("What is known of cards is minutes old at most when it is used.", judge_age),
        "alert_rate": ("About as many transactions become alerts as in the day before.", judge_alerts),
        "score_drift": ("The scores are spread as in the day before.", judge_drift),
    }

    def build(name: str) -> dg.AssetChecksDefinition:
        description, judge = checks[name]

        def look(connection: "duckdb.DuckDBPyConnection", table: "DeltaTable") -> dg.AssetCheckResult:
            found = measure(connection, table, datetime.now(UTC))
            if not found["scores"]:
                return dg.AssetCheckResult(passed=True, description="Nothing was scored within the last hour.")
            return judge(found)

        return build_duckdb_check(FRAUD_SCORES, name, description, look, "There is no score yet.")

    return [build(name) for name in checks]


def measure(connection: "duckdb.DuckDBPyConnection", table: "DeltaTable", now: datetime) -> dict[str, Any]:
    """What the checks judge: of the last hour before `now`, and of the `BEFORE` before that."""
    from platform_assets.delta_reader import register_pinned

    since = now - SPAN - BEFORE
    register_pinned(connection, "scores", table, ("ingested_at", since, now))
    cursor = connection.execute(_ASK, {"middle": now - SPAN, "since": since})
    names = [column[0] for column in cursor.description or ()]
    return dict(zip(names, cursor.fetchone() or (), strict=True))


def judge_latency(found: dict[str, Any]) -> dg.AssetCheckResult:
    """Judges the 99th percentile of the time from Kafka's having the transaction to its score."""
    p50, p99, p999 = found["late"]
    said = (
        f"p50 {p50:,.0f} ms, p99 {p99:,.0f} ms, p99.9 {p999:,.0f} ms over {found['scores']:,} scores of the last hour."
    )
    metadata = {"p50_ms": float(p50), "p99_ms": float(p99), "p99_9_ms": float(p999), "scores": int(found["scores"])}
    if p99 <= LATE_MILLISECONDS:
        return dg.AssetCheckResult(passed=True, description=said, metadata=metadata)
    more = (
        f" More than {LATE_MILLISECONDS:,} ms is late: see the lag of score_payments, and what else the machine does."
    )
    return _warn(said + more, metadata)


def judge_age(found: dict[str, Any]) -> dg.AssetCheckResult:
    """Judges the 99th percentile of the age, over the scores whose card was known, and how many there are of these."""
    share = found["unknown_cards"] / found["scores"]
    said = f"{share:.1%} of the transactions are of cards that were not known."
    metadata: dict[str, Any] = {"unknown_cards_share": round(share, 4)}
    if found["old_scores"] >= LEAST_SCORES:
        before = found["old_unknown_cards"] / found["old_scores"]
        if before < MOST_UNKNOWN < share:
            return _warn(f"{said} In the day before these were {before:.1%}.{_CAUSES}", metadata)
    if found["age"] is None:
        return dg.AssetCheckResult(passed=True, description=f"No card was known yet. {said}", metadata=metadata)
    said = f"What was known of cards was {found['age']:,.0f} s old at most in 99 of 100 scores. {said}"
    metadata["p99_seconds"] = float(found["age"])
    if found["age"] <= OLD_SECONDS:
        return dg.AssetCheckResult(passed=True, description=said, metadata=metadata)
    return _warn(said + _CAUSES, metadata)


def judge_alerts(found: dict[str, Any]) -> dg.AssetCheckResult:
    """Judges the share of alerts by that of the day before."""
    metadata: dict[str, Any] = {"alerts": int(found["alerts"]), "rate": found["alerts"] / found["scores"]}
    said = f"{found['alerts']:,} alerts of {found['scores']:,} scores in the last hour."
    if not found["old_scores"]:
        return dg.AssetCheckResult(
            passed=True, description=f"{said} Of the day before there are none.", metadata=metadata
        )
    expected = found["old_alerts"] / found["old_scores"] * found["scores"]
    metadata["expected_alerts"] = round(expected, 1)
    said = f"{said} At the rate of the day before they would be {expected:,.1f}."
    more, less = found["alerts"] > RATE_FACTOR * expected, found["alerts"] < expected / RATE_FACTOR
    if max(found["alerts"], expected) < EXPECTED_ALERTS or not (more or less):
        return dg.AssetCheckResult(passed=True, description=said, metadata=metadata)
    return _warn(
        f"{said} An attack, a fault of a sender, or a model that is out of date: look at some alerts.", metadata
    )


def judge_drift(found: dict[str, Any]) -> dg.AssetCheckResult:
    """Judges the stability index of the newest version's scores, over ten bands of the day before."""
    few = min(found["of_new"], found["of_old"])
    if few < LEAST_SCORES:
        description = f"Too few scores of version {found['model_version']} to compare: {few:,} of {LEAST_SCORES}."
        return dg.AssetCheckResult(passed=True, description=description)
    said = f"The stability index of the scores of version {found['model_version']} is {found['drift']:.3f}."
    metadata = {"stability_index": float(found["drift"])}
    if found["drift"] <= DRIFT_LIMIT:
        return dg.AssetCheckResult(passed=True, description=said, metadata=metadata)
    return _warn(f"{said} Above {DRIFT_LIMIT} payments are others than a day ago: train the model anew.", metadata)


def _warn(description: str, metadata: dict[str, Any]) -> dg.AssetCheckResult:
    severity = dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(passed=False, severity=severity, description=description, metadata=metadata)
