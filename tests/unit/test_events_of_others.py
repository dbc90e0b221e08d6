"""What people do to runs and tags in Dagster's UI stops neither the supervisor nor a start."""

from __future__ import annotations

import json
import logging
from typing import Any

import dagster as dg
import pytest

from jobs.supervision.model import ExitKind
from jobs.supervision.run_host_port import RunHostPort
from jobs.supervision.run_records import (
    EXIT_TAG,
    GROUP_TAG,
    STOP_CAUSE_TAG,
    STOP_STEP_TAG,
    read_runs,
    record_exit,
)
from jobs.supervision.table_events import TableEvents
from platform_assets.checks.ledger_proof import Proof


@dg.job
def some_job() -> None:
    pass


def test_a_run_with_tags_that_nobody_of_us_wrote_is_a_run_without_them() -> None:
    with dg.instance_for_test() as instance:
        tags = {GROUP_TAG: "clickstream", EXIT_TAG: "?", STOP_CAUSE_TAG: "", STOP_STEP_TAG: "2"}
        instance.create_run_for_job(some_job, tags=tags)
        ours = instance.create_run_for_job(some_job, tags={GROUP_TAG: "clickstream"})
        record_exit(instance, ours.run_id, ExitKind.STOPPED, "said")
        known, strange = read_runs(instance, "clickstream", 10)
        assert known.exit_kind is ExitKind.STOPPED
        assert (strange.exit_kind, strange.stop_cause, strange.stop_step) == (None, None, None)


def test_a_host_whose_run_is_deleted_stops_in_good_order() -> None:
    with dg.instance_for_test() as instance:
        run = instance.create_run_for_job(some_job)
        log = logging.getLogger(__name__)
        port = RunHostPort(instance, "clickstream", run.run_id, TableEvents([], lambda event: None), log)
        assert port.read_stop(signalled=False) is None
        instance.delete_run(run.run_id)
        assert port.read_stop(signalled=False) == (ExitKind.STOPPED, "the run was deleted in Dagster")


@pytest.mark.parametrize("value", [{}, [], 1, {"tables": {}, "until": [], "totals": {}, "full_at": "yesterday"}])
def test_a_proof_that_somebody_else_reported_is_none(value: Any) -> None:
    assert Proof.load(json.dumps(value)) is None
    assert Proof.load("no JSON") is None
