"""A Delta table, its topic on a real broker, and what readers of committed records find there."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from platform_assets.publishing.selection import POSITIONS_TOPIC
from platform_assets.publishing.table_publisher import TablePublisher
from platform_assets.streaming.stream_spec import TableStream
from platform_assets.streams.high_value_users import STREAM
from resources.duckdb import DuckDBResource
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic
from resources.lakehouse import LakehouseResource
from tests.unit.sinks.sunk_table import SPEC, Row, SunkTable

TABLE = replace(SPEC, name="gold.published_rows")
_TIMEOUT_SECONDS = 60.0


def build_stream(topic: str) -> TableStream:
    """A stream that writes `TABLE`, which nobody runs."""
    return replace(STREAM, name="published_rows", tables=(TABLE,), publish_topic=topic)


@dataclass(frozen=True)
class OutRecord:
    """A committed record as its readers see it."""

    partition: int
    key: str
    value: str | None
    headers: Mapping[str, str]


class PublishedTable:
    """The table and its topic. `follow` lets a publisher do all that there is to do."""

    def __init__(self, kafka: KafkaResource, lakehouse: LakehouseResource, engine: DuckDBResource, topic: str) -> None:
        ensure_topic(kafka, POSITIONS_TOPIC, 1, {"cleanup.policy": "compact"})
        self.kafka, self.topic = kafka, topic
        self.table = SunkTable(lakehouse, "", engine, TABLE)

    def open_publisher(self, **arguments: Any) -> TablePublisher:
        """One that has contacted nobody yet."""
        known = {"kafka": self.kafka, "target": None} | arguments
        return TablePublisher(
            build_stream(self.topic), lakehouse=self.table.lakehouse, engine=self.table.engine, partitions=3, **known
        )

    def follow(self, publisher: TablePublisher | None = None) -> TablePublisher:
        used = publisher or self.open_publisher()
        while used.advance():
            pass
        return used

    def read(self) -> list[OutRecord]:
        return read_committed(self.kafka, self.topic)

    def demand_exact(self) -> None:
        """The topic says what the table is, and says nothing twice."""
        records = self.read()
        said = [(record.headers["version"], record.key) for record in records]
        assert len(said) == len(set(said)), "a version has said something of a key twice"
        newest = {record.key: record.value for record in records}
        there = [_parse(value) for value in newest.values() if value is not None]
        wanted = [_parse(as_json(row)) for row in self.table.read_delta()]
        assert sorted(there, key=_name_key) == sorted(wanted, key=_name_key)


def read_committed(kafka: KafkaResource, topic: str) -> list[OutRecord]:
    """All committed records, partition by partition."""
    consumer = Consumer(
        {
            **kafka.client_config(), "group.id": "test", "enable.auto.commit": False,
            "isolation.level": "read_committed", "enable.partition.eof": True,
        }
    )  # fmt: skip
    found = []
    for partition in kafka.partitions(topic):
        consumer.assign([TopicPartition(topic, partition, 0)])
        while True:
            record = consumer.poll(_TIMEOUT_SECONDS)
            assert record is not None
            if (error := record.error()) is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                break
            key, value, headers = record.key(), record.value(), dict(record.headers() or [])
            assert isinstance(key, bytes)
            texts = {name: text.decode() for name, text in headers.items() if isinstance(text, bytes)}
            # Values of a registry are no text; this way back they are what they were.
            text = None if value is None else bytes(value).decode(errors="surrogateescape")
            found.append(OutRecord(partition, key.decode(), text, texts))
    consumer.close()
    return found


def as_json(row: Row) -> str:
    """A row of the Delta table as the topic has it, by Python's own encoder."""
    return json.dumps({name: _plain(row[name]) for name in (column.name for column in TABLE.columns)})


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        case date():
            return value.isoformat()
        case bytes():
            return base64.b64encode(value).decode()
        case Decimal():
            return float(value)
        case float() if value in (float("inf"), float("-inf")):
            return "Infinity" if value > 0 else "-Infinity"
        case list():
            return [_plain(each) for each in value]
        case dict():
            return {key: _plain(each) for key, each in value.items()}
    return value


def _parse(text: str) -> dict[str, Any]:
    # `read_delta` spells this sign so, for other readers of it.
    row: dict[str, Any] = json.loads(text.replace("\\u0000", "\\u2400"), parse_int=float)
    return row


def _name_key(row: Mapping[str, Any]) -> tuple[float, str]:
    return row["number"], row["part"] or ""
