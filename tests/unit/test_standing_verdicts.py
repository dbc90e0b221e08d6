"""A verdict stands on the page of its table, with the time at which it was given, whatever is materialized since."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster_graphql.schema import create_schema

from jobs.definitions.standing_verdicts import EVALUATED_AT, build_verdicts_sensor, carry_verdicts
from tests.unit import standing_verdicts_location as location
from tests.unit.standing_verdicts_location import TABLE, VERDICTS, defs

PARITY, LEDGER = dg.AssetCheckKey(TABLE, "parity"), dg.AssetCheckKey(TABLE, "ledger")
KEYS = [PARITY, LEDGER]
QUERY = """{ assetNodes { assetChecksOrError { ... on AssetChecks { checks { name executionForLatestMaterialization {
  status runId evaluation { timestamp severity success description metadataEntries { label } } } } } } } }"""


class Page:
    """What the web UI asks for a table, of an instance on disk."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        origin = InProcessCodeLocationOrigin(LoadableTargetOrigin(python_file=location.__file__, attribute="defs"))
        self._process = WorkspaceProcessContext(instance, InProcessWorkspaceLoadTarget([origin]))
        self._schema = create_schema()

    def materialize(self) -> None:
        location.streaming_job.execute_in_process(instance=self.instance)

    def check(self, *, passed: bool = True) -> str:
        VERDICTS["passed"] = passed
        return defs.resolve_job_def("checks").execute_in_process(instance=self.instance).run_id

    def read(self, name: str = "parity") -> dict[str, Any] | None:
        """The check's execution for the newest materialization; None: the UI says "Not evaluated"."""
        context = self._process.create_request_context()
        result = asyncio.run(self._schema.execute_async(QUERY, context_value=context))
        assert not result.errors, result.errors
        [node] = result.data["assetNodes"]
        [found] = [c for c in node["assetChecksOrError"]["checks"] if c["name"] == name]
        execution: dict[str, Any] | None = found["executionForLatestMaterialization"]
        return execution


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        yield Page(instance)


def test_a_red_verdict_stands_after_each_materialization_until_it_is_given_again(page: Page) -> None:
    page.materialize()
    run_id = page.check(passed=False)
    given = page.read()
    assert given is not None
    for _ in range(2):
        page.materialize()
        assert page.read() is None, "Dagster's own answer: Not evaluated"
        assert carry_verdicts(page.instance, KEYS, time.time()) == ["parity of silver.events"]
        stands = page.read()
        assert stands is not None
        assert (stands["status"], stands["runId"]) == ("FAILED", run_id)
        for same in ("timestamp", "severity", "success", "description"):
            assert stands["evaluation"][same] == given["evaluation"][same]
        labels = [entry["label"] for entry in stands["evaluation"]["metadataEntries"]]
        assert sorted(labels) == ["differences", EVALUATED_AT]
        assert carry_verdicts(page.instance, KEYS, time.time()) == []
    second = page.check(passed=True)
    page.materialize()
    carry_verdicts(page.instance, KEYS, time.time())
    stands = page.read()
    assert stands is not None and (stands["status"], stands["runId"]) == ("SUCCEEDED", second)


def test_the_log_does_not_grow_and_keeps_one_row_for_a_check_in_a_run(page: Page) -> None:
    page.materialize()
    page.check(passed=False)
    page.materialize()
    storage = page.instance.event_log_storage
    events, (before,) = count_events(page.instance), storage.get_asset_check_partition_info([PARITY])
    carry_verdicts(page.instance, KEYS, time.time())
    assert count_events(page.instance) == events
    assert len(storage.get_asset_check_execution_history(PARITY, limit=10)) == 1
    (after,) = storage.get_asset_check_partition_info([PARITY])
    assert after.latest_check_event_storage_id == before.latest_check_event_storage_id


def count_events(instance: dg.DagsterInstance) -> int:
    return sum(len(instance.all_logs(record.dagster_run.run_id)) for record in instance.get_run_records())


def test_the_ledger_is_left_to_its_own_sensor_for_a_while(page: Page) -> None:
    page.materialize()
    page.check()
    page.materialize()
    assert "ledger of silver.events" not in carry_verdicts(page.instance, KEYS, time.time())
    assert carry_verdicts(page.instance, KEYS, time.time() + 1000) == ["ledger of silver.events"]
    assert page.read("ledger") is not None


def test_a_verdict_stands_when_its_run_is_deleted(page: Page) -> None:
    page.materialize()
    page.instance.delete_run(page.check(passed=False))
    page.materialize()
    assert carry_verdicts(page.instance, KEYS, time.time()) == ["parity of silver.events"]
    stands = page.read()
    assert stands is not None and stands["status"] == "FAILED"


def test_a_verdict_that_a_sensor_reported_stands(page: Page) -> None:
    page.materialize()
    page.instance.report_runless_asset_event(dg.AssetCheckEvaluation(TABLE, "parity", passed=False))
    page.materialize()
    for _ in range(2):
        carry_verdicts(page.instance, KEYS, time.time())
        stands = page.read()
        assert stands is not None and stands["status"] == "FAILED"
        page.materialize()


def test_a_check_that_is_at_work_is_left_alone(page: Page) -> None:
    page.materialize()
    assert carry_verdicts(page.instance, KEYS, time.time()) == []
    page.check(passed=False)
    page.materialize()
    carried: list[str] = []
    location.DURING.append(lambda: carried.extend(carry_verdicts(page.instance, [PARITY], time.time())))
    try:
        page.check(passed=True)
    finally:
        location.DURING.clear()
    stands = page.read()
    assert carried == [] and stands is not None and stands["status"] == "SUCCEEDED"


def test_a_verdict_stands_over_a_run_that_was_cancelled_before_it_came_to_the_check(page: Page) -> None:
    page.materialize()
    page.check(passed=False)
    planned = page.instance.create_run_for_job(location.streaming_job)
    event = dg.DagsterEvent(
        "ASSET_CHECK_EVALUATION_PLANNED",
        "checks",
        event_specific_data=AssetCheckEvaluationPlanned(asset_key=TABLE, check_name="parity"),
    )
    page.instance.report_dagster_event(event, planned.run_id)
    assert carry_verdicts(page.instance, KEYS, time.time()) == []
    page.instance.report_run_canceled(planned)
    for _ in range(2):
        assert carry_verdicts(page.instance, KEYS, time.time()) == ["parity of silver.events"]
        stands = page.read()
        assert stands is not None and stands["status"] == "FAILED"
        page.materialize()


def test_the_sensor_is_on_and_says_what_it_carried(page: Page) -> None:
    sensor = build_verdicts_sensor()
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    page.materialize()
    page.check(passed=False)
    page.materialize()
    said = []
    for _ in range(2):
        context = dg.build_sensor_context(page.instance, definitions=defs)
        result = sensor(context)
        assert isinstance(result, dg.SkipReason)
        said.append(result.skip_message)
    assert said == ["Carried over: parity of silver.events.", "Each verdict is about the newest materialization."]
