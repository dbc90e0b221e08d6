"""What the processes of a host use, for its heartbeats: a metrics endpoint in another container cannot see them."""

from __future__ import annotations

import contextlib

import psutil

from resources.processes import ProcessIdentity

HOST, JVM, WORKERS = "host", "jvm", "workers"
"""The Python process of the run, Spark's JVM, and the Python processes that Spark has started."""

# To find the JVM's children psutil looks at every process of the machine, which takes milliseconds.
_LOOK_SECONDS = 15.0


class UsageWatch:
    """Measures now and then. Used from one thread."""

    def __init__(self) -> None:
        self._looked_at = float("-inf")
        self._found: dict[str, dict[str, float]] = {}

    def look(self, host: ProcessIdentity, jvm: ProcessIdentity | None, now: float) -> dict[str, dict[str, float]]:
        """Resident memory in bytes and CPU time in seconds, by process; of `WORKERS`, which come and go, memory alone.

        `now` is a monotonic clock in seconds. The result is at most 15 seconds old. A process that is gone is left out.
        """
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            self._found = _measure(host.pid, None if jvm is None else jvm.pid)
        return self._found


def _measure(host: int, jvm: int | None) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for name, pid in ((HOST, host), (JVM, jvm)):
        with contextlib.suppress(psutil.NoSuchProcess):
            if pid is not None:
                process = psutil.Process(pid)
                times = process.cpu_times()
                found[name] = {"rss_bytes": process.memory_info().rss, "cpu_seconds": times.user + times.system}
                if name == JVM:
                    found[WORKERS] = {"rss_bytes": sum(map(_resident_bytes, process.children(recursive=True)))}
    return found


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
