"""One training from the lakehouse to the register: rows, scorecard, measures, verdict, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from platform_assets.errors import NotReadyError
from platform_assets.fraud.features import FEATURES
from platform_assets.fraud.model_register import PROMOTE, SHADOW, ModelRegister, ModelRow
from platform_assets.fraud.promotion import PROMOTED, REFUSED, Metrics, judge_new_version, measure_model
from platform_assets.fraud.training import TrainedModel, fit
from platform_assets.fraud.training_rows import LABEL_DELAY, read_training_rows
from platform_assets.fraud.versions import ModelVersions
from platform_assets.topics.transactions import TRANSACTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb
    from deltalake import DeltaTable

    from platform_assets.fraud.scorecard import Kind
    from resources.lakehouse import LakehouseResource
    from resources.settings import Settings

# Older fraud is another fraud: those who commit it change their ways. Eight weeks have each day of a month in them, and
# the 28 days of the cards' profiles before most of them.
TRAINING_TIME = timedelta(days=56)

# About 250 bytes a row in memory, several times: fraud is all read, of the honest payments as many as keep a training
# below two gigabytes. At 100 payments a second eight weeks are 480 million rows.
MOST_ROWS = 1_500_000

KINDS: dict[str, Kind] = {feature.name: feature.kind for feature in FEATURES}


@dataclass(frozen=True)
class Training:
    """What came of a training."""

    row: ModelRow
    metrics: Metrics
    model: TrainedModel
    reasons: Sequence[str]


def train_model(
    lakehouse: LakehouseResource,
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    until: datetime,
    by: str,
) -> Training:
    """Trains the next version from what is known at `until`, and enters it in the register and in MLflow.

    It becomes the champion if there is none and it is better than the hand rules; else the shadow, or it is refused.
    Raises `NotReadyError` for too few reports, and when MLflow or another training is in the way.
    """
    register, versions = ModelRegister(lakehouse), ModelVersions(settings)
    transactions = lakehouse.find_table(TRANSACTIONS.name)
    if transactions is None:
        raise NotReadyError(f"There is no {TRANSACTIONS.name} to learn from. Start the group payments first.")
    since = until - TRAINING_TIME
    one_of = find_sample(transactions, since, until)
    rows = read_training_rows(lakehouse, connection, until, since, one_of)
    version, mature_until = register.next_version(), until - LABEL_DELAY
    model = fit(rows, KINDS, mature_until, settings.fraud_precision, version, datetime.now(UTC), one_of)
    held = register.read_holder()
    champion = None if held is None else register.read_scorecard(held.champion)
    metrics = measure_model(model, champion)
    row = describe(model, metrics)
    known = {each.version: each for each in register.read_models()}
    outcome, reasons = judge_new_version(metrics, row.data_until, None if held is None else known[held.champion])
    row = describe(model, metrics, f"{outcome}: {' '.join(reasons)}")
    versions.add(model, metrics.numbers())
    register.add_model(row)
    if outcome != REFUSED:
        if outcome == PROMOTED or held is None:
            change = register.change(PROMOTE, row.version, None, by, " ".join(reasons))
        else:
            change = register.change(SHADOW, held.champion, row.version, by, " ".join(reasons))
        versions.name_holders(change.champion, change.shadow)
    return Training(row, metrics, model, reasons)


def find_sample(transactions: DeltaTable, since: datetime, until: datetime) -> int:
    """Says of how many honest payments one is to be read, by the rows that the table's log names for these days."""
    import pyarrow as pa

    actions = pa.table(transactions.get_add_actions(flatten=True)).to_pylist()
    days = (since.date(), until.date())
    rows = sum(each.get("num_records") or 0 for each in actions if days[0] <= each["partition.event_date"] <= days[1])
    return max(1, -(-rows // MOST_ROWS))


def describe(model: TrainedModel, metrics: Metrics, verdict: str = "") -> ModelRow:
    """The version's row in the register."""
    parts = (model.split.train, model.split.calibrate, model.split.test)
    return ModelRow(
        version=model.scorecard.version,
        trained_at=model.scorecard.trained_at,
        data_from=parts[0]["event_time"][0].as_py(),
        data_until=parts[-1]["event_time"][-1].as_py(),
        rows=sum(len(part) for part in parts),
        scorecard=model.scorecard.to_json(),
        metrics=metrics.to_json(),
        verdict=verdict,
    )
