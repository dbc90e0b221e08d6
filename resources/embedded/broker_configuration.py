"""What the embedded broker's JVM is started with: its properties, its command line."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from resources.jars import broker_jars
from resources.java import java_binary
from resources.ports import HOST

# The default of 1 MiB would refuse a 5 MB record, which must reach the quarantine and not stop the producer.
_MAX_MESSAGE_BYTES = 16 * 1024 * 1024

_SEGMENT_BYTES = 256 * 1024 * 1024
# A fresh home has no partitions yet, and the shop, payments and fraud together make some twenty of a few megabytes each
# next to three that are full: few of a share as large as this are ever used up.
_FEWEST_PARTITIONS = 12

# Enough for 50,000 events/s; the default heap of a quarter of the machine would starve Spark on the same machine. By
# default the heap also begins with a 64th of the machine, all of which is filled once before anything is collected.
_HEAP = ("-Xms96m", "-Xmn48m", "-Xmx512m")


def find_partition_bytes(folder: Path) -> int:
    """The size up to which each partition keeps its records, where nobody has said another.

    Half of the disk that is free or the broker's own, in equal shares for the partitions that are there, at least a
    segment each, and never less than the largest one has: a start deletes nothing that may be unread. By time alone (a
    week) 2,000 events a second are 400 GB: the broker went on writing when the streams had stopped because none was
    left, and died with all else on the disk.
    """
    own = _sum_bytes(folder / "data")
    partitions = [path for path in (folder / "data").glob("*-*") if path.is_dir() and not path.name.startswith("__")]
    share = (shutil.disk_usage(folder).free + own) // 2 // max(len(partitions), _FEWEST_PARTITIONS)
    # The segment that is written to is not deleted.
    return max(share - _SEGMENT_BYTES, _SEGMENT_BYTES, *map(_sum_bytes, partitions))


def _sum_bytes(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


def write_launch_file(folder: Path, port: int, controller_port: int, partition_bytes: int = 0) -> Path:
    """Writes `server.properties` and the guard's launch file into `folder`; returns the latter's path.

    `partition_bytes`: how much each partition keeps; 0: what `find_partition_bytes` says. Raises
    `MissingDependencyError` when Java or a jar is missing.
    """
    properties = folder / "server.properties"
    kept = partition_bytes or find_partition_bytes(folder)
    lines = (f"{key}={value}\n" for key, value in server_properties(folder, port, controller_port, kept).items())
    properties.write_text("".join(lines))
    # Against the parallel collector: a quarter less of a core for the same events, a third less memory after them.
    java = [str(java_binary()), *_HEAP, "-XX:+UseSerialGC"]
    java += ["-XX:+ExitOnOutOfMemoryError"]  # the guard starts it again; a broker that limps on blocks producers
    java += ["-Duser.timezone=UTC", "-Djava.awt.headless=true"]
    java += [f"-Dheadrace.log={folder / 'broker.log'}"]
    java += [f"-Dlog4j2.configurationFile={Path(__file__).with_name('broker_log4j2.properties')}"]
    java += ["-cp", os.pathsep.join(str(jar) for jar in broker_jars())]
    launch = {
        "folder": str(folder),
        "name": "broker",
        "port": port,
        "command": [*java, "kafka.Kafka", str(properties)],
        "format_command": [*java, "kafka.tools.StorageTool", "format", "-t", new_cluster_id(), "-c", str(properties)],
    }
    launch_file = folder / "launch.json"
    launch_file.write_text(json.dumps(launch))
    return launch_file


def new_cluster_id() -> str:
    """A random id in Kafka's own form: 22 characters of URL-safe base64, none a dash at the start.

    One in 64 random ids starts with a dash, and the storage tool takes it for an option.
    """
    while (identifier := urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return identifier


def server_properties(folder: Path, port: int, controller_port: int, partition_bytes: int) -> dict[str, str]:
    """The broker's configuration: one node, both roles, bound to the loopback interface only."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        # A static quorum of one: the controller's port may change between two starts.
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(folder / "data"),
        # One node can hold one replica; with the defaults of three no consumer group and no transaction would start.
        "default.replication.factor": "1",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # The default of 50 partitions each costs seconds at the first use and 100 open files.
        "offsets.topic.num.partitions": "2",
        "transaction.state.log.num.partitions": "2",
        "share.coordinator.state.topic.num.partitions": "2",
        "group.initial.rebalance.delay.ms": "0",
        # A misspelt topic must be an error and not a new, empty topic.
        "auto.create.topics.enable": "false",
        "message.max.bytes": str(_MAX_MESSAGE_BYTES),
        "replica.fetch.max.bytes": str(_MAX_MESSAGE_BYTES),
        "log.retention.hours": str(7 * 24),
        # Without a limit of size the disk fills within days, and the broker dies with the streams and Dagster. What
        # goes unread is named and acknowledged as what goes by time is, and `time_to_loss` warns hours before.
        "log.retention.bytes": str(partition_bytes),
        "log.segment.bytes": str(_SEGMENT_BYTES),
        # Taken and filled at the start, by default 128 MiB. A compaction of more keys than fit (a third of a million)
        # takes a second pass.
        "log.cleaner.dedupe.buffer.size": str(8 * 1024 * 1024),
        # Index files are sparse but preallocated; the default of 10 MB per partition makes `du` and backups lie.
        "log.index.size.max.bytes": str(2 * 1024 * 1024),
    }
