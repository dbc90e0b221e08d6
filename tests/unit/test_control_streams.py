"""The job by which a person pauses, resumes and restarts from the UI: what it records, what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from jobs.definitions.control_streams import build_control_streams_job
from jobs.operations.stream_groups import find_groups
from jobs.supervision.lease import read_control
from platform_assets.errors import UsageError
from platform_assets.streaming.stream_spec import StreamGroup
from platform_assets.streams import load_stream_groups
from resources.settings import load_settings

GROUPS = load_stream_groups()
NAME = GROUPS[0].name


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    load_settings.cache_clear()
    with dg.instance_for_test() as fresh:
        yield fresh


def run_command(instance: dg.DagsterInstance, **config: str) -> dg.ExecuteInProcessResult:
    job = build_control_streams_job(GROUPS)
    run_config = {"ops": {"record_command": {"config": config}}}
    return job.execute_in_process(run_config=run_config, instance=instance, raise_on_error=False)


def test_one_stream_is_paused_restarted_and_resumed_while_its_group_is_left_alone(
    instance: dg.DagsterInstance,
) -> None:
    paused = run_command(instance, command="pause", stream="sessions", reason="a bug")
    control = read_control(instance, NAME)
    assert (control.paused, control.paused_streams) == (False, {"sessions": f"run {paused.run_id[:8]} (a bug)"})
    run_command(instance, command="pause", stream="events")
    run_command(instance, command="resume", stream="sessions")
    assert set(read_control(instance, NAME).paused_streams) == {"events"}
    run_command(instance, command="restart", stream="events")
    control = read_control(instance, NAME)
    assert (control.paused_streams, set(control.streams_restart_at)) == ({}, {"events"})
    assert (control.forgiven_runs, control.restart_runs) == ((), ())


def test_a_group_is_paused_and_resumed_and_its_streams_holds_stay(instance: dg.DagsterInstance) -> None:
    run_command(instance, command="pause", stream="sessions")
    run_command(instance, command="pause", reason="new disks")
    control = read_control(instance, NAME)
    assert control.paused and control.pause_reason == "new disks"
    run_command(instance, command="resume")
    control = read_control(instance, NAME)
    assert not control.paused
    assert set(control.paused_streams) == {"sessions"}


def test_a_name_that_does_not_exist_is_refused_with_those_that_do(instance: dg.DagsterInstance) -> None:
    assert not run_command(instance, command="pause", stream="session").success
    assert read_control(instance, NAME).paused_streams == {}
    with pytest.raises(UsageError, match=r"no stream session\. There are: .*sessions"):
        find_groups(GROUPS, "", "session")
    with pytest.raises(UsageError, match=f"no stream group nobody. There are: {NAME}"):
        find_groups(GROUPS, "nobody", "")


def test_a_streams_name_is_enough_to_find_its_group() -> None:
    other = StreamGroup("other", ())
    assert find_groups([other, *GROUPS], "", "sessions") == [GROUPS[0]]
    assert find_groups([other, *GROUPS], "", "") == [other, *GROUPS]
