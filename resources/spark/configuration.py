"""Settings to Spark configuration: a plain function, each value with the failure or the cost that it prevents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from platform_assets import object_store
from platform_assets.errors import SettingError
from resources.settings import Settings
from resources.spark import class_archive
from resources.spark.cluster_configuration import cluster_conf
from resources.spark.encryption import encryption_conf

_LOG4J = Path(__file__).with_name("spark_log4j2.properties")
_POOLS = Path(__file__).with_name("spark_pools.xml")

# Every user of the machine can read a command line. Spark's own pattern (for its UI and logs) lets the account keys and
# signatures of Azure through, and the private keys of Google's service accounts. One key too many costs nothing: the
# application gets them all, some of them after the JVM's start.
_SECRET = re.compile(
    r"(?i)secret|passw(or)?d|passphrase|pwd|token|credential|signature|jaas"
    r"|(access|account|api|encryption|private|shared|signing|storage)[._-]?key"
    r"|(^|[._-])(keys?|sas)($|[._-])"
)

# What Spark's UI, plans and event files must not show. Its own pattern lets through the private key for Kafka, and of
# object stores what it lets through above. Spark looks at each option's name and value.
# A plan's text is compared with its checkpoint's, and has paths in it: no word that stands in one may be here.
REDACTED = (
    r"(?i)secret|passw(or)?d|passphrase|token|credential|jaas|keystore[.]key"
    r"|(access|account|encryption|private)[.]?key|[.]sas[.]"
)

# Beyond it the serial collector's full collections hold up batches, and heartbeats with them, for seconds.
_SMALL_HEAP_MIB = 2048


def spark_conf(settings: Settings, jars: list[Path], *, log_file: Path | None = None) -> dict[str, str]:
    """The configuration of one Spark application.

    `jars` are local files; nothing is resolved from the network at start. `log_file` receives the JVM's log (None: its
    stderr). The user's `HEADRACE_SPARK_CONF` wins over everything here; its `spark.driver.extraJavaOptions` are
    appended to ours, where the JVM lets the later one win, and so are those of executors. Raises `SettingError` for a
    secret among these: nothing but the command line takes them to the JVM.
    """
    conf = {
        "spark.app.name": "headrace",
        "spark.master": settings.spark_master,
        "spark.submit.deployMode": "client",
        # The pools, named by those who run jobs: records before what is derived from them, and that before repairs.
        "spark.scheduler.mode": "FAIR",
        "spark.scheduler.allocation.file": _POOLS.as_uri(),
        "spark.redaction.regex": REDACTED,
        "spark.jars": ",".join(jar.as_uri() for jar in jars),
        **_jvm(settings, log_file),
        **_sql(settings),
        **_delta(),
        **_state_store(settings),
        **_checkpoints(settings),
        **_memory_over_time(),
        **object_store.hadoop_conf(settings.lakehouse, settings.storage_options),
    }
    conf |= cluster_conf(settings) if settings.is_on_cluster else _single_machine(settings)
    conf |= encryption_conf(settings)
    user_conf = dict(settings.spark_conf)
    user_conf.pop("spark.executor.extraJavaOptions", "")  # among ours, behind them
    options = user_conf.pop("spark.driver.extraJavaOptions", "")
    _refuse_secrets(options)
    conf["spark.driver.extraJavaOptions"] = f"{conf['spark.driver.extraJavaOptions']} {options}".strip()
    return conf | user_conf


# Without its second compiler Java keeps 48 MiB for compiled code, which six streams on a busy machine filled after two
# minutes: "Out of space in CodeCache for method handle intrinsic" ended the scheduler, and the JVM. This is what Java
# keeps with both compilers; it takes what is used.
_CODE_CACHE_MIB = 240


def for_minutes(user_conf: Mapping[str, str]) -> dict[str, str]:
    """The user's configuration, for a JVM that lives for minutes: a demonstration's, a test's.

    Java's second compiler pays for code that runs for hours. In a JVM's first minutes it takes as much of two cores as
    the work itself.
    """
    options = user_conf.get("spark.driver.extraJavaOptions", "")
    first_compiler = f"-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize={_CODE_CACHE_MIB}m"
    return {**user_conf, "spark.driver.extraJavaOptions": f"{first_compiler} {options}".strip()}


def is_secret(key: str) -> bool:
    """Whether the value of this configuration key must not be shown, logged or put on a command line."""
    return _SECRET.search(key) is not None


def _refuse_secrets(java_options: str) -> None:
    for name in re.findall(r"-D([^\s=]+)=", java_options):
        if is_secret(name):
            raise SettingError(
                f"HEADRACE_SPARK_CONF: {name} in spark.driver.extraJavaOptions would stand on the JVM's command line, "
                "where every user of this machine can read it. Write the option into a file that only this user can "
                "read, and set JDK_JAVA_OPTIONS=@/path/of/the/file."
            )


def _jvm(settings: Settings, log_file: Path | None) -> dict[str, str]:
    options = [
        "-Duser.timezone=UTC",  # java.sql.Timestamp uses the JVM's zone, whatever the session's zone is
        *_collector(settings),
        "-XX:+ExitOnOutOfMemoryError",  # a JVM that limps on after an OOM holds the lock and commits nothing
        f"-Dlog4j2.configurationFile={_LOG4J.as_uri()}",
        f"-Dderby.system.home={settings.home / 'spark'}",  # else derby.log in the working directory
        *class_archive.jvm_options(),
    ]
    if log_file is not None:
        options += [f"-Dheadrace.log={log_file}", "-Dheadrace.appender=file"]
    return {"spark.driver.memory": f"{settings.spark_heap_mib}m", "spark.driver.extraJavaOptions": " ".join(options)}


def _collector(settings: Settings) -> list[str]:
    """The garbage collector; none where the user names one, for Java starts with no two.

    G1's concurrent threads cost 15 % of the ingest on two cores. The parallel one never gives back what it once took
    (550 MiB for 90 MiB of live objects), and the serial one does with each full collection, which Spark asks for every
    half hour; a full collection of many gigabytes takes the serial one many seconds. For the ingest both need the same.
    """
    if re.search(r"-XX:\+Use\w*GC\b", settings.spark_conf.get("spark.driver.extraJavaOptions", "")):
        return []
    if settings.spark_heap_mib > _SMALL_HEAP_MIB:
        return ["-XX:+UseParallelGC"]
    # By default a heap begins with a 64th of the machine, all of which is filled before anything is collected. A young
    # generation that grew with a small one would begin with 20 MiB, and be collected a dozen times a second.
    return ["-XX:+UseSerialGC", "-Xms160m", "-Xmn96m", "-XX:MinHeapFreeRatio=20", "-XX:MaxHeapFreeRatio=50"]


def _sql(settings: Settings) -> dict[str, str]:
    return {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.warehouse.dir": (settings.home / "spark" / "warehouse").as_uri(),  # else in the working directory
        # INT96, the default, is deprecated, larger, has no statistics and costs conversions on both sides.
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # Rows go to Python in thousands, by default however large they are: 10,000 values of 5 MB.
        "spark.sql.execution.arrow.maxBytesPerBatch": str(8 * 1024 * 1024),
        # The plans of a handful of queries and their Delta commits are some hundred pieces of generated code; with room
        # for 100, the default, each micro-batch compiles its own again.
        "spark.sql.codegen.cache.maxEntries": "2000",
        # Where in Python each column was made, for Spark's error messages: two thirds of the time that columns take.
        "spark.python.sql.dataFrameDebugging.enabled": "false",
        # A plan's text is compared with the one that a checkpoint was made by: nothing of it may be cut off.
        "spark.sql.debug.maxToStringFields": "1000",
    }


def _delta() -> dict[str, str]:
    return {
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        # 50 tasks to read a log of a few hundred actions are most of a small commit's time.
        "spark.databricks.delta.snapshotPartitions": "2",
        # Independent readers refuse tables with deletion vectors.
        "spark.databricks.delta.properties.defaults.enableDeletionVectors": "false",
        # A report of a day without rows says in its commit which days it looked at; Delta would leave that commit out.
        "spark.databricks.delta.skipRecordingEmptyCommits": "false",
    }


def _state_store(settings: Settings) -> dict[str, str]:
    prefix = "spark.sql.streaming.stateStore"
    return {
        f"{prefix}.providerClass": "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider",
        # Uploads what changed instead of a snapshot of all state with each batch.
        f"{prefix}.rocksdb.changelogCheckpointing.enabled": "true",
        # A restart repeats all changes since the newest snapshot, and counting keys makes each of them a read: of ten
        # batches, the default, that took half a minute for a join of 3.6 million rows on a quiet machine and minutes on
        # a full one. A snapshot uploads no file twice.
        f"{prefix}.minDeltasForSnapshot": "2",
        f"{prefix}.maintenanceInterval": "30s",  # uploads it; with the default's minute four more batches are behind
        # RocksDB is outside the heap, and by default each of queries × partitions × stores takes its own share.
        f"{prefix}.rocksdb.boundedMemoryUsage": "true",
        f"{prefix}.rocksdb.maxMemoryUsageMB": str(settings.state_memory_mib),
        # The formats before look at each row of a join's state in each batch to find what is over: at 2,000 events/s a
        # batch took a minute after ten. This one finds it by time. Spark calls it unfinished and keeps it behind a
        # switch (https://issues.apache.org/jira/browse/SPARK-55144); the tests compare what it gives with two oracles,
        # and a query's state can be recomputed from silver.events. A checkpoint keeps the format it was begun with.
        "spark.sql.streaming.join.stateFormatVersion": "4",
        "spark.sql.streaming.join.stateFormatV4.enabled": "true",
    }


def _checkpoints(settings: Settings) -> dict[str, str]:
    """How the files of a checkpoint come to their place.

    On a local disk Spark's default starts ten processes a file (eight `readlink`, two `chmod`), one after the other:
    0.18 s on a busy machine for the two files of a batch, in which a relay passes nothing on. This one starts two, and
    takes 0.04 s. Both write a draft with its checksum, and rename it when they have seen that its name is free.
    """
    if settings.is_on_cluster or object_store.is_uri(settings.lakehouse):
        return {}  # there Spark's default is the one whose rename is atomic
    package = "org.apache.spark.sql.execution.streaming.checkpointing"
    return {"spark.sql.streaming.checkpointFileManagerClass": f"{package}.FileSystemBasedCheckpointFileManager"}


def _memory_over_time() -> dict[str, str]:
    """What Spark remembers for its UI, UI or not: with the defaults the heap of a 24/7 stream fills in days."""
    return {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.ui.retainedJobs": "50",
        "spark.ui.retainedStages": "50",
        "spark.ui.retainedTasks": "500",
        "spark.sql.ui.retainedExecutions": "20",
        "spark.sql.streaming.ui.enabled": "false",
        # A query that does not end when it is stopped must not keep the whole application, and its lock, for ever.
        "spark.sql.streaming.stopTimeout": "60s",
    }


def _single_machine(settings: Settings) -> dict[str, str]:
    return {
        # Nothing listens on an address that others can reach, and a host name that does not resolve is no failure.
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        # The fixed cost of a micro-batch is per task and per state store. Frozen for a query at its first start.
        "spark.sql.shuffle.partitions": str(settings.shuffle_partitions or 2),
        "spark.default.parallelism": "2",
        # A local shuffle is disk to page cache: no time is won by waiting for a "local" slot.
        "spark.locality.wait": "0",
    }
