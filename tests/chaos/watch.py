"""What a bystander sees of a group all the time: the phases that its supervisor shows, and who could write."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import dagster as dg
import psutil
from sqlalchemy.exc import SQLAlchemyError

from jobs.definitions.stream_supervisor import read_states
from jobs.supervision.model import Phase
from resources.settings import Settings

# A phase is shown for a tick at least (5 s); a second writer would live for seconds.
_LOOK_SECONDS = 0.5
# Spark's own program that puts the JVM's command line together; it ends before the JVM starts.
_LAUNCHER = "org.apache.spark.launcher.Main"


@dataclass(frozen=True)
class Sight:
    """A phase, and from when on (seconds since the epoch) it was seen."""

    at: float
    phase: Phase


class Watch:
    """A thread that looks twice a second until `stop`. `sights` are the changes of phase, oldest first."""

    def __init__(self, settings: Settings, group: str, instance: dg.DagsterInstance) -> None:
        self.sights: list[Sight] = []
        self.most_writers = 0
        """The most Spark JVMs of the home that ever lived at once."""
        self._settings = settings
        self._group = group
        self._instance = instance
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)
        self._thread.start()

    @property
    def phase(self) -> Phase | None:
        """What the supervisor showed last."""
        return self.sights[-1].phase if self.sights else None

    def shown_since(self, at: float) -> list[Sight]:
        """The phases shown from then on, the one that it was in included."""
        sights = list(self.sights)
        before = [sight for sight in sights if sight.at <= at]
        return before[-1:] + [sight for sight in sights if sight.at > at]

    def stop(self) -> None:
        """Ends the thread."""
        self._enough.set()
        self._thread.join()

    def _look_on(self) -> None:
        while not self._enough.wait(_LOOK_SECONDS):
            self.most_writers = max(self.most_writers, len(self._find_writers()))
            phase = self._read_phase()
            if phase is not None and phase is not self.phase:
                self.sights.append(Sight(time.time(), phase))

    def _find_writers(self) -> list[psutil.Process]:
        """The group's JVMs, known by the log that they write, in whatever process tree they are."""
        log, found = str(self._settings.home / "logs" / "spark" / f"stream-{self._group}-"), []
        for process in psutil.process_iter(["name", "cmdline"]):
            line = " ".join(process.info["cmdline"] or ())
            if process.info["name"] == "java" and log in line and _LAUNCHER not in line:
                found.append(process)
        # The list is not of one moment: who was found first may be dead since, and its successor found last.
        return [process for process in found if _lives(process)]

    def _read_phase(self) -> Phase | None:
        try:
            state = read_states(self._instance).get(self._group)
        except SQLAlchemyError:  # a fault of ours holds the database; the next look reads it
            return None
        return None if state is None else state.phase


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
