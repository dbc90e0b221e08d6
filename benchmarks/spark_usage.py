"""What a Spark application takes from the machine: CPU time and memory, as its user pays them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import psutil

_MIB = 1024 * 1024


@dataclass(frozen=True)
class SparkProcesses:
    """This process (the driver's Python side), its Spark JVM, and all that the JVM has started: the Python workers.

    Other children of this process (a broker, a sender) are not among them.
    """

    driver: psutil.Process
    jvms: list[psutil.Process]
    workers: list[psutil.Process]

    @classmethod
    def find(cls) -> SparkProcesses:
        """Finds the Spark processes that run now."""
        driver = psutil.Process()
        jvms = [child for child in driver.children() if _is_spark(child)]
        children = [child for jvm in jvms for child in jvm.children(recursive=True)]
        # A command that the JVM starts is, until it has begun, a copy of the JVM with all its memory.
        return cls(driver, jvms, [child for child in children if not _is_spark(child)])


class CpuMeter:
    """CPU seconds from its making on, whatever ends meanwhile. `look` every few seconds.

    Spark ends Python workers that were idle for a minute, and their daemon does not wait for them: their time does not
    become their parent's, so a difference of two sums over the living would take off all that they ever did. What a
    process does between a look and its end is lost.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        """User and system time up to the last look."""
        self._seen = _read_cpu_seconds()

    def look(self) -> None:
        """Adds what has been used since the last look."""
        found = _read_cpu_seconds()
        self.seconds += sum(seconds - self._seen.get(process, 0.0) for process, seconds in found.items())
        self._seen = found


def spark_cpu_seconds() -> float:
    """User and system time since their start of the processes that run now. For spans in which no worker ends."""
    return sum(_read_cpu_seconds().values())


def spark_rss_mib() -> dict[str, float]:
    """Resident memory of `jvm`, `driver` and `workers`. Pages that forked workers share count once for each."""
    return _sum_mib(lambda process: process.memory_info().rss)


def spark_pss_mib() -> dict[str, float]:
    """Returns what `spark_rss_mib` does, with shared pages shared out among those that have them."""
    return _sum_mib(lambda process: process.memory_full_info().pss)


def _is_spark(process: psutil.Process) -> bool:
    try:
        return any("org.apache.spark" in part for part in process.cmdline())
    except psutil.Error:
        return False


def _read_cpu_seconds() -> dict[psutil.Process, float]:
    found = {}
    processes = SparkProcesses.find()
    for process in (processes.driver, *processes.jvms, *processes.workers):
        try:
            times = process.cpu_times()
        except psutil.Error:  # ended since it was listed
            continue
        found[process] = times.user + times.system
        if process in processes.jvms:  # commands that Hadoop runs; the workers' daemons end with the JVM
            found[process] += times.children_user + times.children_system
    return found


def _sum_mib(read_bytes: Callable[[psutil.Process], int]) -> dict[str, float]:
    found = SparkProcesses.find()
    kinds = {"jvm": found.jvms, "driver": [found.driver], "workers": found.workers}
    totals = dict.fromkeys(kinds, 0.0)
    for kind, processes in kinds.items():
        for process in processes:
            with contextlib.suppress(psutil.Error):  # ended since it was listed
                totals[kind] += read_bytes(process) / _MIB
    return totals
