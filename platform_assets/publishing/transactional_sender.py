"""Sends records and the position that they bring a topic to in one transaction of Kafka."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from platform_assets.errors import BrokerUnavailableError
from platform_assets.kafka_errors import find_refusal
from platform_assets.publishing.position import PublishedPosition, encode, read_position
from platform_assets.publishing.selection import POSITIONS_TOPIC
from resources.kafka_topics import ensure_topic, may_write

if TYPE_CHECKING:
    from confluent_kafka import KafkaException, Producer

    from resources.kafka import KafkaResource

# Kafka aborts a longer transaction: one version of a table with some millions of rows would never be sent. Behind a
# publisher that died readers of what is committed wait so long, unless its next start comes earlier.
_LONGEST_SECONDS = 300
# A coordinator that hangs must not keep a host from stopping.
_ANSWER_SECONDS = 30.0
_ABORT_SECONDS = 5.0
# With librdkafka's default, 1 GiB, a version of many rows would fill the memory where a broker is slow, and a commit,
# which waits until all is sent, would end before it.
_QUEUE_KIB = 32 * 1024
# Java's producers place a key so: a row's newer record must not lie in another partition than Spark has put the older.
_PARTITIONER = "murmur2_random"

OutRecord = tuple[bytes, bytes | None]
"""Key and value; without a value it is a tombstone."""


class TransactionalSender:
    """The one producer of a topic. Kafka refuses an earlier one of the same topic once this has begun.

    Used by one thread. After an error `open` it anew: what the transaction held is not there, unless it is committed,
    and then the position says so.
    """

    def __init__(
        self, kafka: KafkaResource, topic: str, partitions: int, check_lease: Callable[[], None] | None = None
    ) -> None:
        """`partitions`: as many has the topic where the embedded broker makes it."""
        self._kafka, self._topic, self._partitions, self._check_lease = kafka, topic, partitions, check_lease
        self._producer: Producer | None = None

    def open(self) -> PublishedPosition | None:
        """Begins, has Kafka end what an earlier one has left open, and returns the topic's position.

        Raises `MissingTopicError`, `BrokerRefusedError` and `BrokerUnavailableError`.
        """
        from confluent_kafka import KafkaException

        ensure_topic(self._kafka, self._topic, self._partitions, {"cleanup.policy": "compact"})
        ensure_topic(self._kafka, POSITIONS_TOPIC, 1, {"cleanup.policy": "compact"})
        millis = _LONGEST_SECONDS * 1000
        producer = self._kafka.producer(
            transactional_id=f"headrace-publish-{self._topic}", transaction_timeout_ms=millis,
            delivery_timeout_ms=min(120_000, millis), partitioner=_PARTITIONER, delivery_report_only_error=True,
            queue_buffering_max_kbytes=_QUEUE_KIB, socket_timeout_ms=min(60_000, millis),
        )  # fmt: skip
        try:
            producer.init_transactions(_ANSWER_SECONDS)
        except KafkaException as error:
            raise self._explain(error, "begins no transaction") from None
        position = read_position(self._kafka, self._topic)
        self._producer = producer
        return position

    def send(self, records: Iterable[OutRecord], headers: Mapping[str, str], position: PublishedPosition) -> int:
        """Sends all, and the position; returns how many records. Call `open` before.

        Raises `BrokerUnavailableError` and `BrokerRefusedError`, what the lease's check raises, and what `records`
        does. It must be opened anew then.
        """
        from confluent_kafka import KafkaException

        producer, self._producer = self._producer, None
        assert producer is not None
        encoded = [(name, text.encode()) for name, text in headers.items()]
        count, began = 0, time.monotonic()
        try:
            producer.begin_transaction()
            for key, value in records:
                _produce(producer, self._topic, value, key, encoded)
                count += 1
            _produce(producer, POSITIONS_TOPIC, encode(position), self._topic.encode(), [], partition=0)
            if self._check_lease is not None:
                self._check_lease()
            producer.commit_transaction(_ANSWER_SECONDS)
        except KafkaException as error:
            _abort(producer)
            if (seconds := time.monotonic() - began) >= _LONGEST_SECONDS:
                raise BrokerUnavailableError(
                    f"Kafka ends a transaction after {_LONGEST_SECONDS} s, and version {position.version} for the "
                    f"topic {self._topic} was being sent for {seconds:.0f} s. Nothing of it is published, and it is "
                    "tried again. docs/publishing.md says what to do with a version that is too large."
                ) from None
            raise self._explain(error, "has not taken a transaction") from None
        except BaseException:
            _abort(producer)
            raise
        self._producer = producer
        return count

    def close(self) -> None:
        """Lets go of the producer."""
        self._producer = None

    @property
    def is_open(self) -> bool:
        """Whether `send` can be called."""
        return self._producer is not None

    def _explain(self, error: KafkaException, what: str) -> BrokerUnavailableError:
        from confluent_kafka import KafkaError

        text = error.args[0].str()
        if error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            topics = (self._topic, POSITIONS_TOPIC)
            resource = f"topic {next((t for t in topics if not may_write(self._kafka, t)), self._topic)}"
        else:
            resource = f"transactional-id headrace-publish-{self._topic}"
        refused = find_refusal(str(error.args[0]), "Write", resource, "the publisher of a stream")
        return refused or BrokerUnavailableError(
            f"Kafka {what} for the topic {self._topic} ({text}). It is sent again, and nothing is sent twice."
        )


def _produce(
    producer: Producer, topic: str, value: bytes | None, key: bytes, headers: list[Any], partition: int = -1
) -> None:
    while True:
        try:
            producer.produce(topic, value, key, partition, headers=headers)
            return
        except BufferError:  # it is over when the broker takes records, or when they have timed out
            producer.poll(0.1)


def _abort(producer: Producer) -> None:
    """Readers need not wait until the next `open`. Where it fails they do, and nothing else is different."""
    from confluent_kafka import KafkaException

    with suppress(KafkaException):
        producer.abort_transaction(_ABORT_SECONDS)
