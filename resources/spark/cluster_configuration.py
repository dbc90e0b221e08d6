"""Spark's configuration for a master whose executors are processes of other machines (docs/cluster.md)."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from resources.native_memory import NATIVE_MEMORY
from resources.settings import Settings
from resources.spark import executor_archive

# The folder into which an executor unpacks the archive, in its working directory, and the script in it that starts its
# Python processes. The driver's JVM has such a folder too: it starts some of the same processes.
_FOLDER = "headrace"
PYTHON = f"./{_FOLDER}/python"
# A Python process of a task holds some 150 MiB of a batch, and is 100 MiB before it begins.
_PYTHON_MIB_OF_ONE_SLOT = 384


def cluster_conf(settings: Settings) -> dict[str, str]:
    """What is different from one machine: addresses, executors, and what they have to be told besides."""
    slots = settings.executors * settings.executor_cores
    found = {
        "spark.driver.host": settings.driver_host,
        "spark.driver.bindAddress": settings.driver_bind_address or settings.driver_host,
        "spark.driver.port": str(settings.driver_port or ""),
        "spark.driver.blockManager.port": str(settings.driver_block_manager_port or ""),
        "spark.executor.instances": str(settings.executors),
        "spark.executor.cores": str(settings.executor_cores),
        "spark.executor.memory": f"{settings.executor_memory_mib}m",
        # Outside the heap are RocksDB and the Python processes; Kubernetes and YARN kill an executor that takes more.
        "spark.executor.memoryOverhead": (
            f"{settings.state_memory_mib + settings.executor_cores * _PYTHON_MIB_OF_ONE_SLOT}m"
        ),
        # A standalone master gives all it has to the first application, and nothing to the next group or report.
        "spark.cores.max": str(slots),
        # An executor that is taken away for being idle takes its loaded state with it; and idle is each one that waits
        # for the next second's batch.
        "spark.dynamicAllocation.enabled": "false",
        "spark.executor.extraJavaOptions": _java_options(settings),
        "spark.executorEnv.HEADRACE_EXECUTOR_PYTHON": executor_python(settings),
        **{f"spark.executorEnv.{name}": value for name, value in NATIVE_MEMORY.items()},
        # By default a batch of any size has 200 state stores. Frozen for a query at its first start.
        "spark.sql.shuffle.partitions": str(settings.shuffle_partitions or slots),
        # Reports on Spark: their shuffles begin with Spark's own number, whatever the streams' states have.
        "spark.sql.adaptive.coalescePartitions.initialPartitionNum": "200",
    }
    return {key: value for key, value in found.items() if value}


def executor_python(settings: Settings) -> str:
    """The interpreter on the workers; packages in the archive are of the driver's version."""
    return settings.executor_python or f"python{executor_archive.python_version()}"


def prepare_driver_folder(folder: Path, settings: Settings, interpreter: str) -> str:
    """Puts into the JVM's working directory what executors find in theirs; returns what Spark is to send to them.

    Executors that come later get the archive of this start, whatever is packed meanwhile. Raises
    `MissingDependencyError` where there is no archive of the present code.
    """
    archive = executor_archive.archive_path(settings)
    executor_archive.check_archive(archive)
    sent = folder / "executors.tar.gz"
    try:
        sent.hardlink_to(archive)
    except OSError:  # of another file system
        shutil.copyfile(archive, sent)
    script = folder / _FOLDER / "python"
    script.parent.mkdir()
    root = Path(__file__).parents[2]
    environment = f"PYTHONPATH={shlex.quote(str(root))}:$PYTHONPATH SPARK_WORKER_INTERPRETER={shlex.quote(interpreter)}"
    program = shlex.quote(str(Path(__file__).with_name("worker_python.sh")))
    script.write_text(f'#!/bin/sh\n{environment} exec /bin/sh {program} "$@"\n')
    script.chmod(0o755)
    return f"{sent.as_uri()}#{_FOLDER}"


def _java_options(settings: Settings) -> str:
    ours = "-Duser.timezone=UTC -XX:+ExitOnOutOfMemoryError"
    return f"{ours} {settings.spark_conf.get('spark.executor.extraJavaOptions', '')}".strip()
