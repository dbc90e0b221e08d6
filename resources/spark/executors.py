"""Whether a cluster has given an application executors, and whether they can run this project's Python."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from platform_assets.errors import ClusterUnavailableError, MissingDependencyError

if TYPE_CHECKING:
    from pyspark import SparkContext

# A node of Kubernetes that has to fetch an image needs minutes. For ever would be a start of which nobody is told; and
# after five minutes the supervisor takes a start for hung, without the reason.
_WAIT_SECONDS = 180.0
_LOOK_SECONDS = 0.2
# What of Spark's pages of an error names its cause.
_CAUSE = re.compile(
    r"\[PYTHON_VERSION_MISMATCH\].*|(ModuleNotFound|Import)Error: .*|Cannot run program.*"
    r"|(?<=SparkException: ).*port number from pyspark\.daemon.*"
)


@contextlib.contextmanager
def naming_cluster(master: str) -> Iterator[None]:
    """Turns what Spark raises in the block where a cluster is missing into `ClusterUnavailableError`."""
    from py4j.protocol import Py4JError

    try:
        yield
    except Py4JError as error:
        raise _unavailable(master, _first_cause(error)) from error


def await_executors(context: SparkContext, python: str, seconds: float = _WAIT_SECONDS) -> None:
    """Returns when an executor has run a task in Python.

    Raises `ClusterUnavailableError` when there is no executor in time, and `MissingDependencyError` when they cannot
    run our code: `python` is the interpreter that they were to start.
    """
    deadline = time.monotonic() + seconds
    while (found := _count_executors(context)) == 0:
        if time.monotonic() > deadline:
            raise _unavailable(context.master or "", f"no executor in {seconds:.0f} seconds")
        time.sleep(_LOOK_SECONDS)
    _run_python(context, found, python)


def _unavailable(master: str, reason: str) -> ClusterUnavailableError:
    return ClusterUnavailableError(
        f"The cluster {master} gave no executor ({reason}). See whether it runs, has HEADRACE_EXECUTOR_CORES and "
        "HEADRACE_EXECUTOR_MEMORY_MIB free on a worker, reaches HEADRACE_DRIVER_HOST, and encrypts with "
        "HEADRACE_SPARK_SECRET where HEADRACE_SPARK_ENCRYPT is true, and only there (docs/cluster.md)."
    )


def _count_executors(context: SparkContext) -> int:
    scala = context._jsc.sc()
    if scala.isStopped():
        raise _unavailable(context.master or "", "its master ended the application")
    return int(scala.getExecutorMemoryStatus().size()) - 1  # the driver is among them


def _run_python(context: SparkContext, executors: int, python: str) -> None:
    """Runs our code in some tasks. pyspark itself compares the interpreters' versions."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        context.parallelize(range(executors), executors).mapPartitions(_find_code).collect()
    except (Py4JError, PySparkException) as error:
        raise MissingDependencyError(
            f"Executors cannot run this project's Python ({_first_cause(error)}). Each worker needs {python} of this "
            "machine's version: install it there, or set HEADRACE_EXECUTOR_PYTHON. An executor's stderr says more."
        ) from error


def _find_code(_: Iterable[int]) -> Iterator[str]:
    import platform_assets

    yield str(platform_assets.__file__)


def _first_cause(error: Exception) -> str:
    """The line of Spark's pages of an error that names its cause."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 (it is the JVM that is asked, and it may be gone)
        return "Spark's JVM ended"
    if found := _CAUSE.search(text):
        return found[0].strip()
    lines = text.strip().splitlines()
    return next((line for line in lines if line.startswith(": ")), lines[0]).removeprefix(": ")
