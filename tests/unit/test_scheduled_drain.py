"""Scheduled streaming: when a drain is asked for, and what the supervisor does meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from jobs.definitions.scheduled_drain import build_drain_job, build_drain_schedule
from jobs.definitions.stream_supervisor import build_stream_supervisor
from jobs.definitions.streaming_job import build_streaming_job
from platform_assets.streams import load_stream_groups
from resources.settings import Settings

GROUPS = load_stream_groups()
AT = datetime(2024, 2, 29, 7, 15, tzinfo=UTC)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as fresh:
        yield fresh


def evaluate(instance: dg.DagsterInstance, settings: Settings) -> list[dg.RunRequest | dg.SkipReason]:
    schedule = build_drain_schedule(GROUPS, build_drain_job(GROUPS), settings)
    found = schedule(dg.build_schedule_context(instance=instance, scheduled_execution_time=AT))
    assert isinstance(found, Iterator)
    return list(found)


def test_a_tick_asks_for_one_drain_of_each_group_with_a_valid_config(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    [request] = evaluate(instance, Settings(home=tmp_path, streaming_mode="scheduled"))
    assert isinstance(request, dg.RunRequest)
    assert dg.validate_run_config(build_drain_job(GROUPS), request.run_config)
    assert request.run_key == f"{GROUPS[0].name}:2024-02-29T07:15:00+00:00"


def test_a_drain_that_has_not_ended_is_not_joined_by_a_second_one(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, streaming_mode="scheduled")
    [request] = evaluate(instance, settings)
    assert isinstance(request, dg.RunRequest)
    instance.create_run_for_job(
        build_drain_job(GROUPS), status=dg.DagsterRunStatus.STARTED, tags=dict(request.tags)
    )  # fmt: skip
    [skipped] = evaluate(instance, settings)
    assert isinstance(skipped, dg.SkipReason)


def test_the_mode_says_who_starts_streams(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    job = build_streaming_job(GROUPS)
    for settings, on in (
        (Settings(home=tmp_path, streaming_mode="scheduled"), True),
        (Settings(home=tmp_path), False),
    ):
        schedule = build_drain_schedule(GROUPS, build_drain_job(GROUPS), settings)
        assert (schedule.default_status is dg.DefaultScheduleStatus.RUNNING) is on
        sensor = build_stream_supervisor(GROUPS, job, settings)
        tick = sensor(dg.build_sensor_context(instance=instance))
        assert isinstance(tick, dg.SensorResult)
        assert bool(tick.run_requests) is not on
        if on:
            assert tick.skip_reason is not None
            assert "DISABLED: streams catch up on a schedule" in (tick.skip_reason.skip_message or "")
    [skipped] = evaluate(instance, Settings(home=tmp_path))
    assert isinstance(skipped, dg.SkipReason)
