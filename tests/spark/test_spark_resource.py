"""The Spark resource: what a session is made of, and that nothing of it is left."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from resources.spark.class_archive import archive_path, is_current
from tests.short_lived_jvm import ENVIRONMENT

ROOT = Path(__file__).parents[2]


def test_session_is_utc_and_writes_delta_without_deletion_vectors(spark: SparkSession, tmp_path: Path) -> None:
    from deltalake import DeltaTable

    path = str(tmp_path / "table")
    spark.sql("SELECT timestamp'2026-01-01 00:00:00' AS at, 1 AS n").write.format("delta").save(path)
    spark.sql(f"DELETE FROM delta.`{path}` WHERE n = 2")

    table = DeltaTable(path)
    assert table.protocol().min_reader_version == 1
    assert table.to_pyarrow_table().column("at").to_pylist()[0].isoformat() == "2026-01-01T00:00:00+00:00"
    (row,) = spark.sql(f"SELECT cast(at AS string) AS s FROM delta.`{path}`").collect()
    assert row["s"] == "2026-01-01 00:00:00"
    jvm: Any = spark.sparkContext._jvm
    assert jvm.java.util.TimeZone.getDefault().getID() == "UTC"


def test_stateful_query_runs_on_rocksdb(spark: SparkSession, tmp_path: Path) -> None:
    spark.range(10).write.format("delta").save(str(tmp_path / "in"))
    query = (
        spark.readStream.format("delta").load(str(tmp_path / "in")).dropDuplicates(["id"]).writeStream.format("delta")
        .option("checkpointLocation", str(tmp_path / "checkpoint")).trigger(availableNow=True)
        .start(str(tmp_path / "out"))
    )  # fmt: skip
    assert query.awaitTermination(120)
    assert query.lastProgress is not None
    assert "rocksdbPutCount" in str(query.lastProgress["stateOperators"][0]["customMetrics"])
    assert spark.read.format("delta").load(str(tmp_path / "out")).count() == 10
    assert list((tmp_path / "checkpoint" / "state").rglob("*.changelog"))


_PROGRAM = """
import os, signal, sys, fcntl
from pathlib import Path
from resources.settings import Settings
from resources.spark.session import SparkResource

home, lock = Path(sys.argv[1]), sys.argv[2]
handler = lambda *_: None
signal.signal(signal.SIGINT, handler)
resource = SparkResource.from_settings(Settings(home=home, spark_heap_mib=512), "probe")
pids = []
for _ in range(2):
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    session = resource.start((descriptor,))
    os.close(descriptor)
    assert session.range(3).count() == 3
    assert signal.getsignal(signal.SIGINT) is handler
    pids.append(resource.jvm_pid)
    if sys.argv[3] == "stop":
        resource.stop()
        assert resource.jvm_pid is None
    else:
        print(*pids, flush=True)
        signal.pause()
print(*pids, flush=True)
"""


def _run(arguments: list[str], folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | ENVIRONMENT | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *arguments], stdout=subprocess.PIPE, text=True, cwd=folder, env=environment
    )


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.long
def test_stopped_application_leaves_no_jvm_and_a_second_one_starts_in_the_same_process(tmp_path: Path) -> None:
    (tmp_path / "cwd").mkdir()
    with _run([str(tmp_path / "home"), str(tmp_path / "lock"), "stop"], tmp_path / "cwd") as program:
        output, _ = program.communicate(timeout=240)
    assert program.returncode == 0
    first, second = (int(pid) for pid in output.split())
    assert first != second
    assert not _exists(first)
    assert not _exists(second)
    assert list((tmp_path / "cwd").iterdir()) == []  # no warehouse, no derby.log
    assert list((tmp_path / "home" / "spark" / "local").iterdir()) == []


def test_jvm_holds_the_inherited_lock_until_it_is_dead(tmp_path: Path) -> None:
    with _run([str(tmp_path / "home"), str(tmp_path / "lock"), "hold"], tmp_path) as program:
        assert program.stdout is not None
        jvm = int(program.stdout.readline())
        descriptor = os.open(tmp_path / "lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ended = os.pidfd_open(jvm)
        program.send_signal(signal.SIGKILL)
        program.wait()
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # returns when the JVM, which sees the end of its input, exits
        # A process lets go of its files a moment before it is gone; one that still ran would stay for ever.
        assert select.select([ended], [], [], 30)[0], "the lock was free while the JVM ran"
        os.close(ended)
        os.close(descriptor)


_CRASH = """
import os, signal, sys
from pathlib import Path
from resources.settings import Settings
from resources.spark.session import SparkResource

