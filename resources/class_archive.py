"""Spark's classes as the JVM wants them, made once an environment: a start of Spark takes half as long with them.

A JVM that starts Spark reads, checks and links some twenty thousand classes, ten seconds of work on a small machine, at
each start: of a stream after a crash, of a report. Java keeps what came of that in an archive which later JVMs map
(application class-data sharing, JEP 350). The archive belongs to one Java, one path and one set of jars; a JVM that
finds it does not fit does without. Made by `make setup` (a minute); nothing fails where it is missing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from platform_assets.errors import HeadraceError

_NAME = "spark-classes.jsa"
# The JVM writes two hundred megabytes at its end: 19 s on two cores.
_WRITE_SECONDS = 180.0


def archive_path() -> Path:
    """Where this environment's archive lies, or would."""
    return Path(sys.prefix) / _NAME


def jvm_options() -> list[str]:
    """Options by which a JVM of Spark's uses the archive; none where there is none."""
    archive = archive_path()
    if not archive.exists():
        return []
    # Without the logs: another Java, or a jar that is newer, makes the archive useless and nothing worse.
    return [f"-XX:SharedArchiveFile={archive}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]


def build_archive() -> Path:
    """Makes the archive: a Spark application that does a little of everything, and writes down its classes at its end.

    Replaces an older one as a whole. Raises `HeadraceError` when Spark does not start.
    """
    archive = archive_path()
    archive.unlink(missing_ok=True)
    draft = archive.with_name(f".{_NAME}.{os.getpid()}")
    try:
        with tempfile.TemporaryDirectory(prefix="headrace-classes-") as folder:
            _run_application(Path(folder), draft)
        draft.replace(archive)
    finally:
        draft.unlink(missing_ok=True)
    return archive


def _run_application(folder: Path, archive: Path) -> None:
    from resources.settings import Settings
    from resources.spark import SparkResource

    options = {"spark.driver.extraJavaOptions": f"-XX:ArchiveClassesAtExit={archive}"}
    settings = Settings(home=folder, spark_conf=options)
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


def main() -> None:
    """Says what was made; a machine on which it cannot be made goes on without it."""
    try:
        archive = build_archive()
    except (HeadraceError, OSError, subprocess.SubprocessError) as error:
        print(f"Spark's classes could not be archived: each start of Spark takes some seconds more. {error}")
        return
    print(f"Spark's classes: {archive.stat().st_size / 2**20:.0f} MiB in {archive}")


if __name__ == "__main__":
    main()
