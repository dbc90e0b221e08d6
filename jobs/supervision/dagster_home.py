"""The Dagster instance that Headrace runs on: `<HEADRACE_HOME>/dagster/dagster.yaml`, or one that hosts share."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import dagster as dg

from jobs.supervision.run_records import GROUP_TAG
from jobs.supervision.storage_errors import name_cause
from platform_assets.errors import InstanceUnavailableError, StorageError
from platform_assets.reports.assets import BATCH_SPARK_POOL, REPORTS_POOL
from resources.file_lock import exclusive
from resources.settings import Settings

_log = logging.getLogger(__name__)

# A first start on a loaded machine takes ten seconds.
_CREATION_SECONDS = 60.0
# What Dagster makes where no other storage is configured.
_SQLITE_FILES = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")
_LAUNCHER = "jobs.supervision.launcher"
_MARK = "# Written by Headrace at each start. Delete this line to keep your own changes.\n"

_TEMPLATE = """\
# No pop-up that asks for an e-mail address.
nux:
  enabled: false

telemetry:
  enabled: false

# Marks runs failed whose process is gone. The limits must exceed the longest graceful stop.
run_launcher:
  module: {launcher}
  class: LocalHealthRunLauncher
run_monitoring:
  enabled: true
  start_timeout_seconds: 300
  cancel_timeout_seconds: {cancel_timeout}
  poll_interval_seconds: 15
  free_slots_after_run_end_seconds: 60

# One run a stream group, one batch Spark application (the pool of reports and parity checks) at a time: two JVMs next
# to the stream's own do not fit a small machine. A restart waits at most one dequeue interval.
concurrency:
  runs:
    max_concurrent_runs: 10
    tag_concurrency_limits:
      - key: {group_tag}
        value:
          applyLimitPerUniqueValue: true
        limit: 1
  pools:
    granularity: run
    default_limit: 1
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config:
    dequeue_interval_seconds: 2

# One slow sensor must not delay the supervisor's tick.
sensors:
  use_threads: true
  num_workers: 4
schedules:
  use_threads: true
  num_workers: 2

retention:
  sensor:
    purge_after_days:
      skipped: 1
      success: 14
      failure: 30
  schedule:
    purge_after_days:
      skipped: 7
      success: 90
      failure: 90
  auto_materialize:
    purge_after_days:
      skipped: 1
      success: 14
      failure: 30

# A stream's stderr grows without bound, and each capture costs four processes.
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""


def render_dagster_yaml(settings: Settings) -> str:
    """The file's text for these settings."""
    return _MARK + _TEMPLATE.format(
        launcher=_LAUNCHER, cancel_timeout=settings.stop_grace_seconds + 60, group_tag=GROUP_TAG
    )  # fmt: skip


def ensure_dagster_home(settings: Settings) -> Path:
    """Creates the home and writes its `dagster.yaml` unless a person has taken it over; returns the home's path.

    Idempotent; several processes may call it at once. Raises `StorageError` when the folder cannot be written. The
    caller sets `DAGSTER_HOME` to the result.
    """
    home = settings.dagster_home
    try:
        home.mkdir(parents=True, exist_ok=True)
        with exclusive(home / ".lock", timeout_seconds=_CREATION_SECONDS):
            is_ours = _write_dagster_yaml(home / "dagster.yaml", render_dagster_yaml(settings))
            # Of two processes that create the storage's tables at once, Dagster ends one with an error of Alembic's.
            if is_ours and not all((home / file).exists() for file in _SQLITE_FILES):
                dg.DagsterInstance.from_config(str(home)).dispose()
    except TimeoutError as error:
        raise StorageError(
            f"Another process has been creating the Dagster home {home} for a minute ({error}). End it, and try again."
        ) from error
    except OSError as error:
        raise StorageError(
            f"The Dagster home {home} cannot be written: {error.strerror}. "
            "Make the folder writable, or set HEADRACE_HOME to another one."
        ) from error
    return home


def _write_dagster_yaml(path: Path, text: str) -> bool:
    """Returns whether the file is ours: a person's stays as it is."""
    present = path.read_text(encoding="utf-8") if path.exists() else _MARK
    if present.startswith(_MARK) and present != text:
        draft = path.with_suffix(".yaml.new")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    return present.startswith(_MARK)


def find_dagster_home(settings: Settings) -> Path:
    """The folder of the instance: `<HEADRACE_HOME>/dagster`, unless `DAGSTER_HOME` names one that hosts share.

    That is one whose `dagster.yaml` a person has written for Headrace (it has its launcher, as `deploy/dagster.yaml`
    does). One that Headrace has written belongs to the home that it is in.
    """
    if named := os.environ.get("DAGSTER_HOME"):
        path = Path(named, "dagster.yaml")
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if _LAUNCHER in text and not text.startswith(_MARK):
            return Path(named)
        if Path(named).absolute() != settings.dagster_home.absolute():
            _warn_of_unused(named, str(settings.dagster_home))
    return settings.dagster_home


@cache
def _warn_of_unused(named: str, used: str) -> None:
    _log.warning(
        "DAGSTER_HOME=%s has no dagster.yaml written for Headrace: the instance in %s is used, which no host shares.",
        named, used,
    )  # fmt: skip


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance | None]:
    """The instance for the length of the block; None where none was ever made, so that nobody shares it.

    Raises `InstanceUnavailableError` where its storage does not answer.
    """
    home = find_dagster_home(settings)
    if not (home / "dagster.yaml").exists():
        yield None
        return
    try:
        instance = dg.DagsterInstance.from_config(str(home))
    except Exception as error:  # the driver's own, of any storage
        raise InstanceUnavailableError(
            f"The Dagster instance of {home} does not answer ({name_cause(error)}): another host may own the "
            "streams. Call this again when its database is back."
        ) from error
    with instance:
        yield instance


def set_pool_limits(instance: dg.DagsterInstance) -> None:
    """Gives the pools of a fresh home their limit; one that is there stays, for somebody may have set it.

    Dagster takes a limit up when it first sees a run of the pool, and lets all that are queued then begin at once: the
    runs of a first backfill would compute the same days side by side.
    """
    known = {limit.name for limit in instance.event_log_storage.get_pool_limits()}
    for pool in {BATCH_SPARK_POOL, REPORTS_POOL} - known:
        instance.event_log_storage.initialize_concurrency_limit_to_default(pool)
