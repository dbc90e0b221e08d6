"""The asset `fraud_model`: each materialization is a version that was trained, with how well it did and pictures."""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from platform_assets.errors import HeadraceError
from platform_assets.reports.presentation import build_column_schema
from platform_assets.streaming.stream_spec import Stream
from platform_assets.streams.card_holds import CARD_HOLDS
from platform_assets.tables.fraud import CARD_RELEASES, FRAUD_TABLES
from platform_assets.topics.fraud_reports import FRAUD_REPORTS
from platform_assets.topics.transactions import TRANSACTIONS
from resources.settings import load_settings

if TYPE_CHECKING:
    from platform_assets.fraud.model_training import Training

FRAUD_MODEL_KEY = dg.AssetKey(["fraud_model"])

# Two at once would give one number to two versions: the register would refuse the second one, trained for nothing.
FRAUD_MODEL_POOL = "fraud_model"

_OWNERS = ["team:data-platform"]


def has_payments(streams: Sequence[Stream]) -> bool:
    """Whether the tables that a fraud model learns from are among those of these streams."""
    found = {table for stream in streams for table in stream.tables}
    return {TRANSACTIONS, FRAUD_REPORTS} <= found


def build_weeks(first_day: date) -> dg.WeeklyPartitionsDefinition:
    """One partition a week (Monday to Sunday, UTC), the current one too."""
    return dg.WeeklyPartitionsDefinition(start_date=first_day.isoformat(), timezone="UTC", day_offset=1, end_offset=1)


def build_fraud_assets(first_day: date) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """The model, its register, and the releases of cards. Needs the resources `lakehouse` and `duckdb`."""

    @dg.asset(
        key=FRAUD_MODEL_KEY,
        deps=[list(TRANSACTIONS.asset_path), list(FRAUD_REPORTS.asset_path)],
        description="The model that tells which card payments are fraud, learned from what was reported. A week's "
        "partition learns from what was known at its end; without a partition, from what is known now.",
        group_name="fraud",
        owners=_OWNERS,
        kinds={"scikitlearn", "mlflow"},
        partitions_def=build_weeks(first_day),
        backfill_policy=dg.BackfillPolicy.multi_run(1),
        pool=FRAUD_MODEL_POOL,
        required_resource_keys={"lakehouse", "duckdb"},
    )
    def fraud_model(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        from platform_assets.fraud.model_training import train_model

        now = datetime.now(UTC)
        until = min(now, context.partition_time_window.end) if context.has_partition_key else now
        try:
            with context.resources.duckdb.connected() as connection:
                training = train_model(
                    context.resources.lakehouse, connection, load_settings(), until, f"run {context.run.run_id[:8]}"
                )
        except HeadraceError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        context.log.info(f"Version {training.row.version}: {training.row.verdict}")
        return dg.MaterializeResult(metadata=describe_training(training))

    tables = [
        dg.AssetSpec(
            list(table.asset_path),
            deps=[list(CARD_HOLDS.asset_path)] if table is CARD_RELEASES else [FRAUD_MODEL_KEY],
            description=f"{table.description}\n\nGrain: {table.grain}.",
            kinds={"deltalake"},
            group_name="fraud",
            owners=_OWNERS,
            metadata={"dagster/table_name": table.name, "dagster/column_schema": build_column_schema(table)},
        )
        for table in (*FRAUD_TABLES, CARD_RELEASES)
    ]
    return [fraud_model, *tables]


def describe_training(training: "Training") -> dict[str, Any]:
    """What the page of a materialization shows."""
    from platform_assets.fraud.hand_rules import score_by_rules
    from platform_assets.fraud.pictures import draw_calibration, draw_precision_recall, draw_weights
    from platform_assets.fraud.quality import compare_with_outcomes, draw_curve
    from platform_assets.fraud.training import read_labels, weigh

    row, card, rows = training.row, training.model.scorecard, training.model.split.test
    scores, labels = card.score(rows), read_labels(rows)
    weights = weigh(labels, training.model.honest_one_of)
    by_hand = draw_curve(score_by_rules(rows), labels, weights)
    curves = [(f"version {row.version}", draw_curve(scores, labels, weights)), ("hand rules", by_hand)]
    numbers: dict[str, Any] = {f"fraud/{name}": value for name, value in training.metrics.numbers().items()}
    return {
        "fraud/version": row.version,
        "fraud/verdict": row.verdict,
        "fraud/threshold": card.threshold,
        "fraud/data_from": dg.MetadataValue.timestamp(row.data_from),
        "fraud/data_until": dg.MetadataValue.timestamp(row.data_until),
        "dagster/row_count": row.rows,
        "precision_by_recall": dg.MetadataValue.md(draw_precision_recall(curves)),
        "calibration": dg.MetadataValue.md(draw_calibration(compare_with_outcomes(scores, labels, weights))),
        "weights": dg.MetadataValue.md(draw_weights(card)),
        **numbers,  # the page has dozens of them: pictures would not be seen below
    }
