"""What people do to a platform that must go on meanwhile, and a kill -9 in its middle.

Each strikes, waits for the promised reaction, and raises `ChaosError` where it does not come.
"""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

from confluent_kafka.admin import NewPartitions
from deltalake import DeltaTable

from jobs.supervision.group_lock import read_lock
from jobs.supervision.model import Phase
from resources.kafka import KafkaResource
from resources.processes import kill
from tests.chaos.fault import demand, say
from tests.chaos.live_platform import LivePlatform

# Shorter than most of the shop's records, and the setting's default.
_SHORT_BYTES, _LONG_BYTES = "300", "1048576"
_REFUSED = 2_000
# A copy of a lakehouse of some hundred MB takes a little longer.
_COPYING_SECONDS = 3.0


def add_partition(platform: LivePlatform) -> None:
    """The topic gets a partition; the run dies before it has read of it, and its successor does."""
    host, topic = platform.await_healthy(), platform.settings.topic
    with KafkaResource.from_settings(platform.settings) as kafka:
        number = len(kafka.partitions(topic))
        (added,) = kafka.admin().create_partitions([NewPartitions(topic, number + 1)]).values()
        added.result(30)
        kill(host.process)
        producer = kafka.producer()
        for _ in range(100):
            producer.produce(topic, value=b"no JSON, of the new partition", partition=number)
        demand(producer.flush(30) == 0, "the new partition takes no records")
    platform.await_host(host.run_id)
    platform.wait_for(lambda: number in platform.tables.read_partitions(), "the new partition is read")


def kill_requeue(platform: LivePlatform) -> None:
    """A limit was too low, and is fixed; what it refused is re-ingested, with a kill in its middle."""
    host = platform.await_healthy()
    platform.stop()
    platform.start(HEADRACE_MAX_RECORD_BYTES=_SHORT_BYTES)
    platform.wait_for(lambda: platform.tables.count_refused("oversized") > _REFUSED, "records are refused")
    platform.stop()
    platform.start(HEADRACE_MAX_RECORD_BYTES=_LONG_BYTES)
    last = platform.await_host(host.run_id)
    home = Path(platform.settings.lakehouse, "platform", "requeued_records")
    version = DeltaTable(str(home)).version()
    requeue = platform.start_command("requeue", "--reason", "oversized", "--accept", "--because", "a test")
    platform.wait_for(lambda: DeltaTable(str(home)).version() > version, "the records are marked")
    requeue.kill()
    requeue.wait()
    platform.wait_for(lambda: platform.watch.phase is Phase.HELD_OPERATOR, "the group stays paused")
    done = platform.run("requeue", "--reason", "oversized", "--accept", "--because", "a test")
    demand(done.returncode == 0, f"it said: {done.stdout}{done.stderr}")
    platform.await_host(last.run_id)


def kill_backup(platform: LivePlatform) -> None:
    """The group rests for a copy, which is killed in its middle, begun anew in another place, and is whole."""
    host, home = platform.await_healthy(), platform.settings.home
    say(platform, "pause")
    platform.wait_for(lambda: platform.watch.phase is Phase.HELD_OPERATOR, "the group is held")
    backup = platform.start_command("backup", str(home / "cut_short"))
    platform.wait_for(lambda: read_lock(home, platform.group.name).owner_mode == "backup", "the copy has begun")
    time.sleep(random.uniform(0, _COPYING_SECONDS))
    backup.kill()
    backup.wait()
    done = platform.run("backup", str(home / "whole"))
    demand(done.returncode == 0 and "silver.events: version" in done.stdout, f"it said: {done.stdout}{done.stderr}")
    for folder in ("cut_short", "whole"):
        shutil.rmtree(home / folder, ignore_errors=True)
    say(platform, "resume")
    platform.await_host(host.run_id)
