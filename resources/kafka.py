"""Kafka for Dagster and for plain Python: admin, producer, offsets, lag, and the options for Spark's reader."""

from __future__ import annotations

import bisect
import contextlib
import itertools
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import PrivateAttr

from platform_assets.errors import BrokerRefusedError, BrokerUnavailableError, MissingTopicError, SettingError
from platform_assets.kafka_errors import find_address, find_no_leader, find_refusal
from platform_assets.kafka_replication import Replication
from resources import broker_tls, librdkafka
from resources.embedded_broker import EmbeddedBroker
from resources.settings import Settings, load_settings

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message, Producer
    from confluent_kafka.admin import AdminClient, ClusterMetadata, OffsetSpec

# A broker that is there answers in milliseconds, one that is restarting in a few seconds.
_TIMEOUT_SECONDS = 10.0

# A read that begins elsewhere takes milliseconds, in which a consumer reads on over some thousand records. Of a topic
# that is written in transactions there are millions of ranges, each transaction's marker.
_NEAR_OFFSETS = 1_000

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

# Without a look at them first librdkafka's answer is an error number of OpenSSL.
_FILES = frozenset({"ssl.ca.location", "ssl.certificate.location", "ssl.key.location"})


@dataclass(frozen=True)
class HeldBack:
    """Offsets of a partition from an open transaction on, and the time of the first record there."""

    count: int
    since: datetime


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
                raise self._unavailable(error) from None
            try:
                client.list_topics(timeout=_TIMEOUT_SECONDS)
            except KafkaException as error:
                client.poll(0)  # hands over what was said in the background
                raise self._unavailable(error) from None
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

    def partitions(self, topic: str) -> list[int]:
        """The topic's partition numbers. Raises `MissingTopicError`."""
        metadata = self._list_topics().topics.get(topic)
        if metadata is None or not metadata.partitions:
            self._demand_right_to_see(topic)
            raise MissingTopicError(
                f"Topic {topic} does not exist on {self.servers()}. Create it there, or name another: the shop's is "
                "HEADRACE_TOPIC, that of another topic is kafka_topic in its file."
            )
        return sorted(metadata.partitions)

    def ensure_topic(self, topic: str, partitions: int, config: Mapping[str, str] | None = None) -> None:
        """Makes sure that the topic exists and clients can see it; `config` counts at its creation.

        Creates it on the embedded broker only; on any other a missing one raises `MissingTopicError`, for its
        replication and retention are its owner's to choose. An existing topic is left as it is.
        """
        if not self.is_embedded:
            self.partitions(topic)
            return
        self.create_topic(topic, partitions, 1, config)

    def create_topic(
        self, topic: str, partitions: int, replication: int, config: Mapping[str, str] | None = None
    ) -> None:
        """Creates the topic on whatever broker, unless it exists, and returns when clients can see it.

        An existing topic is left as it is. Raises `SettingError` where the cluster refuses it as it is asked for, such
        as with more replicas than there are brokers.
        """
        from confluent_kafka import KafkaError, KafkaException
        from confluent_kafka.admin import NewTopic

        wanted = NewTopic(topic, partitions, replication, config=dict(config or {}))
        created = self.admin().create_topics([wanted], operation_timeout=_TIMEOUT_SECONDS)
        try:
            created[topic].result(_TIMEOUT_SECONDS)
        except KafkaException as error:
            code, text = error.args[0].code(), error.args[0].str()
            if code in (KafkaError.INVALID_REPLICATION_FACTOR, KafkaError.INVALID_PARTITIONS,
                        KafkaError.POLICY_VIOLATION):  # fmt: skip
                raise SettingError(
                    f"HEADRACE_TOPIC_REPLICATION, HEADRACE_TOPIC_PARTITIONS: {self.servers()} refuses the topic "
                    f"{topic} with {partitions} partitions of {replication} replicas: {text}"
                ) from None
            if code != KafkaError.TOPIC_ALREADY_EXISTS:
                raise self._unavailable(error, "Create", f"topic {topic}", "headrace topics") from None
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while True:  # creation is acknowledged before every partition has a leader
            try:
                self.partitions(topic)
                self.end_offsets(topic)
                return
            except (MissingTopicError, BrokerUnavailableError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def topic_id(self, topic: str) -> str:
        """The id that the cluster gave the topic at its creation: another one of the same name has another id."""
        from confluent_kafka import KafkaException, TopicCollection

        described = self.admin().describe_topics(TopicCollection([topic]), request_timeout=_TIMEOUT_SECONDS)[topic]
        try:
            return str(described.result(_TIMEOUT_SECONDS).topic_id)
        except KafkaException as error:
            raise self._unavailable(error, *_to_see(topic)) from None

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

    def lag(self, topic: str, positions: dict[int, int]) -> dict[int, int]:
        """Records between `positions` (the next offset to read) and the end, by partition, never negative.

        A partition without a position counts from its first held offset.
        """
        ends, beginnings = self.end_offsets(topic), self.beginning_offsets(topic)
        return {p: max(0, end - max(positions.get(p, 0), beginnings[p])) for p, end in ends.items()}

    def retention(self, topic: str) -> timedelta | None:
        """How long the broker keeps a record of the topic; None: without a limit of time."""
        milliseconds = int(self._read_config(topic, "retention.ms"))
        return None if milliseconds < 0 else timedelta(milliseconds=milliseconds)

    def retention_bytes(self, topic: str) -> int | None:
        """How much of each partition of the topic the broker keeps; None: without a limit of size."""
        limit = int(self._read_config(topic, "retention.bytes"))
        return None if limit < 0 else limit

    def is_compacted(self, topic: str) -> bool:
        """Whether the broker removes records of the topic that a newer one of their key replaces, unread ones too."""
        return "compact" in self._read_config(topic, "cleanup.policy")

    def replication(self, topic: str) -> Replication:
        """How often the cluster keeps the topic's records."""
        in_sync, unclean = (
            self._read_config(topic, name) for name in ("min.insync.replicas", "unclean.leader.election.enable")
        )
        metadata = self._list_topics()
        partitions = metadata.topics[topic].partitions.values()
        replicas = min(len(partition.replicas) for partition in partitions)
        return Replication(len(metadata.brokers), replicas, int(in_sync), unclean == "true")

    def read_ends(self, topic: str) -> dict[int, tuple[int, int]]:
        """The last stable offset of each partition, up to which committed reads go, and the next record's offset.

        The two are the same unless records wait behind an open transaction.
        """
        ends = self.end_offsets(topic)  # first: what comes between the two calls waits for nothing
        visible = self.end_offsets(topic, committed=True)
        return {p: (min(visible.get(p, end), end), end) for p, end in ends.items()}

    def held_back(self, topic: str) -> dict[int, HeldBack]:
        """The records behind an open transaction, by partition: nobody who reads what is committed can see them."""
        waiting = {p: (first, end) for p, (first, end) in self.read_ends(topic).items() if first < end}
        times = self.read_times(topic, {p: first for p, (first, _) in waiting.items()})
        return {p: HeldBack(end - first, times[p]) for p, (first, end) in waiting.items() if p in times}

    def read_times(self, topic: str, positions: Mapping[int, int]) -> dict[int, datetime]:
        """When the first record at or behind each position (offset by partition) was sent, committed or not.

        A partition that has no such record has no time.
        """
        found: dict[int, datetime] = {}
        if not positions:
            return found
        with self._proof_consumer(committed=False) as consumer:
            for partition, start in positions.items():
                record = next(self._read_from(consumer, topic, partition, start), None)
                if record is not None:
                    found[partition] = datetime.fromtimestamp(record[1] / 1000, UTC)
        return found

    def read_newest(self, topic: str) -> dict[int, bytes]:
        """The value of the newest committed record, by partition; nothing for a partition without one."""
        return {partition: record.value() or b"" for partition, record in self._read_ends(topic)}

    def read_newest_versions(self, topic: str) -> list[tuple[int, datetime]]:
        """The header `version` and the time of each partition's newest record, where no transaction has sent it.

        At the end of what a transaction has sent there is its marker, which is no record.
        """
        found = []
        for _, record in self._read_ends(topic):
            version = dict(record.headers() or []).get("version")
            if isinstance(version, bytes) and version.isdigit():
                found.append((int(version), datetime.fromtimestamp(record.timestamp()[1] / 1000, UTC)))
        return found

    def _read_ends(self, topic: str) -> Iterator[tuple[int, Message]]:
        held = self.beginning_offsets(topic)
        with self._proof_consumer() as consumer:
            for partition, end in self.end_offsets(topic, committed=True).items():
                if end > held[partition]:
                    for record in self._poll_from(consumer, topic, partition, end - 1, end):
                        yield partition, record

    def read_last(self, topic: str, key: bytes) -> bytes | None:
        """The value of the newest committed record of this key in the topic's first partition; None for a tombstone.

        Without such a record it is None, too.

        Read backwards, for a compacted topic keeps what it was written in the last week. What was sent before the call
        in transactions that are still open is waited for: an older record may lie behind one of another sender's.
        Raises `BrokerUnavailableError` where such a one stays open.
        """
        end, first = self.end_offsets(topic)[0], self.beginning_offsets(topic)[0]
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while self.end_offsets(topic, committed=True)[0] < end:
            if time.monotonic() > deadline:
                raise BrokerUnavailableError(
                    f"The end of the topic {topic} lies behind an open transaction. It is read when that has ended."
                )
            time.sleep(0.05)
        width, until = _NEAR_OFFSETS, end
        with self._proof_consumer() as consumer:
            while until > first:
                start = max(first, until - width)
                records = self._poll_from(consumer, topic, 0, start, until)
                if values := [record.value() for record in records if record.key() == key]:
                    return values[-1]
                until, width = start, 10 * width
        return None

    def find_records(
        self, topic: str, ranges: Sequence[tuple[int, int, int]], *, committed: bool = True
    ) -> list[tuple[int, int]]:
        """The (partition, offset) of every committed record in ranges of (partition, from_offset, until_offset).

        A second, independent read (`read_committed`), for proofs that a range is empty. With `committed` false also
        records of transactions that were aborted or are open. What Kafka no longer holds cannot be read again and is
        left out.
        """
        held = self.beginning_offsets(topic)
        found: list[tuple[int, int]] = []
        with self._proof_consumer(committed=committed) as consumer:
            for partition, group in itertools.groupby(sorted(ranges), key=lambda found: found[0]):
                left = [(max(low, held[partition]), high) for _, low, high in group if high > held[partition]]
                for near in _gather(left):
                    for offset, _ in self._read_from(consumer, topic, partition, near[0][0], near[-1][1]):
                        _, high = near[bisect.bisect_right(near, offset, key=lambda found: found[0]) - 1]
                        if offset < high:
                            found.append((partition, offset))
        return found

    @contextlib.contextmanager
    def _proof_consumer(self, *, committed: bool = True) -> Iterator[Consumer]:
        from confluent_kafka import Consumer

        options = {
            "group.id": "headrace-proof",  # required by librdkafka; nothing is ever committed to it
            "enable.auto.commit": False,
            "isolation.level": "read_committed" if committed else "read_uncommitted",
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
        }
        consumer = Consumer(librdkafka.quiet({**self.client_config(), **options}, self._refusals))
        try:
            yield consumer
        finally:
            consumer.close()

    def _read_from(
        self, consumer: Consumer, topic: str, partition: int, start: int, until: float = math.inf
    ) -> Iterator[tuple[int, int]]:
        """Offset and time (milliseconds) of the partition's records from `start` to before `until`, or to its end."""
        for record in self._poll_from(consumer, topic, partition, start, until):
            yield record.offset() or 0, record.timestamp()[1]

    def _poll_from(
        self, consumer: Consumer, topic: str, partition: int, start: int, until: float = math.inf
    ) -> Iterator[Message]:
        """The partition's records from `start` to before `until`, or to its end."""
        from confluent_kafka import KafkaError, KafkaException, TopicPartition

        consumer.assign([TopicPartition(topic, partition, start)])
        heard_at = time.monotonic()
        while True:
            record = consumer.poll(_TIMEOUT_SECONDS)
            if record is None or time.monotonic() - heard_at > 2 * _TIMEOUT_SECONDS:
                raise self._unavailable(KafkaException("a second read got no answer"))
            error = record.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                return
            if error is not None and error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                continue  # nobody joins the group, so the right to it is not needed
            if error is not None:
                read = ("Read", f"topic {topic}", "the platform, which reads what is there")
                raise self._unavailable(KafkaException(error), *read)
            offset = record.offset()
            if offset is None or offset >= until:
                return
            yield record
            heard_at = time.monotonic()

    def _list_topics(self) -> ClusterMetadata:
        from confluent_kafka import KafkaException

        try:
            # Asked by name, the answer for a topic that was just created may be stale: the whole list is not.
            return self.admin().list_topics(timeout=_TIMEOUT_SECONDS)
        except KafkaException as error:
            raise self._unavailable(error) from None

    def _read_config(self, topic: str, name: str) -> str:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import ConfigResource, ResourceType

        self.partitions(topic)
        resource = ConfigResource(ResourceType.TOPIC, topic)
        try:
            described = self.admin().describe_configs([resource], request_timeout=_TIMEOUT_SECONDS)[resource].result()
        except KafkaException as error:
            right = ("DescribeConfigs", f"topic {topic}", "the checks of retention and compaction")
            raise self._unavailable(error, *right) from None
        return str(described[name].value)

    def _list_offsets(self, topic: str, spec: OffsetSpec, *, committed: bool = False) -> dict[int, int]:
        from confluent_kafka import IsolationLevel, KafkaException, TopicPartition

        wanted = {TopicPartition(topic, partition): spec for partition in self.partitions(topic)}
        level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        futures = self.admin().list_offsets(wanted, isolation_level=level, request_timeout=_TIMEOUT_SECONDS)
        try:
            return {tp.partition: future.result(_TIMEOUT_SECONDS).offset for tp, future in futures.items()}
        except (KafkaException, TimeoutError) as error:
            raise self._unavailable(error, *_to_see(topic)) from None

    def _demand_right_to_see(self, topic: str) -> None:
        """Raises `BrokerRefusedError` where a topic is not listed because the right to see it is missing."""
        from confluent_kafka import KafkaError, KafkaException, TopicCollection

        described = self.admin().describe_topics(TopicCollection([topic]), request_timeout=_TIMEOUT_SECONDS)[topic]
        try:
            described.result(_TIMEOUT_SECONDS)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise self._unavailable(error, *_to_see(topic)) from None

    def may_write(self, topic: str) -> bool:
        """Whether the cluster lets this account write to the topic. Raises `MissingTopicError` where it is not seen.

        Clients say of a refused transaction only that some topic of it was refused.
        """
        from confluent_kafka import KafkaException, TopicCollection
        from confluent_kafka.admin import AclOperation

        self.partitions(topic)
        asked = self.admin().describe_topics(
            TopicCollection([topic]), include_authorized_operations=True, request_timeout=_TIMEOUT_SECONDS
        )
        try:
            return AclOperation.WRITE in (asked[topic].result(_TIMEOUT_SECONDS).authorized_operations or ())
        except KafkaException as error:
            raise self._unavailable(error, *_to_see(topic)) from None

    def _settings_or_environment(self) -> Settings:
        # Dagster copies a resource for each run, without its private attributes.
        return self._settings or load_settings()

    def _secret_options(self) -> dict[str, str]:
        try:
            options = json.loads(self._settings_or_environment().kafka_config.get_secret_value() or "{}")
            if not isinstance(options, dict):
                raise TypeError
        except (ValueError, TypeError):
            raise SettingError("HEADRACE_KAFKA_CONFIG: must be a JSON object of librdkafka options.") from None
        texts = {key: _option_text(value) for key, value in options.items()}
        for key in _FILES & texts.keys():
            if not Path(texts[key]).is_dir() and texts[key] != "probe":  # librdkafka looks for authorities itself
                librdkafka.read_file(key, texts[key])
        return texts

    def _unavailable(
        self, error: Exception, operation: str = "Describe", resource: str = "cluster", part: str = "the platform"
    ) -> BrokerUnavailableError | SettingError:
        """The error for a call that failed; the rest says which right it needs, and on what."""
        from confluent_kafka import KafkaError

        answer = error.args[0] if error.args else None
        if isinstance(answer, KafkaError) and answer.code() == KafkaError._INVALID_ARG:  # before anybody was asked
            return SettingError(f"HEADRACE_KAFKA_CONFIG: {answer.str()}. It takes librdkafka's options.")
        for text in (str(error), self._refusals.newest):
            if (refused := find_refusal(text, operation, resource, part)) is not None:
                return self._look_closer(text, refused)
        if (waits := find_no_leader(str(error), resource)) is not None:
            return waits
        address = self.bootstrap_servers or "the embedded broker"
        return BrokerUnavailableError(
            f"No Kafka broker answered at {address} within {_TIMEOUT_SECONDS:g} s ({error}). Check that it runs, "
            "KAFKA_BOOTSTRAP_SERVERS, and the security options in HEADRACE_KAFKA_CONFIG."
        )

    def _look_closer(self, text: str, refused: BrokerRefusedError) -> BrokerRefusedError:
        """The same error, or one that says what is wrong with the broker's certificate."""
        address = find_address(text)
        if not address or "certificate verify failed" not in text:
            return refused
        trouble = broker_tls.find_trouble(address, self._secret_options())
        return find_refusal(f"ssl://{address}/ {trouble}", "", "", "") or refused


def _to_see(topic: str) -> tuple[str, str, str]:
    """What `_unavailable` takes of calls that ask for a topic's partitions and offsets."""
    return "Describe", f"topic {topic}", "the platform, which asks for its partitions and offsets"


def _gather(ranges: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Ranges of one partition, in order, in groups of those that lie near each other."""
    near: list[tuple[int, int]] = []
    for low, high in ranges:
        if near and low - near[-1][1] > _NEAR_OFFSETS:
            yield near
            near = []
        near.append((low, high))
    if near:
        yield near


def _option_text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)
