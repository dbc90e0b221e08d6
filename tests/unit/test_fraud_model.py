"""The life of the fraud model in Dagster and by hand: trained, promoted or refused, a shadow, rolled back."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.schedule_definition import ScheduleExecutionData

from jobs.cli.__main__ import main
from platform_assets.definitions import defs
from platform_assets.fraud.model_register import ModelRegister
from platform_assets.fraud.promotion import Metrics
from platform_assets.fraud.versions import CHAMPION, SHADOW, ModelVersions
from resources.lakehouse import LakehouseResource
from resources.settings import Settings, load_settings
from tests.payments_with_fraud import write_payments

FIRST_DAY = "2026-06-01"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.setenv("HEADRACE_GROUPS", "payments")
    load_settings.cache_clear()
    yield load_settings()
    load_settings.cache_clear()


@pytest.fixture
def lakehouse(settings: Settings) -> LakehouseResource:
    found = LakehouseResource.from_settings(settings)
    write_payments(found)
    return found


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as fresh:
        yield fresh


def run(
    job: str, instance: dg.DagsterInstance, config: Mapping[str, object] | None = None
) -> dg.ExecuteInProcessResult:
    found = defs().get_repository_def().get_job(job)
    return found.execute_in_process(instance=instance, raise_on_error=False, run_config=config or {})


def cause_of(result: dg.ExecuteInProcessResult) -> str:
    failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    told = [failure.user_failure_data for failure in failures if failure.user_failure_data is not None]
    assert len(told) == 1
    return told[0].description or ""


def test_a_version_lives_from_its_training_to_the_way_back(
    settings: Settings, lakehouse: LakehouseResource, instance: dg.DagsterInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    register, versions = ModelRegister(lakehouse), ModelVersions(settings)

    first = run("train_fraud_model", instance)
    assert first.success
    [materialization] = first.asset_materializations_for_node("fraud_model")
    for name in ("precision_by_recall", "calibration", "weights"):
        assert str(materialization.metadata[name].value).startswith("![")
    checks = {each.check_name: each for each in first.get_asset_check_evaluations()}
    assert {name: each.passed for name, each in checks.items()} == dict.fromkeys(
        ("better_than_hand_rules", "as_good_as_champion", "no_drift"), True
    )
    held = register.read_holder()
    assert held is not None and (held.action, held.champion, held.shadow) == ("promote", 1, None)
    assert versions.find_holder(CHAMPION) == 1

    second = run("train_fraud_model", instance)
    assert second.success
    held = register.read_holder()
    assert held is not None and (held.action, held.champion, held.shadow) == ("shadow", 1, 2)
    assert (versions.find_holder(CHAMPION), versions.find_holder(SHADOW)) == (1, 2)

    when_due = {"ops": {"promote": {"config": {"when_due": True}}}}
    assert run("promote_fraud_model", instance, when_due).success
    assert len(register.read_changes()) == 2, "its day is not over"
    assert main(["model", "promote", "--because", "a test"]) == 0
    assert versions.find_holder(CHAMPION) == 2
    assert run("roll_back_fraud_model", instance).success
    assert versions.find_holder(CHAMPION) == 1
    again = run("roll_back_fraud_model", instance)
    assert not again.success and "no champion before this one" in cause_of(again)
    assert [(row.action, row.champion, row.shadow) for row in register.read_changes()] == [
        ("promote", 1, None), ("shadow", 1, 2), ("promote", 2, None), ("roll_back", 1, None),
    ]  # fmt: skip
    capsys.readouterr()
    assert main(["model", "list"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "champion" in shown[0] and "promoted: " in shown[0] and "shadow: " in shown[1]


def test_what_is_kept_of_a_version_says_with_what_it_was_compared(
    lakehouse: LakehouseResource, instance: dg.DagsterInstance
) -> None:
    assert run("train_fraud_model", instance).success
    [row] = ModelRegister(lakehouse).read_models()
    metrics = Metrics.of(row)
    assert metrics.champion is None
    assert metrics.model.average_precision > metrics.hand_rules.average_precision > 0
    assert metrics.alert_precision > 0.4
    now = datetime.now(UTC)
    assert row.data_from < row.data_until < now
    assert (now - row.data_until).days == 3, "later payments are not known to be honest yet"


def test_a_training_without_payments_ends_with_one_sentence(settings: Settings, instance: dg.DagsterInstance) -> None:
    result = run("train_fraud_model", instance)
    assert cause_of(result).startswith("There is no silver.transactions to learn from.")


def test_the_command_says_that_payments_are_off(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_GROUPS", "clickstream")
    load_settings.cache_clear()
    assert main(["model", "train"]) == 1
    assert "Add payments to HEADRACE_GROUPS" in capsys.readouterr().err
    jobs = {job.name for job in defs().get_repository_def().get_all_jobs()}
    assert not jobs & {"train_fraud_model", "promote_fraud_model", "roll_back_fraud_model"}


def test_ctrl_c_ends_a_training_without_a_word(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "platform_assets.fraud.model_training.train_model", lambda *_: signal.raise_signal(signal.SIGINT)
    )
    assert main(["model", "train"]) == 130
    assert "headrace:" not in capsys.readouterr().err


def test_each_monday_last_week_is_trained_with(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_FIRST_DAY", FIRST_DAY)
    load_settings.cache_clear()
    repository = defs().get_repository_def()
    schedule = repository.get_schedule_def("train_fraud_model_weekly")

    def look(day: int) -> ScheduleExecutionData:
        moment = datetime(2026, 6, day, 4, 10, tzinfo=UTC)
        context = dg.build_schedule_context(scheduled_execution_time=moment, repository_def=repository)
        return schedule.evaluate_tick(context)

    [request] = look(15).run_requests or []
    assert request.partition_key == "2026-06-08"
    assert look(1).skip_message


def test_the_daily_promotion_asks_for_a_shadow_that_is_due(settings: Settings) -> None:
    schedule = defs().get_repository_def().get_schedule_def("promote_fraud_model_daily")
    [request] = schedule.evaluate_tick(dg.build_schedule_context()).run_requests or []
    assert request.run_config == {"ops": {"promote": {"config": {"when_due": True}}}}
