"""CPU time of a Spark application as its user pays it."""

from __future__ import annotations

import psutil


def spark_cpu_seconds() -> float:
    """User and system time of this process (the driver's Python side), its Spark JVM and the JVM's Python workers.

    Other children of this process (a broker, a sender) are not counted.
    """
    me = psutil.Process()
    jvms = [child for child in me.children() if any("org.apache.spark" in part for part in child.cmdline())]
    total = 0.0
    for process in (me, *jvms, *(worker for jvm in jvms for worker in jvm.children(recursive=True))):
        times = process.cpu_times()
        total += times.user + times.system
        if process != me:  # its ended children may be other measurements' JVMs
            total += times.children_user + times.children_system
    return total
