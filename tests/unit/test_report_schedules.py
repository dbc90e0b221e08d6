"""When reports run: a closed day at once, today hourly while the streams go on, the last days at night."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from jobs.definitions.report_schedules import build_nightly_schedule, reports_follow_streams, reports_job
from platform_assets.errors import SettingError
from platform_assets.reports import DAILY_REPORTS, build_report_assets
from platform_assets.reports.assets import ONLY_CHANGED_TAG, REPORTS_POOL
from platform_assets.reports.days import CLOSED_DAYS_KEY, FIRST_DAY, DayRange, build_daily_partitions, split_days
from platform_assets.stream_assets import build_stream_assets
from platform_assets.streams import load_stream_groups
from resources.settings import Settings, load_settings

NOW = datetime(2024, 2, 29, 7, 0, tzinfo=UTC)
EVENTS = dg.AssetKey(["silver", "events"])
SESSION_REPORT = dg.AssetKey(["gold", "session_report"])
CUSTOMERS = dg.AssetKey(["gold", "customer_360"])
DAILY = {*(dg.AssetKey(report.table.asset_path) for report in DAILY_REPORTS), dg.AssetKey(["reports", "daily_page"])}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as fresh:
        yield fresh


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return build_definitions(FIRST_DAY)


def build_definitions(first_day: date) -> dg.Definitions:
    nothing = dg.ResourceDefinition.hardcoded_resource(None)
    return dg.Definitions(
        assets=[*build_stream_assets(load_stream_groups(), "t", first_day), *build_report_assets("duckdb", first_day)],
        jobs=[reports_job],
        resources={"duckdb": nothing, "lakehouse": nothing},
    )


class Daemon:
    """Evaluates the conditions as the daemon does, at times of its own."""

    def __init__(self, definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self._definitions = definitions
        self._instance = instance
        self._cursor: Any = None

    def look(self, at: datetime) -> dict[dg.AssetKey, set[str | None]]:
        """The partitions that are asked for, by asset."""
        result = dg.evaluate_automation_conditions(
            self._definitions, self._instance, dg.AssetSelection.groups("reports"), evaluation_time=at,
            cursor=self._cursor,
        )  # fmt: skip
        self._cursor = result.cursor
        found: dict[dg.AssetKey, set[str | None]] = {}
        for key in (*DAILY, CUSTOMERS):
            subset = result.get_requested_partitions(key)
            if subset:
                found[key] = set(subset)
        return found

    def materialize(self, key: dg.AssetKey, partition: str | None = None) -> None:
        self._instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition))


@pytest.fixture
def daemon(definitions: dg.Definitions, instance: dg.DagsterInstance) -> Daemon:
    found = Daemon(definitions, instance)
    found.look(NOW)
    return found


def test_a_day_that_the_streams_have_closed_is_asked_for_once(daemon: Daemon) -> None:
    daemon.materialize(CLOSED_DAYS_KEY, "2024-02-28")
    assert daemon.look(NOW + timedelta(minutes=1)) == {key: {"2024-02-28"} for key in DAILY}
    assert daemon.look(NOW + timedelta(minutes=2)) == {}


def test_today_is_asked_for_hourly_all_at_once(daemon: Daemon) -> None:
    assert daemon.look(NOW + timedelta(minutes=2)) == {}
    assert daemon.look(NOW + timedelta(minutes=6)) == {key: {"2024-02-29"} for key in DAILY}
    daemon.materialize(EVENTS)
    assert daemon.look(NOW + timedelta(minutes=16)) == {}
    assert daemon.look(NOW + timedelta(minutes=67)) == {key: {"2024-02-29"} for key in DAILY}


def test_customers_follow_their_days(daemon: Daemon) -> None:
    daemon.materialize(dg.AssetKey(["gold", "customer_days"]), "2024-02-28")
    assert CUSTOMERS in daemon.look(NOW + timedelta(minutes=1))
    assert daemon.look(NOW + timedelta(minutes=2)) == {}


def test_the_nightly_run_goes_over_all_days_and_looks_at_the_last_ones_anyway(instance: dg.DagsterInstance) -> None:
    schedule = build_nightly_schedule(Settings(late_days=3, first_day=date(2019, 10, 1)))
    at = datetime(2024, 3, 1, 3, 15, tzinfo=UTC)
    first, again = (
        schedule(dg.build_schedule_context(instance=instance, scheduled_execution_time=at)) for _ in range(2)
    )
    assert isinstance(first, dg.RunRequest)
    assert isinstance(again, dg.RunRequest)
    assert first.run_key == again.run_key
    assert first.tags["dagster/asset_partition_range_start"] == "2024-02-27"
    assert first.tags["dagster/asset_partition_range_end"] == "2024-02-29"
    assert first.tags[ONLY_CHANGED_TAG] == "2019-10-01"


def test_the_night_after_the_first_day_has_one_day_and_the_night_before_none(instance: dg.DagsterInstance) -> None:
    schedule = build_nightly_schedule(Settings(first_day=date(2024, 2, 29)))
    for day, expected in ((29, dg.SkipReason), (30, dg.RunRequest)):
        at = datetime(2024, 2, 1, 3, 15, tzinfo=UTC) + timedelta(days=day - 1)
        context = dg.build_schedule_context(instance=instance, scheduled_execution_time=at)
        assert isinstance(schedule(context), expected)


def test_days_before_2024_are_partitions_where_the_first_day_is_set() -> None:
    graph = build_definitions(date(2019, 10, 1)).resolve_asset_graph()
    for key in (*DAILY, CLOSED_DAYS_KEY):
        partitions = graph.get(key).partitions_def
        assert partitions is not None and partitions.get_first_partition_key() == "2019-10-01"


def test_a_first_day_that_is_none_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("2999-01-01", "yesterday", "2019-13-01"):
        monkeypatch.setenv("HEADRACE_FIRST_DAY", value)
        load_settings.cache_clear()
        with pytest.raises(SettingError, match="HEADRACE_FIRST_DAY"):
            load_settings()
    load_settings.cache_clear()


def test_nothing_must_be_switched_on() -> None:
    assert reports_follow_streams.default_status == dg.DefaultSensorStatus.RUNNING
    schedule = build_nightly_schedule(Settings())
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    assert schedule.execution_timezone == "UTC"


def test_the_job_computes_all_reports_in_one_op_of_the_pool(definitions: dg.Definitions) -> None:
    job = definitions.resolve_job_def("reports")
    assert job.executor_def is dg.in_process_executor
    (node,) = job.graph.nodes_in_topological_order
    assert node.definition.pools == {REPORTS_POOL}


def test_every_condition_has_a_label(definitions: dg.Definitions) -> None:
    for spec in definitions.resolve_all_asset_specs():
        if spec.group_name == "reports":
            assert spec.automation_condition is not None
            assert spec.automation_condition.get_label(), spec.key
            assert spec.freshness_policy is not None


def test_today_is_a_partition_and_tomorrow_is_not() -> None:
    now = datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)
    assert build_daily_partitions().get_partition_keys(current_time=now)[-1] == "2024-02-29"


def test_days_are_split_where_one_is_missing_and_where_a_chunk_is_full() -> None:
    days = [date(2024, 2, 27) + timedelta(days=n) for n in (5, 0, 1, 2, 4, 5)]
    found = [(str(part.first), str(part.last)) for part in split_days(days, 2)]
    assert found == [("2024-02-27", "2024-02-28"), ("2024-02-29", "2024-02-29"), ("2024-03-02", "2024-03-03")]
    assert split_days([], 2) == []
    assert DayRange(date(2024, 2, 28), date(2024, 3, 1)).days() == [
        date(2024, 2, 28),
        date(2024, 2, 29),
        date(2024, 3, 1),
    ]
