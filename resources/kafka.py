"""Kafka for Dagster and for plain Python: clients, partitions, offsets, and the options for Spark's reader.

What is built on it: `kafka_topics` (creation, retention, replication), `kafka_records` (reads of records), and
`kafka_open_transactions`.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import PrivateAttr

from platform_assets.errors import BrokerUnavailableError, MissingTopicError, SettingError
from platform_assets.kafka_errors import find_no_leader, find_refusal
from resources import broker_tls, kafka_settings, librdkafka
from resources.embedded.broker import EmbeddedBroker
from resources.librdkafka import TIMEOUT_SECONDS
from resources.settings import Settings, load_settings

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Producer
    from confluent_kafka.admin import AdminClient, ClusterMetadata, OffsetSpec, TopicDescription

# A broker that hangs, or whose host has lost its power, closes no connection. For librdkafka's default of a minute it
# would be asked again and again, while another one leads since ten seconds, and a stream's read would fail meanwhile.
_CONNECTION = {"socket.timeout.ms": "10000"}

# A record is acknowledged when all replicas in sync have it: a leader that dies with it takes nothing along. What is
# sent again, because a leader died before its answer, is there once.
_RELIABLE = {
    "acks": "all",
    "enable.idempotence": "true",
    "compression.type": "lz4",
    # librdkafka's default of 1 MB would refuse in the producer what the broker and the quarantine are made for.
    "message.max.bytes": str(16 * 1024 * 1024),
    # A leader waits for a replica that has died until the cluster has noticed it, nine seconds by default. A shorter
    # patience than that would send everything twice meanwhile; the answer has then some time to arrive.
    "request.timeout.ms": "20000",
    "socket.timeout.ms": "30000",
}


class KafkaResource(dg.ConfigurableResource[Any]):
    """A Kafka cluster: the configured one, or the embedded broker, which is started at the first use.

    Within Dagster, set-up is lazy and tear-down ends the use of the embedded broker; outside, make one with
    `from_settings` and call `close` (or use it as a context manager). Secret options come from the settings and are no
    fields of the resource, so that Dagster neither stores nor shows them. Every call that needs the cluster raises
    `BrokerUnavailableError`, naming the address, when nothing answers within about ten seconds.
    """

    bootstrap_servers: str = ""
    """Host and port list; empty: the embedded broker."""

    _settings: Settings | None = PrivateAttr(default=None)
    _embedded: EmbeddedBroker | None = PrivateAttr(default=None)
    _admin: Any = PrivateAttr(default=None)
    _refusals: librdkafka.Refusals = PrivateAttr(default_factory=librdkafka.Refusals)

    @classmethod
    def from_settings(cls, settings: Settings) -> KafkaResource:
        """The resource that these settings describe. Nothing is contacted or started."""
        resource = cls(bootstrap_servers=settings.kafka_bootstrap_servers)
        resource._settings = settings
        return resource

    def __enter__(self) -> KafkaResource:
        """The resource itself; the block's end closes it."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Closes, whatever happened in the block."""
        self.close()

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Called by Dagster when the run or the tick is over."""
        self.close()

    def close(self) -> None:
        """Ends the use of the embedded broker and drops the admin client. The resource can be used again after."""
        self._admin = None
        if self._embedded is not None:
            self._embedded.stop()
            self._embedded = None

    @property
    def is_embedded(self) -> bool:
        """Whether the broker is ours: then a missing topic is created."""
        return not self.bootstrap_servers

    def servers(self) -> str:
        """The address for clients. Starts the embedded broker when that is the one meant and it is not running."""
        if not self.is_embedded:
            return self.bootstrap_servers
        if self._embedded is None:
            settings = self._settings_or_environment()
            self._embedded = EmbeddedBroker(settings.home, settings.kafka_port, settings.kafka_partition_mib)
        return self._embedded.start().bootstrap_servers

    def client_config(self) -> dict[str, str]:
        """librdkafka's options for any client: the address and the secret options. Never log it."""
        return {**_CONNECTION, "bootstrap.servers": self.servers(), **self._secret_options()}

    def spark_options(self) -> dict[str, str]:
        """The same for Spark's Kafka source and sink (`kafka.*`). Raises `SettingError` as `java_client_options`."""
        return librdkafka.java_client_options(self.client_config())

    def admin(self) -> AdminClient:
        """An admin client that has reached the cluster once; the same one until `close`."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        if self._admin is None:
            try:
                client = AdminClient(librdkafka.quiet(self.client_config(), self._refusals))
            except KafkaException as error:
                raise self.unavailable(error) from None
            try:
                client.list_topics(timeout=TIMEOUT_SECONDS)
            except KafkaException as error:
                client.poll(0)  # hands over what was said in the background
                raise self.unavailable(error) from None
            self._admin = client
        admin: AdminClient = self._admin
        return admin

    def producer(self, **overrides: Any) -> Producer:
        """A producer that loses and doubles nothing (`acks=all`, idempotent), compressed.

        `overrides` are librdkafka options with `_` for `.`. The caller flushes it.
        """
        from confluent_kafka import Producer

        self.admin()  # a broker that is not there is one clear error here and not a full queue later
        options = {key.replace("_", "."): value for key, value in overrides.items()}
        config = {**self.client_config(), **_RELIABLE, **self._secret_options(), **options}
        return Producer(librdkafka.quiet(config, self._refusals))

    def consumer(self, **overrides: Any) -> Consumer:
        """A consumer with these options of librdkafka, with `_` for `.`. The caller closes it."""
        from confluent_kafka import Consumer

        options = {key.replace("_", "."): value for key, value in overrides.items()}
        return Consumer(librdkafka.quiet({**self.client_config(), **options}, self._refusals))

    def partitions(self, topic: str) -> list[int]:
        """The topic's partition numbers. Raises `MissingTopicError`."""
        metadata = self.list_topics().topics.get(topic)
        if metadata is None or not metadata.partitions:
            self._demand_right_to_see(topic)
            raise MissingTopicError(
                f"Topic {topic} does not exist on {self.servers()}. Create it there, or name another: the shop's is "
                "HEADRACE_TOPIC, that of another topic is kafka_topic in its file."
            )
        return sorted(metadata.partitions)

    def topic_id(self, topic: str) -> str:
        """The id that the cluster gave the topic at its creation: another one of the same name has another id."""
        return str(self.describe_topic(topic).topic_id)

    def describe_topic(self, topic: str, *, with_rights: bool = False) -> TopicDescription:
        """What the cluster says of the topic; `with_rights`: also what this account may do with it."""
        from confluent_kafka import KafkaException, TopicCollection

        asked = self.admin().describe_topics(
            TopicCollection([topic]), include_authorized_operations=with_rights, request_timeout=TIMEOUT_SECONDS
        )
        try:
            return asked[topic].result(TIMEOUT_SECONDS)
        except KafkaException as error:
            raise self.unavailable(error, *_to_see(topic)) from None

    def beginning_offsets(self, topic: str) -> dict[int, int]:
        """The first offset still held, by partition."""
        from confluent_kafka.admin import OffsetSpec

        return self._list_offsets(topic, OffsetSpec.earliest())

    def end_offsets(self, topic: str, *, committed: bool = False) -> dict[int, int]:
        """The offset that the next record gets, by partition; `committed`: the first of an open transaction, if any."""
        from confluent_kafka.admin import OffsetSpec

        return self._list_offsets(topic, OffsetSpec.latest(), committed=committed)

    def offsets_at(self, topic: str, moment: datetime) -> dict[int, int]:
        """The first offset whose record is not older than `moment`, by partition; the end where there is none.

        Raises `ValueError` for a time without a zone.
        """
        from confluent_kafka.admin import OffsetSpec

        if moment.tzinfo is None:
            raise ValueError(f"{moment.isoformat()} has no time zone")
        ends = self.end_offsets(topic)
        found = self._list_offsets(topic, OffsetSpec.for_timestamp(int(moment.timestamp() * 1000)))
        return {partition: offset if offset >= 0 else ends[partition] for partition, offset in found.items()}

    def list_topics(self) -> ClusterMetadata:
        """The cluster's brokers and topics."""
        from confluent_kafka import KafkaException

        try:
            # Asked by name, the answer for a topic that was just created may be stale: the whole list is not.
            return self.admin().list_topics(timeout=TIMEOUT_SECONDS)
        except KafkaException as error:
            raise self.unavailable(error) from None

    def unavailable(
        self, error: Exception, operation: str = "Describe", resource: str = "cluster", part: str = "the platform"
    ) -> BrokerUnavailableError | SettingError:
        """The error for a call that failed; the rest says which right it needs, and on what."""
        from confluent_kafka import KafkaError

        answer = error.args[0] if error.args else None
        if isinstance(answer, KafkaError) and answer.code() == KafkaError._INVALID_ARG:  # before anybody was asked
            return SettingError(f"HEADRACE_KAFKA_CONFIG: {answer.str()}. It takes librdkafka's options.")
        for text in (str(error), self._refusals.newest):
            if (refused := find_refusal(text, operation, resource, part)) is not None:
                return broker_tls.look_closer(text, self._secret_options) or refused
        if (waits := find_no_leader(str(error), resource)) is not None:
            return waits
        address = self.bootstrap_servers or "the embedded broker"
        return BrokerUnavailableError(
            f"No Kafka broker answered at {address} within {TIMEOUT_SECONDS:g} s ({error}). Check that it runs, "
            "KAFKA_BOOTSTRAP_SERVERS, and the security options in HEADRACE_KAFKA_CONFIG."
        )

    def _list_offsets(self, topic: str, spec: OffsetSpec, *, committed: bool = False) -> dict[int, int]:
        from confluent_kafka import IsolationLevel, KafkaException, TopicPartition

        wanted = {TopicPartition(topic, partition): spec for partition in self.partitions(topic)}
        level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        futures = self.admin().list_offsets(wanted, isolation_level=level, request_timeout=TIMEOUT_SECONDS)
        try:
            return {tp.partition: future.result(TIMEOUT_SECONDS).offset for tp, future in futures.items()}
        except (KafkaException, TimeoutError) as error:
            raise self.unavailable(error, *_to_see(topic)) from None

    def _demand_right_to_see(self, topic: str) -> None:
        """Raises `BrokerRefusedError` where a topic is not listed because the right to see it is missing."""
        from confluent_kafka import KafkaError, KafkaException, TopicCollection

        described = self.admin().describe_topics(TopicCollection([topic]), request_timeout=TIMEOUT_SECONDS)[topic]
        try:
            described.result(TIMEOUT_SECONDS)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise self.unavailable(error, *_to_see(topic)) from None

    def _settings_or_environment(self) -> Settings:
        # Dagster copies a resource for each run, without its private attributes.
        return self._settings or load_settings()

    def _secret_options(self) -> dict[str, str]:
        return kafka_settings.parse_options(self._settings_or_environment().kafka_config.get_secret_value())


def _to_see(topic: str) -> tuple[str, str, str]:
    """What `unavailable` takes of calls that ask for a topic's partitions and offsets."""
    return "Describe", f"topic {topic}", "the platform, which asks for its partitions and offsets"
