"""Tables that the driver of `score_payments` reads are damaged: payments go on, by what is still known."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from platform_assets.fraud.card_features_table import CARD_FEATURES
from platform_assets.fraud.scorecard import Part, Scorecard
from platform_assets.fraud.scoring import FraudScoring
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.tables.fraud import FRAUD_CHAMPIONS, FRAUD_MODELS, FRAUD_SERVING
from platform_assets.tables.spec import TableSpec
from resources.lakehouse import LakehouseResource
from tests.integration.scored_payments import make_scorecard
from tests.known_cards import DAY, write_gold
from tests.payments_with_fraud import write_reports
from tests.spark.card_cases import transaction
from tests.unit.test_fraud_devices import make_scoring, read_serving

RECENTLY = timedelta(seconds=30)
REGISTER = ("platform/fraud_models", "platform/fraud_champions")
CARDS = ("gold/card_days", "gold/card_velocity", "gold/spend_by_card", "gold/card_features")


def cut_files(table: Path) -> None:
    for file in table.glob("**/*.parquet"):
        file.write_bytes(file.read_bytes()[:100])


def remove_files(table: Path) -> None:
    for file in table.glob("**/*.parquet"):
        file.unlink()


def garble_log(table: Path) -> None:
    max((table / "_delta_log").glob("*.json")).write_text("no JSON\n")


OTHERS = ("platform/fraud_serving", "silver/fraud_reports")
DAMAGES = (cut_files, remove_files, garble_log)


@pytest.fixture
def root(lakehouse: LakehouseResource) -> Path:
    """A lakehouse with two known cards, a report, and a champion."""
    now = datetime.now(UTC)
    paid = [
        transaction(card, now - age, channel="online", device="d") for card in "ab" for age in (DAY, RECENTLY, RECENTLY)
    ]
    write_gold(lakehouse, paid)
    write_reports(lakehouse, [("t0", now - DAY)], "a")
    add_version(lakehouse, 1)
    assert lakehouse.local_root is not None
    return lakehouse.local_root


def add_version(lakehouse: LakehouseResource, version: int, card: Scorecard | None = None) -> None:
    card = make_scorecard(version) if card is None else card
    model: dict[str, Any] = {
        "version": version, "trained_at": card.trained_at, "data_from": card.trained_at, "data_until": card.trained_at,
        "rows": 1, "scorecard": card.to_json(), "metrics": "{}", "verdict": "promoted",
    }  # fmt: skip
    append(lakehouse, FRAUD_MODELS, model)
    change = {"changed_at": datetime.now(UTC), "action": "promote", "champion": version, "threshold": card.threshold}
    append(lakehouse, FRAUD_CHAMPIONS, {**change, "by": "a test", "reason": ""})


def append(lakehouse: LakehouseResource, spec: TableSpec, row: dict[str, Any]) -> None:
    table = create_table(lakehouse.table_uri(spec.name), spec)
    write_deltalake(table, pa.Table.from_pylist([row], build_arrow_schema(spec)), mode="append")


@pytest.fixture
def scoring(root: Path, lakehouse: LakehouseResource) -> Iterator[FraudScoring]:
    found = make_scoring(lakehouse)
    yield found
    found.close()


def known_cards(scoring: FraudScoring) -> set[str]:
    return set(scoring._lookups[CARD_FEATURES.name]._rows["card_id"].to_pylist())


def served(scoring: FraudScoring) -> int | None:
    """The champion in the row that each batch joins."""
    (row,) = scoring._lookups[FRAUD_SERVING.name]._rows.to_pylist()
    found: int | None = row["champion"]
    return found


@pytest.mark.parametrize(
    ("tables", "damage"),
    [(REGISTER[:1], cut_files), (REGISTER[1:], garble_log), (CARDS, remove_files), (OTHERS, garble_log)],
)
def test_a_start_goes_on_without_and_catches_up(
    root: Path, scoring: FraudScoring, lakehouse: LakehouseResource, tables: Sequence[str],
    damage: Callable[[Path], None],
) -> None:  # fmt: skip
    earlier = make_scoring(lakehouse)
    earlier.refresh()
    earlier.close()
    for table in tables:
        shutil.copytree(root / table, root / "kept" / table)
        damage(root / table)

    scoring.refresh()
    assert scoring.name_built_in() == ("" if set(tables) <= set(REGISTER) else "1")
    assert served(scoring) == (None if set(tables) <= set(REGISTER) else 1)

    shutil.copytree(root / "kept", root, dirs_exist_ok=True)
    scoring.refresh()
    assert scoring.name_built_in() == "1"
    assert known_cards(scoring) == {"a", "b"}
    assert read_serving(lakehouse)[1]["champion"] == served(scoring) == 1


def test_another_champion_comes_where_nothing_else_can_be_read(
    root: Path, scoring: FraudScoring, lakehouse: LakehouseResource
) -> None:
    scoring.refresh()
    for table, damage in zip((*CARDS, *OTHERS), itertools.cycle(DAMAGES), strict=False):
        damage(root / table)
    add_version(lakehouse, 2)
    scoring.refresh()
    assert scoring.name_built_in() == "1,2"
    assert served(scoring) == 2
    assert known_cards(scoring) == {"a", "b"}, "what was known before"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"parts": ()}, "It looks at no feature."),
        ({"version": 1}, "Its scorecard says that it is version 1."),
        ({"parts": (Part("nothing", "number", 0.0, (0.0,), (1.0, 0.0)),)}, "not there any more: nothing"),
        ({"parts": (Part("ln_amount", "category", 0.0, (0.0,), (1.0, 0.0), steps={"a": 0}),)}, "any more: ln_amount"),
    ],
)
def test_a_scorecard_that_would_end_the_query_is_not_built_into_it(
    scoring: FraudScoring, lakehouse: LakehouseResource, caplog: pytest.LogCaptureFixture, change: dict[str, Any],
    said: str,
) -> None:  # fmt: skip
    add_version(lakehouse, 2, dataclasses.replace(make_scorecard(2), **change))
    scoring.refresh()
    assert scoring.name_built_in() == "1"
    assert served(scoring) == 2, "what it would judge is unscored"
    assert "Version 2 of the fraud model cannot be served" in caplog.text and said in caplog.text
