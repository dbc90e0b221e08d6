"""Dagster's default launcher, able to say that a run's process is dead.

Without it a run whose machine rebooted reads STARTED for ever and keeps its concurrency slot (measured; the default
launcher has no health check). Uses Dagster's internals; `tests/unit/test_launcher.py` covers that use.
"""

from __future__ import annotations

import json
import os

import psutil
from dagster import DagsterEvent, DagsterEventType, DagsterRun, DefaultRunLauncher
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.types import GetCurrentRunsResult
from dagster._serdes import deserialize_value

# The worker logs its pid after it has imported the code. A process made later than that event has only the same pid.
_CLOCK_TOLERANCE_SECONDS = 2.0


class LocalHealthRunLauncher(DefaultRunLauncher):
    """The launcher that `dagster.yaml` names; run monitoring asks it about every STARTED run."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes, unlike the parent."""
        return True

    def launch_run(self, context: LaunchRunContext) -> None:
        """Launches the run like the parent class, then records its server if the platform's socket is a link to one.

        Terminate in the UI goes to the address that is recorded here, and by then the link may lead to the server's
        successor, which does not know the run.
        """
        super().launch_run(context)
        run = self._instance.get_run_by_id(context.dagster_run.run_id)
        address = json.loads(run.tags.get(GRPC_INFO_TAG, "{}")) if run is not None else {}
        if "socket" in address:
            address["socket"] = os.path.realpath(address["socket"])
            self._instance.add_run_tags(context.dagster_run.run_id, {GRPC_INFO_TAG: json.dumps(address)})

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """FAILED when the process that reported itself for this run is gone; RUNNING otherwise or when none did.

        A code server with a port may be in a container of its own, where pids are others: it is asked. While it does
        not answer, nobody knows, and the run counts as running. It must not be behind the proxy of `dagster
        code-server start`, which asks its newest server only, and not the one that has the run.
        """
        if "port" in json.loads(run.tags.get(GRPC_INFO_TAG, "{}")):
            return self._ask_server(run)
        records = self._instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT)
        for entry in reversed(records):
            event = entry.dagster_event
            if event is None or not (event.message or "").startswith("Started process for run"):
                continue
            pid = _read_pid(event)
            if pid is None:
                continue
            try:
                process = psutil.Process(pid)
                is_worker = process.create_time() <= entry.timestamp + _CLOCK_TOLERANCE_SECONDS
                alive = is_worker and process.status() != psutil.STATUS_ZOMBIE
            except psutil.NoSuchProcess:
                alive = False
            if alive:
                return CheckRunHealthResult(WorkerStatus.RUNNING)
            return CheckRunHealthResult(WorkerStatus.FAILED, f"its process (pid {pid}) is gone")
        return CheckRunHealthResult(WorkerStatus.RUNNING)

    def _ask_server(self, run: DagsterRun) -> CheckRunHealthResult:
        client = self._get_grpc_client_for_termination(run.run_id)
        if client is None:  # it has ended since
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        try:
            answer = deserialize_value(client.get_current_runs(), GetCurrentRunsResult)
        except DagsterUserCodeUnreachableError:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        if answer.serializable_error_info is not None or run.run_id in answer.current_runs:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, "its code server has no process for it, or has started anew")


def _read_pid(event: DagsterEvent) -> int | None:
    """The process that the event names; None for an event with these words that is not the worker's."""
    metadata = getattr(event.event_specific_data, "metadata", None) or {}
    try:
        return int(str(metadata["pid"].value))
    except (KeyError, ValueError):
        return None
