"""An erasure waits for runs that may read the old files, then ends them, and goes on only when they are over."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import dagster as dg
import pytest

from jobs.operations.forgetting import readers
from jobs.operations.forgetting.readers import wait_for_readers
from platform_assets.errors import GroupOwnedError


@dg.job
def report() -> None:
    """Stands for a batch run."""


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as fresh:
        yield fresh


def start_run(instance: dg.DagsterInstance) -> dg.DagsterRun:
    run = instance.create_run_for_job(report, status=dg.DagsterRunStatus.STARTED)
    assert isinstance(run, dg.DagsterRun)
    return run


def test_nobody_is_waited_for_where_nobody_reads(instance: dg.DagsterInstance) -> None:
    report.execute_in_process(instance=instance)
    said: list[str] = []
    wait_for_readers(instance, 60.0, said.append)
    assert said == []


def test_a_run_that_ends_in_time_is_left_alone(instance: dg.DagsterInstance) -> None:
    run, said = start_run(instance), list[str]()
    ending = threading.Timer(1.5, lambda: instance.report_run_failed(run))
    ending.start()
    wait_for_readers(instance, 60.0, said.append)
    ending.join()
    assert len(said) == 1 and "waiting at most 60 s for 1 run" in said[0]


def test_a_run_that_does_not_end_is_stopped_and_nothing_is_removed_under_it(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "_STOP_SECONDS", 1.0)
    run, said = start_run(instance), list[str]()
    with pytest.raises(GroupOwnedError, match=run.run_id):
        wait_for_readers(instance, 0.0, said.append)
    assert "is stopped" in said[-1]
    found = instance.get_run_by_id(run.run_id)
    assert found is not None and found.status is dg.DagsterRunStatus.CANCELING
