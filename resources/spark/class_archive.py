"""Spark's classes as the JVM wants them, made once an environment: a start of Spark takes half as long with them.

A JVM that starts Spark reads, checks and links some twenty thousand classes, ten seconds of work on a small machine, at
each start: of a stream after a crash, of a report. Java keeps what came of that in an archive which later JVMs map
(application class-data sharing, JEP 350). The archive belongs to one Java, one path and one set of jars; a JVM that
finds it does not fit does without, and nothing fails where it is missing. It takes a minute and 200 MB to make: a
platform that runs for long makes it in the background (`jobs.platform.class_archiving`), an image when it is built.

    python -m resources.spark.class_archive                  make it unless it is there (`make classes`)
    python -m resources.spark.class_archive --background     the same, out of everybody's way
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from platform_assets.errors import HeadraceError
from resources import file_lock
from resources.jars import JARS_LOCK
from resources.java import java_binary

_NAME = "spark-classes.jsa"
# The JVM writes two hundred megabytes at its end: 19 s on two cores, and many times that while streams are busy.
_WRITE_SECONDS = 900.0
# What it runs is small; a whole application's heap next to the streams' would not fit a small machine.
_HEAP_MIB = 512
_LOWEST_PRIORITY = 19

_is_being_made = False


def archive_path() -> Path:
    """The path of this environment's archive, whether or not it exists."""
    return Path(sys.prefix) / _NAME


def jvm_options() -> list[str]:
    """Options by which a JVM of Spark's uses the archive; none where there is none."""
    archive = archive_path()
    if _is_being_made or not archive.exists():  # Java makes no archive on top of another one
        return []
    # Without the logs: another Java, or a jar that is newer, makes the archive useless and nothing worse.
    return [f"-XX:SharedArchiveFile={archive}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]


def is_current() -> bool:
    """Whether there is an archive, made for the current Java, path and jars."""
    try:
        return archive_path().exists() and _label().read_text() == _describe()
    except OSError:
        return False


def build_archive() -> bool:
    """Makes the archive: a Spark application that does a little of everything, and writes down its classes at its end.

    Replaces an older one as a whole, at its end; a process killed before leaves a draft that the next one removes.
    Returns False, at once, where another process is making it. Raises `HeadraceError` when Spark does not start,
    `OSError` when the environment's folder cannot be written.
    """
    global _is_being_made
    archive = archive_path()
    with _lock() as is_ours:
        if not is_ours:
            return False
        for left in archive.parent.glob(f".{_NAME}.*"):
            left.unlink()
        draft = archive.with_name(f".{_NAME}.{os.getpid()}")
        _is_being_made = True
        try:
            with tempfile.TemporaryDirectory(prefix="headrace-classes-") as folder:
                _run_application(Path(folder), draft)
            _label().unlink(missing_ok=True)
            draft.replace(archive)
            _label().write_text(_describe())
        finally:
            _is_being_made = False
            draft.unlink(missing_ok=True)
    return True


@contextlib.contextmanager
def _lock() -> Iterator[bool]:
    descriptor = os.open(archive_path().with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield file_lock.try_lock(descriptor)
    finally:
        os.close(descriptor)


def _label() -> Path:
    return archive_path().with_suffix(".made-for")


def _describe() -> str:
    """What the archive belongs to, as far as it can be seen without starting Java."""
    java = java_binary().resolve()
    found = java.stat()
    jars = hashlib.sha256(JARS_LOCK.read_bytes()).hexdigest()
    return f"{java} {found.st_size} {found.st_mtime_ns}\n{sys.prefix}\npyspark {version('pyspark')}\njars {jars}\n"


def _run_application(folder: Path, archive: Path) -> None:
    from resources.settings import Settings
    from resources.spark.session import SparkResource

    options = {"spark.driver.extraJavaOptions": f"-XX:ArchiveClassesAtExit={archive}"}
    settings = Settings(
        home=folder, lakehouse=str(folder), spark_master="local[4]", spark_conf=options, spark_heap_mib=_HEAP_MIB
    )
    resource = SparkResource.from_settings(settings, "classes", stop_timeout_seconds=_WRITE_SECONDS)
    with resource.running() as spark:
        from pyspark.sql import functions as F

        table = str(folder / "table")
        rows = spark.range(1000).select(
            "id", (F.col("id") % 7).alias("key"), F.timestamp_seconds("id").alias("time"), F.lit("a").alias("text")
        )
        rows.repartition("key").write.format("delta").partitionBy("key").save(table)
        rows.write.format("delta").mode("overwrite").option("replaceWhere", "key >= 0").save(table)
        read = spark.read.format("delta").option("versionAsOf", 1).load(table)
        read.groupBy("key").agg(F.count_distinct("id"), F.percentile("id", 0.5), F.collect_set("text")).toArrow()
        read.alias("a").join(read.alias("b"), "id").orderBy("id").limit(3).collect()
        stream = spark.readStream.format("rate").option("rowsPerSecond", 100).load()
        counts = stream.withWatermark("timestamp", "1 minute").groupBy(F.window("timestamp", "1 minute")).count()
        query = (
            counts.writeStream.outputMode("update").option("checkpointLocation", str(folder / "checkpoint"))
            .foreachBatch(lambda batch, _: batch.toArrow()).trigger(availableNow=True).start()
        )  # fmt: skip
        query.awaitTermination(60)
        query.stop()


def main(arguments: list[str]) -> int:
    """Says what was made. Exit code 1: it could not be, and starts of Spark take some seconds more."""
    if "--background" in arguments:
        os.nice(_LOWEST_PRIORITY)
    try:
        if is_current():
            print(f"Spark's classes are in {archive_path()}.")
        elif build_archive():
            print(f"Spark's classes: {archive_path().stat().st_size / 2**20:.0f} MiB in {archive_path()}.")
        else:
            print("Another process is making the archive of Spark's classes.")
    except (HeadraceError, OSError, subprocess.SubprocessError) as error:
        print(f"Spark's classes could not be archived: each start of Spark takes some seconds more. {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
