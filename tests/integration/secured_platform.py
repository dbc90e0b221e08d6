"""The platform's streams over a Kafka that trusts nobody, by an account with the rights of docs/security.md."""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka.admin import NewTopic

from jobs.supervision.stream_context import build_stream_context
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.stream_spec import Stream
from platform_assets.streams import high_value_users, load_streams
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.bounded_run import run_to_end
from tests.secured_broker import Right, SecuredBroker, topic_rights

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from platform_assets.streaming.context import StreamContext


@dataclass
class SecuredPlatform:
    """A topic, a published topic, a home and a lakehouse of one's own, and one account for all of the platform."""

    broker: SecuredBroker
    session: SparkSession
    home: Path
    account: str
    options: dict[str, str]
    topic: str
    published: str

    @staticmethod
    def make(
        broker: SecuredBroker, session: SparkSession, home: Path, account: str, options: dict[str, str]
    ) -> SecuredPlatform:
        """Its topics are there; the account has no right yet."""
        topic, published = (f"{name}-{uuid.uuid4().hex[:8]}" for name in ("events", "published"))
        made = SecuredPlatform(broker, session, home, account, options, topic, published)
        made.create_topics(topic, published)
        return made

    def create_topics(self, *names: str) -> None:
        """Topics of one partition."""
        for future in self.broker.admin().create_topics([NewTopic(name, 1, 1) for name in names]).values():
            future.result(30)

    def rights(self) -> list[Right]:
        """What the stream `events` and one that is published need, and no more: the table of docs/security.md."""
        return [
            *topic_rights(self.account, self.topic, "READ", "DESCRIBE_CONFIGS"),
            *topic_rights(self.account, self.published, "WRITE"),
        ]

    @property
    def settings(self) -> Settings:
        """The platform's settings."""
        return self.broker.settings(self.home, self.options, topic=self.topic)

    def kafka(self) -> KafkaResource:
        """The platform's own client; close it."""
        return KafkaResource.from_settings(self.settings)

    @property
    def lakehouse(self) -> LakehouseResource:
        """The tables."""
        return LakehouseResource.from_settings(self.settings)

    def send(self, values: list[bytes]) -> None:
        """Sends records as the shop, with an account of its own, and waits until the broker has them."""
        shop = f"shop-{self.topic}"
        options = self.broker.add_account(shop)
        self.broker.grant(*topic_rights(shop, self.topic, "WRITE"))
        with KafkaResource.from_settings(self.broker.settings(self.home, options)) as kafka:
            producer = kafka.producer()
            for value in values:
                producer.produce(self.topic, value)
            assert producer.flush(60) == 0

    def build_context(self) -> StreamContext:
        """Asks Kafka, as each start of a group does."""
        with self.kafka() as kafka:
            return build_stream_context(self.settings, kafka, self.lakehouse, self.streams())

    def streams(self) -> list[Stream]:
        """The stream over the topic, and one whose rows are published."""
        (events,) = (stream for stream in load_streams() if stream.name == "events")
        return [events, dataclasses.replace(high_value_users.STREAM, publish_topic=self.published)]

    def group(self) -> QueryGroup:
        """The engine over both streams."""
        return QueryGroup(self.session, self.streams(), self.build_context())

    def drain(self) -> None:
        """Reads all there is; raises what a query died of."""
        run_to_end(self.group())

    def offsets(self) -> list[int]:
        """The offset of each record that lies in a table of `silver`, sorted."""
        found: list[int] = []
        for name in ("silver.events", "silver.quarantined_events", "silver.deduplicated_events"):
            if (table := self.lakehouse.find_table(name)) is not None:
                found += table.to_pyarrow_table(columns=["kafka_offset"])["kafka_offset"].to_pylist()
        return sorted(found)
