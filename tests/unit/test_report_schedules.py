"""The schedules: today's partition every hour, yesterday's after midnight, and nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest

from jobs.report_schedules import reports_job, reports_today, reports_yesterday
from platform_assets.reports import build_report_assets
from platform_assets.reports.daily import build_daily_partitions


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as fresh:
        yield fresh


def _definitions() -> dg.Definitions:
    nothing = dg.ResourceDefinition.hardcoded_resource(None)
    return dg.Definitions(
        assets=build_report_assets(), jobs=[reports_job], resources={"spark": nothing, "lakehouse": nothing}
    )


def evaluate(
    schedule: dg.ScheduleDefinition, instance: dg.DagsterInstance, at: datetime
) -> dg.RunRequest | dg.SkipReason:
    context = dg.build_schedule_context(instance=instance, scheduled_execution_time=at)
    result = schedule(context)
    assert isinstance(result, dg.RunRequest | dg.SkipReason)
    return result


def test_every_hour_asks_for_the_day_that_is_not_over(instance: dg.DagsterInstance) -> None:
    request = evaluate(reports_today, instance, datetime(2024, 2, 29, 0, 5, tzinfo=UTC))
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == "2024-02-29"
    assert request.tags["headrace/spark"] == "batch"


def test_two_ticks_of_one_hour_ask_for_the_same_run(instance: dg.DagsterInstance) -> None:
    at = datetime(2024, 2, 29, 7, 5, tzinfo=UTC)
    first, again = (evaluate(reports_today, instance, at) for _ in range(2))
    later = evaluate(reports_today, instance, at.replace(hour=8))
    assert isinstance(first, dg.RunRequest)
    assert isinstance(again, dg.RunRequest)
    assert isinstance(later, dg.RunRequest)
    assert first.run_key == again.run_key != later.run_key


def test_an_unfinished_run_of_the_day_is_not_joined_by_a_second_one(instance: dg.DagsterInstance) -> None:
    definitions = _definitions()
    instance.create_run_for_job(
        definitions.resolve_job_def("reports"),
        status=dg.DagsterRunStatus.STARTED,
        tags={"dagster/partition": "2024-02-29"},
    )
    at = datetime(2024, 2, 29, 7, 5, tzinfo=UTC)
    assert isinstance(evaluate(reports_today, instance, at), dg.SkipReason)
    assert isinstance(evaluate(reports_today, instance, at.replace(month=3, day=1)), dg.RunRequest)


@pytest.mark.parametrize("hour", [0, 12])
def test_yesterday_is_asked_for_when_it_is_over(instance: dg.DagsterInstance, hour: int) -> None:
    request = evaluate(reports_yesterday, instance, datetime(2024, 3, 1, hour, 45, tzinfo=UTC))
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == "2024-02-29"


def test_both_schedules_run_unless_somebody_stops_them() -> None:
    for schedule in (reports_today, reports_yesterday):
        assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
        assert schedule.execution_timezone == "UTC"


def test_the_job_computes_both_reports_in_one_process() -> None:
    definitions = _definitions()
    job = definitions.resolve_job_def("reports")
    assert job.executor_def is dg.in_process_executor
    order = [node.name for node in job.graph.nodes_in_topological_order]
    assert sorted(order) == ["gold__purchase_correlations", "gold__session_report"]


def test_today_is_a_partition_and_tomorrow_is_not() -> None:
    now = datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)
    assert build_daily_partitions().get_partition_keys(current_time=now)[-1] == "2024-02-29"
