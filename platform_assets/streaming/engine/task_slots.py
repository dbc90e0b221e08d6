"""How many tasks a Spark application can run at a time: what a query in real-time mode must not exceed."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def count_task_slots(session: SparkSession) -> int:
    """The slots of a master on this machine, or of the executors that a cluster was asked for.

    Where a cluster hands out executors as it likes, what Spark itself goes by when it splits work. Its own number is of
    no use on one machine: there it is a setting of ours (`spark.default.parallelism`), and smaller.
    """
    context = session.sparkContext
    local = re.fullmatch(r"local(?:\[(\d+|\*)(?:,\d+)?\])?", context.master or "")
    if local is not None:
        return (os.cpu_count() or 1) if local[1] == "*" else int(local[1] or 1)
    conf = context.getConf()
    instances, cores = conf.get("spark.executor.instances"), conf.get("spark.executor.cores")
    if instances is not None and cores is not None:
        return int(instances) * int(cores) // int(conf.get("spark.task.cpus", "1") or 1)
    return int(context.defaultParallelism)
