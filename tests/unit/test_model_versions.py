"""Versions of the fraud model: the register in the lakehouse, which counts, and MLflow, which shows."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from deltalake import DeltaTable

from platform_assets.errors import NotReadyError, SettingError, UsageError
from platform_assets.fraud.model_register import PROMOTE, ROLL_BACK, ModelRegister, ModelRow
from platform_assets.fraud.scorecard import Scorecard
from platform_assets.fraud.training import TrainedModel, fit
from platform_assets.fraud.versions import CHAMPION, SHADOW, ModelVersions
from platform_assets.tables.fraud import FRAUD_CHAMPIONS, FRAUD_MODELS
from resources.lakehouse import LakehouseResource
from resources.settings import Settings, load_settings
from tests.fraud_rows import END, KINDS, make_rows

NOW = datetime(2027, 2, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    return fit(make_rows(4_000, fraud=0.05), KINDS, END, 0.8, 1, NOW)


@pytest.fixture
def lakehouse(tmp_path: Path) -> LakehouseResource:
    return LakehouseResource(root=str(tmp_path / "lakehouse"))


def row_of(version: int, threshold: float = 0.5) -> ModelRow:
    card = Scorecard(version, NOW, threshold, 1.0, 0.0, -3.0, ())
    return ModelRow(version, NOW, NOW, NOW, 10, card.to_json(), "{}", "promoted")


def test_register_keeps_versions_and_says_which_holds(lakehouse: LakehouseResource) -> None:
    register = ModelRegister(lakehouse)
    assert (register.next_version(), register.read_holder(), register.read_models()) == (1, None, [])
    for version, threshold in ((1, 0.5), (2, 0.7)):
        register.add_model(row_of(version, threshold))
    register.change(PROMOTE, 1, None, "ann", "the first")
    register.change(PROMOTE, 2, None, "ann", "better")
    last = register.change(ROLL_BACK, 1, 2, "bob", "too many alerts")
    assert register.next_version() == 3
    assert register.read_holder() == last
    assert [(row.action, row.champion, row.shadow, row.threshold) for row in register.read_changes()] == [
        (PROMOTE, 1, None, 0.5),
        (PROMOTE, 2, None, 0.7),
        (ROLL_BACK, 1, 2, 0.5),
    ]
    assert register.read_scorecard(2).threshold == 0.7
    for spec in (FRAUD_MODELS, FRAUD_CHAMPIONS):
        found = DeltaTable(lakehouse.table_uri(spec.name)).schema().fields
        assert [field.name for field in found] == [column.name for column in spec.columns]


def test_a_version_that_was_never_trained_cannot_be_made_champion(lakehouse: LakehouseResource) -> None:
    with pytest.raises(UsageError, match="no version 4"):
        ModelRegister(lakehouse).change(PROMOTE, 4, None, "ann", "")


def test_two_trainings_cannot_take_one_number(lakehouse: LakehouseResource) -> None:
    ModelRegister(lakehouse).add_model(row_of(1))
    with pytest.raises(NotReadyError, match="at the same time"):
        ModelRegister(lakehouse).add_model(row_of(1))
    assert len(ModelRegister(lakehouse).read_models()) == 1


def test_mlflow_has_the_scorecard_and_the_model_and_says_who_is_champion(model: TrainedModel, tmp_path: Path) -> None:
    versions = ModelVersions(Settings(home=tmp_path))
    assert versions.find_holder(CHAMPION) is None
    first, second = (versions.add(model, {"precision": 0.9}) for _ in range(2))
    assert (first, second) == ("1", "2")
    versions.name_holders(1, 1)
    versions.name_holders(1, None)
    assert (versions.find_holder(CHAMPION), versions.find_holder(SHADOW)) == (1, None)
    with pytest.raises(NotReadyError, match="does not have version 7"):
        versions.name_holders(7, None)
    cards = list(tmp_path.rglob("scorecard.json"))
    assert [Scorecard.from_json(card.read_bytes()) for card in cards] == [model.scorecard] * 2
    import mlflow.sklearn

    again = mlflow.sklearn.load_model(str(next(tmp_path.rglob("MLmodel")).parent))
    steps = np.column_stack([each.apply(model.split.test[each.feature]) for each in model.cuts])
    assert (again.decision_function(steps) == model.classifier.decision_function(steps)).all()
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow"}
    assert {path.name for path in (tmp_path / "mlflow").iterdir()} == {"mlflow.db", "artifacts", "scratch"}
    assert list((tmp_path / "mlflow" / "scratch").iterdir()) == []


def test_a_server_that_is_away_is_named(model: TrainedModel, tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound and not listening: a connection is refused
        taken.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(NotReadyError, match=uri):
            ModelVersions(Settings(home=tmp_path, mlflow_tracking_uri=uri)).add(model, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["mlruns", "file:///x", "http://u:p@host", "http://"])
def test_an_address_of_no_server_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_MLFLOW_TRACKING_URI", value)
    load_settings.cache_clear()
    with pytest.raises(SettingError, match=r"HEADRACE_MLFLOW_TRACKING_URI: .*must"):
        load_settings()
    load_settings.cache_clear()


_PROGRAM = """
from pathlib import Path
from resources.settings import Settings
from tests.fraud_rows import END, KINDS, make_rows
from platform_assets.fraud.training import fit
from platform_assets.fraud.versions import ModelVersions

versions = ModelVersions(Settings(home=Path("home")))
versions.add(fit(make_rows(4_000, fraud=0.05), KINDS, END, 0.8, 1, END), {})
versions.name_holders(1, None)
"""


def test_mlflow_says_nothing_and_writes_in_the_home_alone(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2]), "HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120,
        check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert {path.name for path in tmp_path.iterdir()} == {"home"}
