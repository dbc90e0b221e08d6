"""Which version may judge payments: what a new one must be better than, and what a shadow must stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from platform_assets.errors import NotReadyError, UsageError
from platform_assets.fraud.champions import promote_shadow_when_due, promote_version, roll_back
from platform_assets.fraud.drift import Drift, measure_drift
from platform_assets.fraud.hand_rules import score_by_rules
from platform_assets.fraud.live_scores import FRAUD_SCORES, LiveComparison, compare_live
from platform_assets.fraud.model_register import PROMOTE, SHADOW, ModelRegister, ModelRow
from platform_assets.fraud.promotion import (
    PROMOTED,
    REFUSED,
    Metrics,
    has_not_drifted,
    judge_new_version,
    judge_shadow,
    measure_model,
)
from platform_assets.fraud.promotion import SHADOW as BECOMES_SHADOW
from platform_assets.fraud.quality import Quality
from platform_assets.fraud.scorecard import Scorecard
from platform_assets.fraud.training import TrainedModel, fit
from platform_assets.fraud.versions import CHAMPION, ModelVersions
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.fraud_rows import END, KINDS, make_rows
from tests.payments_with_fraud import write_reports

NOW = datetime(2027, 2, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    return fit(make_rows(), KINDS, END, 0.5, 1, NOW)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture
def lakehouse(settings: Settings) -> LakehouseResource:
    return LakehouseResource.from_settings(settings)


@pytest.fixture
def connection(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    with DuckDBResource.from_settings(settings).connected() as opened:
        yield opened


def quality(average_precision: float) -> Quality:
    return Quality(1000, 50, average_precision, average_precision, 0.01)


def metrics(own: float, rules: float, champion: float | None = None, drift: Drift | None = None) -> Metrics:
    of_champion = None if champion is None else quality(champion)
    return Metrics(quality(own), quality(rules), of_champion, 1, 0.5, 0.7, [] if drift is None else [drift])


def row_of(version: int, verdict: str = "shadow") -> ModelRow:
    card = Scorecard(version, NOW, 0.5, 1.0, 0.0, -3.0, ())
    return ModelRow(version, NOW, NOW, NOW, 10, card.to_json(), "{}", verdict)


@pytest.mark.parametrize(
    ("found", "outcome", "said"),
    [
        (metrics(0.7, 0.3, 0.7), BECOMES_SHADOW, "of version 1 0.70"),
        (metrics(0.7, 0.3, 0.71), BECOMES_SHADOW, "of version 1 0.71"),
        (metrics(0.7, 0.3, 0.73), REFUSED, "of version 1 0.73"),
        (metrics(0.3, 0.31, 0.3), REFUSED, "of the hand rules 0.31"),
        (metrics(0.7, 0.3, 0.7, Drift("ln_amount", 0.26, 0)), REFUSED, "ln_amount: PSI 0.26"),
        (metrics(0.7, 0.3, 0.7, Drift("ln_amount", 0.0, 0.2)), REFUSED, "missing +20%"),
        (metrics(0.7, 0.3, 0.7, Drift("ln_amount", 0.2, -0.5)), BECOMES_SHADOW, "PSI 0.20"),
        (metrics(0.7, 0.3, 0.7, Drift("known_days", 2.0, 0.5)), BECOMES_SHADOW, "no feature that could drift"),
    ],
)
def test_a_later_version_is_compared_before_it_is_a_shadow(found: Metrics, outcome: str, said: str) -> None:
    verdict, reasons = judge_new_version(found, NOW, row_of(1))
    assert verdict == outcome and said in " ".join(reasons)


def test_the_first_version_has_to_beat_the_hand_rules_alone() -> None:
    drifted = Drift("ln_amount", 3.0, 0)
    assert judge_new_version(metrics(0.4, 0.3, drift=drifted), NOW, None)[0] == PROMOTED
    assert judge_new_version(metrics(0.3, 0.3), NOW, None)[0] == REFUSED


def test_a_version_of_older_payments_is_refused() -> None:
    outcome, reasons = judge_new_version(metrics(0.9, 0.3, 0.7), NOW - DAY, row_of(1))
    assert outcome == REFUSED and "older payments than version 1" in reasons[0]


def test_metrics_are_kept_as_they_were_measured(model: TrainedModel) -> None:
    found = measure_model(model, model.scorecard)
    assert Metrics.of(replace(row_of(1), metrics=found.to_json())) == found
    assert found.champion == found.model
    assert found.model.average_precision > found.hand_rules.average_precision > 0.1


def test_what_moves_by_itself_is_neither_judged_nor_named() -> None:
    moved = [Drift("known_days", 3.85, 0), Drift("ln_amount", 0.02, 0.01), Drift("hour_of_day", 0.5, 0)]
    found = replace(metrics(0.4, 0.3), drift=moved)
    assert has_not_drifted(found) == (True, "Greatest change: ln_amount: PSI 0.02, missing +1%.")
    assert has_not_drifted(replace(found, drift=moved[:1])) == (True, "The model looks at no feature that could drift.")


def test_drift_is_small_on_like_rows_and_named_where_a_feature_changes(model: TrainedModel) -> None:
    rows = make_rows(20_000, seed=4)
    assert max(drift.psi for drift in measure_drift(model.scorecard, rows)) < 0.05
    place = rows.schema.get_field_index("ln_amount")
    dearer = rows.set_column(place, "ln_amount", pa.array(rows["ln_amount"].to_numpy(zero_copy_only=False) + 1))
    assert [drift.feature for drift in measure_drift(model.scorecard, dearer) if drift.is_failed] == ["ln_amount"]
    lost = rows.set_column(place, "ln_amount", pa.nulls(len(rows), pa.float64()))
    assert [drift.feature for drift in measure_drift(model.scorecard, lost) if drift.is_failed] == ["ln_amount"]


def test_hand_rules_hold_for_nothing_that_is_not_known() -> None:
    rows = pa.table({"country_is_new": [1.0, 0.0, None], "recent_countries": [3.0, None, 1.0]})
    assert score_by_rules(rows).tolist() == [3.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("hours", "live", "is_due"),
    [
        (23, None, False),
        (25, None, True),
        (25, LiveComparison(1000, 20, 0.7, 0.69, 100, 110), True),
        (25, LiveComparison(1000, 20, 0.7, 0.6, 100, 110), False),
        (25, LiveComparison(1000, 20, 0.7, 0.8, 100, 201), False),
    ],
)
def test_a_shadow_waits_a_day_and_has_to_be_as_good_live(hours: int, live: LiveComparison | None, is_due: bool) -> None:
    assert judge_shadow(NOW, NOW + timedelta(hours=hours), live)[0] == is_due


def test_live_scores_are_compared_on_payments_that_both_have_scored(
    lakehouse: LakehouseResource, connection: duckdb.DuckDBPyConnection
) -> None:
    cards = [Scorecard(version, NOW, 0.5, 1.0, 0.0, 0.0, ()) for version in (1, 2)]
    assert compare_live(lakehouse, connection, cards[0], cards[1], NOW) is None, "nothing is scored yet"
    rng = np.random.default_rng(1)
    fraud = np.arange(1000) < 30
    scores = {
        "transaction_id": [f"t{place}" for place in range(1000)] + ["old", "other"],
        "score": [*np.where(fraud, 0.9, rng.random(1000) * 0.8).tolist(), 0.99, 0.99],
        "model_version": [1] * 1001 + [7],
        "shadow_score": [*np.where(fraud & (np.arange(1000) < 15), 0.9, 0.1).tolist(), 0.99, 0.99],
        "shadow_version": [2] * 1002,
        "event_time": [NOW + DAY] * 1000 + [NOW - DAY, NOW + DAY],
    }
    write_deltalake(lakehouse.table_uri(FRAUD_SCORES), pa.table(scores))
    write_reports(lakehouse, [(f"t{place}", NOW + DAY) for place in range(30)])
    found = compare_live(lakehouse, connection, cards[0], cards[1], NOW)
    assert found is not None and (found.rows, found.fraud, found.shadow_alerts) == (1000, 30, 15)
    assert found.champion_alerts == sum(score >= 0.5 for score in scores["score"][:1000])
    assert found.champion_precision == 1.0
    assert found.shadow_precision == pytest.approx(0.5 + 0.5 * 30 / 1000)
    assert compare_live(lakehouse, connection, cards[0], cards[1], NOW + 2 * DAY) is None, "too few reports"


def test_a_refused_version_is_promoted_only_when_somebody_insists(
    settings: Settings, lakehouse: LakehouseResource, model: TrainedModel
) -> None:
    register, versions = ModelRegister(lakehouse), ModelVersions(settings)
    register.add_model(row_of(1, "refused: worse."))
    versions.add(model, {})
    with pytest.raises(UsageError, match="was refused: worse"):
        promote_version(lakehouse, settings, 1, "ann")
    with pytest.raises(UsageError, match="no shadow"):
        promote_version(lakehouse, settings, 0, "ann")
    assert promote_version(lakehouse, settings, 1, "ann", anyway=True).champion == 1
    assert versions.find_holder(CHAMPION) == 1
    with pytest.raises(UsageError, match="the champion already"):
        promote_version(lakehouse, settings, 1, "ann", anyway=True)


def test_a_due_shadow_becomes_champion_and_the_way_back_goes_on_step_by_step(
    settings: Settings, lakehouse: LakehouseResource, connection: duckdb.DuckDBPyConnection, model: TrainedModel
) -> None:
    register, versions = ModelRegister(lakehouse), ModelVersions(settings)
    for version in (1, 2, 3):
        register.add_model(row_of(version))
        versions.add(replace(model, scorecard=replace(model.scorecard, version=version)), {})
    register.change(PROMOTE, 1, None, "ann", "first")
    assert promote_shadow_when_due(lakehouse, connection, settings, "clock", NOW)[0] is None
    promote_version(lakehouse, settings, 2, "ann")
    begun = register.change(SHADOW, 2, 3, "run", "good").changed_at
    early, said = promote_shadow_when_due(lakehouse, connection, settings, "clock", begun + DAY / 2)
    assert early is None and "must be for a day" in said
    change, _ = promote_shadow_when_due(lakehouse, connection, settings, "clock", begun + DAY)
    assert change is not None and (change.champion, change.shadow) == (3, None)
    assert [roll_back(lakehouse, settings, "bob").champion for _ in range(2)] == [2, 1]
    assert versions.find_holder(CHAMPION) == 1
    with pytest.raises(NotReadyError, match="no champion before"):
        roll_back(lakehouse, settings, "bob")


def test_the_way_back_needs_no_mlflow(settings: Settings, lakehouse: LakehouseResource) -> None:
    register = ModelRegister(lakehouse)
    for version in (1, 2):
        register.add_model(row_of(version))
        register.change(PROMOTE, version, None, "ann", "")
    with pytest.raises(NotReadyError, match="MLflow does not have version 1"):
        roll_back(lakehouse, settings, "bob")
    held = register.read_holder()
    assert held is not None and held.champion == 1
