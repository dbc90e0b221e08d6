"""A process with one publisher, which dies at one step of its work.

`python -m tests.unit.publishing.publish_process ROOT SERVERS TOPIC HOME STEP COUNT`: by SIGKILL, right before
(`produce`, `commit`) or behind (`begun`, `committed`) the COUNT-th such call.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from resources.duckdb import DuckDBResource
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.unit.publishing.published_table import PublishedTable

STEPS = {
    "begin_transaction": (None, "begun"),
    "produce": ("produce", None),
    "commit_transaction": ("commit", "committed"),
}


class DyingProducer:
    """Passes all calls on, and kills the process at the one that is wanted."""

    def __init__(self, producer: Any, step: str, count: int) -> None:
        self._producer, self._step, self._count, self._seen = producer, step, count, Counter[str]()

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._producer, name)
        before, behind = STEPS.get(name, (None, None))

        def pass_on(*arguments: Any, **options: Any) -> Any:
            self._die_at(before)
            result = call(*arguments, **options)
            self._die_at(behind)
            return result

        return pass_on

    def _die_at(self, step: str | None) -> None:
        if step != self._step:
            return
        self._seen[step] += 1
        if self._seen[step] == self._count:
            # What was produced so far is on its way: the broker has some of it, in an open transaction.
            self._producer.flush(10) if step == "commit" else self._producer.poll(0.2)
            os.kill(os.getpid(), signal.SIGKILL)


class DyingKafka(KafkaResource):
    """The broker, by a producer that dies."""

    def producer(self, **overrides: Any) -> Any:
        return DyingProducer(super().producer(**overrides), sys.argv[5], int(sys.argv[6]))


def main() -> None:
    """Publishes all that there is, until it is killed."""
    settings = Settings.model_validate({"home": Path(sys.argv[4]), "kafka_bootstrap_servers": sys.argv[2]})
    kafka = DyingKafka(bootstrap_servers=sys.argv[2])
    kafka._settings = settings
    lakehouse = LakehouseResource(root=sys.argv[1])
    PublishedTable(kafka, lakehouse, DuckDBResource.from_settings(settings), sys.argv[3]).follow()


if __name__ == "__main__":
    main()
