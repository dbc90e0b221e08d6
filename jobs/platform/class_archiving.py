"""Makes the archive of Spark's classes while the platform runs, once its streams leave room for that."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import dagster as dg
import psutil

from jobs.supervision.lease import read_records
from platform_assets.streams import load_stream_groups
from resources.spark import class_archive

_log = logging.getLogger(__name__)

_COMMAND = (sys.executable, "-m", "resources.spark.class_archive", "--background")
# A platform that is tried for a minute, and the first batches after a start, want the cores that this takes.
SETTLED_SECONDS = 180.0
# Each look reads Dagster's storage, which costs some milliseconds.
_LOOK_SECONDS = 15.0
# More unread records are a backlog, which is read with all there is.
_CAUGHT_UP_RECORDS = 10_000


class ClassArchiving:
    """Starts the making at most once in its life and ends it with the platform. A making that fails harms nobody.

    `is_settled` says whether the streams have done their work; `log` receives what the making says.
    """

    def __init__(
        self, log: Path, is_settled: Callable[[], bool] | None = None, command: Sequence[str] = _COMMAND,
        settled_seconds: float = SETTLED_SECONDS,
    ) -> None:  # fmt: skip
        self._log = log
        self._is_settled = is_settled or streams_are_settled
        self._command = command
        self._settled_seconds = settled_seconds
        self._settled_since: float | None = None
        self._next_look = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def look(self) -> None:
        """Called again and again while the platform runs: starts the making once the streams have been settled long."""
        now = time.monotonic()
        if self._process is not None:
            self._process.poll()  # takes leave of it once it has ended
            return
        if now < self._next_look:
            return
        self._next_look = now + min(_LOOK_SECONDS, self._settled_seconds)
        try:
            is_settled = self._is_settled()
        except Exception as error:  # noqa: BLE001 (whatever storage or Java raise: no reason to end a platform)
            _log.warning("Whether the streams have settled cannot be seen (%s): no archive of classes now.", error)
            is_settled = False
        if not is_settled:
            self._settled_since = None
            return
        self._settled_since = self._settled_since or now
        if now - self._settled_since >= self._settled_seconds:
            with self._log.open("ab") as output:
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                    env={**os.environ, "PYTHONUNBUFFERED": "1"},
                )  # fmt: skip

    def stop(self) -> None:
        """Ends the making at once, its JVM first: what it has written so far is a draft that nobody reads."""
        if self._process is None or self._process.poll() is not None:
            return
        family = psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill()
        self._process.wait()
        for member in family:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(family, timeout=5.0)


def streams_are_settled() -> bool:
    """Whether each stream of each group has committed in the group's present life, and none has a backlog.

    False as well where the archive is there: nothing is to be made.
    """
    if class_archive.is_current():
        return False
    groups = load_stream_groups()
    with dg.DagsterInstance.get() as instance:
        records = read_records(instance, [group.name for group in groups])
    for group in groups:
        report = records[group.name].report
        queries = report.queries.values() if report else ()
        if len(queries) < len(group.streams):
            return False
        if any(query["batch_id"] < 0 or (query["lag_records"] or 0) > _CAUGHT_UP_RECORDS for query in queries):
            return False
    return True
