"""Runs the platform's streams over a test's own topic and lakehouse, and reads the tables with another engine."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb
from deltalake import DeltaTable

from jobs.supervision.stream_context import build_stream_context
from platform_assets.streaming.checkpoint.state_stores import unload_state_stores
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.stream_spec import select_ingest
from platform_assets.streams import load_streams
from tests.bounded_run import run_to_end

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

    from platform_assets.streaming.context import StreamContext
    from resources.kafka import KafkaResource
    from resources.lakehouse import LakehouseResource
    from resources.settings import Settings


@dataclass(frozen=True)
class StreamsUnderTest:
    """The streams, a topic and a lakehouse."""

    session: SparkSession
    kafka: KafkaResource
    context: StreamContext

    @staticmethod
    def build(
        session: SparkSession, kafka: KafkaResource, lakehouse: LakehouseResource, settings: Settings, topic: str,
        **overrides: Any,
    ) -> StreamsUnderTest:  # fmt: skip
        """Over an existing topic."""
        context = build_stream_context(
            settings.model_copy(update={"topic": topic}), kafka, lakehouse, select_ingest(load_streams())
        )
        return StreamsUnderTest(session, kafka, dataclasses.replace(context, **overrides))

    @property
    def topic(self) -> str:
        """The topic that the stream `events` reads."""
        return self.context.ingest["events"].topic

    def copy_to(self, root: Path) -> StreamsUnderTest:
        """The same with a copy of the lakehouse, at a place where nothing is."""
        shutil.copytree(self.context.lakehouse_root, root)
        return self.at(root)

    def at(self, root: Path) -> StreamsUnderTest:
        """The same over a copy of the lakehouse that is there."""
        return dataclasses.replace(self, context=dataclasses.replace(self.context, lakehouse_root=str(root)))

    def send(self, values: Iterable[bytes | None], key: bytes | None = b"user", partition: int = 0) -> None:
        """Sends records, in order, and waits until the broker has them."""
        producer = self.kafka.producer()
        for value in values:
            producer.produce(self.topic, value=value, key=key, partition=partition)
        assert producer.flush(30) == 0

    @contextmanager
    def sending(self, build_values: Callable[[int], Sequence[bytes | None]]) -> Iterator[None]:
        """Sends during the block what `build_values` gives for 0, 1, 2 and so on, ten times a second."""
        enough = threading.Event()

        def send() -> None:
            for number in itertools.count():
                if enough.wait(0.1):
                    return
                self.send(build_values(number))

        sender = threading.Thread(target=send)
        sender.start()
        try:
            yield
        finally:
            enough.set()
            sender.join()

    def let_go_of_state(self) -> None:
        """Afterwards no thread of Spark's writes into a checkpoint: one uploads snapshots behind a query's end."""
        unload_state_stores(self.session)

    def drain(self, *names: str) -> QueryGroup:
        """Runs the named streams (default: all) in bounded mode to their end; raises what a query died of."""
        streams = [stream for stream in load_streams() if not names or stream.name in names]
        group = QueryGroup(self.session, streams, self.context)
        run_to_end(group)
        return group

    def rows(self, table: str, sql: str = "select * from t") -> list[dict[str, Any]]:
        """Rows of a table, read by delta-rs and queried by DuckDB as `t`."""
        t = self.table(table).to_pyarrow_dataset()
        connection = duckdb.connect()
        connection.execute("set timezone = 'UTC'")
        connection.register("t", t)
        return connection.sql(sql).to_arrow_table().to_pylist()

    def version(self, table: str) -> int:
        """The table's newest version."""
        return self.table(table).version()

    def table(self, name: str) -> DeltaTable:
        """The table at its newest version."""
        return DeltaTable(self.context.table_uri(name), storage_options=dict(self.context.storage_options))


def build_purchases(number: int) -> list[bytes]:
    """Twenty purchases at the present time; their ids are those of this number."""
    at = datetime.now(UTC).isoformat()
    events = [
        {"event_id": f"{number}-{n}", "event_type": "purchase", "timestamp": at, "user_id": f"u{n}"} for n in range(20)
    ]
    return [json.dumps(event).encode() for event in events]
