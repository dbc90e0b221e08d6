"""The relay of a test in a process of its own, which may be killed. Run as a module with the fields of `RelayPlace`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from resources.spark.session import SparkResource
from tests.integration.scored_payments import ScoredPayments
from tests.short_lived_jvm import SPARK_CONF


@dataclass(frozen=True)
class RelayPlace:
    """The place where it works. `topics` are those of payments, scores and alerts."""

    home: str
    servers: str
    lakehouse: str
    topics: tuple[str, ...]


@contextlib.contextmanager
def running_relay(place: RelayPlace) -> Iterator[None]:
    """The relay reads for the block, and is killed (-9) with its JVM at the end of it."""
    command = [sys.executable, "-m", __name__, json.dumps(dataclasses.asdict(place))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        jvm = int(process.stdout.readline())
        try:
            yield
        finally:
            for pid in (jvm, process.pid):
                os.kill(pid, signal.SIGKILL)


def main(place: RelayPlace) -> None:
    """Says the pid of the JVM once the relay reads, and goes on until it is killed."""
    settings = Settings(home=Path(place.home), kafka_bootstrap_servers=place.servers, lakehouse=place.lakehouse)
    settings = settings.model_copy(update={"spark_heap_mib": 512, "spark_conf": SPARK_CONF})
    spark = SparkResource.from_settings(settings, "relay")
    with KafkaResource.from_settings(settings) as kafka, spark.running() as session:
        lakehouse, topics = LakehouseResource.from_settings(settings), iter(place.topics)
        scored = ScoredPayments.build(session, kafka, lakehouse, settings, lambda _partitions: next(topics))
        scored.start()
        print(spark.jvm_pid, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    fields = json.loads(sys.argv[1])
    main(RelayPlace(**fields | {"topics": tuple(fields["topics"])}))