resource = SparkResource.from_settings(Settings(home=Path(sys.argv[1]), spark_heap_mib=512), "probe")
for _ in range(2):
    assert resource.start().range(3).count() == 3
    os.kill(resource.jvm_pid, signal.SIGKILL)
    resource._jvm.wait()
    assert resource.jvm is None
    resource.stop()
print("survived")
"""


@pytest.mark.long
def test_killed_jvm_is_cleaned_up_and_the_next_start_works(tmp_path: Path) -> None:
    environment = os.environ | ENVIRONMENT | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _CRASH, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)
    assert result.stdout == "survived\n", result.stderr
    assert list((tmp_path / "spark" / "local").iterdir()) == []


_DAGSTER = """
import os, sys
import dagster as dg
from resources.spark.session import SparkResource

pids = []

@dg.asset
def plain() -> dg.MaterializeResult:
    return dg.MaterializeResult()

@dg.asset
def counted(spark: SparkResource) -> dg.MaterializeResult:
    rows = spark.spark_session.range(5).count()
    pids.append(spark.jvm_pid)
    return dg.MaterializeResult(metadata={"rows": rows})

spark = SparkResource(app_name="asset", spark_config={"spark.sql.shuffle.partitions": "3"})
assert dg.materialize([plain], resources={"spark": spark}).success
assert not os.path.exists(os.path.join(sys.argv[1], "logs"))  # no use, no JVM
result = dg.materialize([counted], resources={"spark": spark})
(event,) = result.asset_materializations_for_node("counted")
print(event.metadata["rows"].value, pids[0])
"""


@pytest.mark.long
def test_dagster_run_starts_spark_at_its_first_use_and_leaves_no_jvm(tmp_path: Path) -> None:
    environment = os.environ | ENVIRONMENT | {"PYTHONPATH": str(ROOT), "HEADRACE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", _DAGSTER, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    rows, pid = result.stdout.split()
    assert rows == "5"
    assert not _exists(int(pid))


_INTERRUPTED = """
import signal, sys
from pathlib import Path
from resources.settings import Settings
from resources.spark.session import SparkResource

def interrupt(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
resource = SparkResource.from_settings(Settings(home=Path(sys.argv[1]), spark_heap_mib=512), "interrupted")
from pyspark import java_gateway
started = java_gateway.Popen

def popen(*args, **kwargs):
    process = started(*args, **kwargs)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    print(process.pid, flush=True)
    return process

java_gateway.Popen = popen
with resource.running():
    pass
"""


def test_an_interrupt_while_the_jvm_starts_leaves_none_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _INTERRUPTED, str(tmp_path)]
    program = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "KeyboardInterrupt" in program.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(program.stdout), 0)


@pytest.mark.long
def test_the_jvm_maps_the_archive_of_sparks_classes(spark: SparkSession) -> None:
    """One that did not fit would be opened and closed again."""
    if not is_current():
        pytest.skip("no archive of Spark's classes in this environment: make classes")
    jvm: Any = spark.sparkContext._jvm
    pid = int(jvm.java.lang.ProcessHandle.current().pid())
    assert str(archive_path()) in Path(f"/proc/{pid}/maps").read_text()
