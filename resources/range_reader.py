"""Reads ranges of a topic with librdkafka, in whatever process asks: Spark's Python workers do.

Spark's own source hands each record from Java to Python, which costs twice what it costs to fetch it
(docs/measurements.md). What is read is the same: committed records, in the order of their offsets.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from platform_assets.errors import BrokerUnavailableError, LostOffsetsError, MissingTopicError
from platform_assets.kafka_errors import find_refusal, missing_right, no_leader
from resources.librdkafka import Refusals, quiet

if TYPE_CHECKING:
    import pyarrow as pa
    from confluent_kafka import Consumer, KafkaError, Message

# A record may have 16 MB: as many as this fit the memory before anybody knows how large they are.
_FIRST_RECORDS = 16
# Larger batches fall out of the processor's cache between two steps of the parser: 20,000 records cost a tenth more.
_MOST_RECORDS = 5_000
_BATCH_BYTES = 8 * 1024 * 1024
# What librdkafka fetches ahead: it is thrown away at the end of a range, and fetched again by the next one's reader.
_AHEAD_KIB = 8 * 1024
# Kafka sends compressed records, and librdkafka unpacks in one go what it was sent. LZ4 packs a value of 16 MB that is
# all one letter into 64 kB: of the default of 1 MiB that would be 256 MB for each partition.
_FETCH_BYTES = 256 * 1024
# librdkafka waits for as many records as are asked for: behind a gap there may be fewer.
_WAIT_SECONDS = 0.05
# As long as a broker takes to come back; longer, and the query fails, to be started again with patience.
_SILENCE_SECONDS = 60.0
_ANSWER_SECONDS = 5.0
# Who reads, for a person whose account may not.
_PART = "the stream over it"


@dataclass(frozen=True)
class RangeReader:
    """Reads with these options of librdkafka, which may hold secrets. May be sent to another process."""

    options: Mapping[str, str] = field(repr=False)
    most_records: int = _MOST_RECORDS
    """Of one batch."""

    def __call__(
        self, topic: str, ranges: Sequence[tuple[int, int, int]], with_headers: bool = False
    ) -> Iterator[pa.RecordBatch]:
        """The committed records in ranges of (partition, from_offset, until_offset), one range a partition.

        Batches of key, value, partition, offset and timestamp (UTC), bounded in bytes as well, with `with_headers` of
        headers too (a list of key and value, null for none); those of a partition in
        order. Raises `LostOffsetsError` where Kafka no longer holds one of the offsets, `MissingTopicError`, and
        `BrokerUnavailableError` when no record comes for a minute.
        """
        left = {partition: until for partition, start, until in ranges if start < until}
        if not left:
            return
        consumer, refusals = _open_consumer(json.dumps(dict(self.options), sort_keys=True))
        try:
            yield from self._read(consumer, topic, {p: start for p, start, _ in ranges}, left, with_headers, refusals)
        except Exception:
            _open_consumer.cache_clear()
            consumer.close()
            raise
        consumer.unassign()

    def _read(
        self, consumer: Consumer, topic: str, starts: Mapping[int, int], left: dict[int, int], with_headers: bool,
        refusals: Refusals,
    ) -> Iterator[pa.RecordBatch]:  # fmt: skip
        """Empties `left`, the ends of the ranges by partition, as they are reached."""
        from confluent_kafka import TopicPartition

        consumer.assign([TopicPartition(topic, partition, starts[partition]) for partition in left])
        count, heard_at = min(_FIRST_RECORDS, self.most_records), time.monotonic()
        log_ends: dict[int, int] = {}
        while left:
            messages = consumer.consume(count, _WAIT_SECONDS)
            said = [message for message in messages if message.error() is not None]
            log_ends |= {m.partition() or 0: m.offset() or 0 for m in said if _is_end(m.error(), topic)}
            read = [message for message in messages if message.error() is None] if said else messages
            batch = _build_batch(read, with_headers)
            inside, reached = _cut(batch, left)
            if len(inside):
                count = max(1, min(self.most_records, _BATCH_BYTES * len(inside) // max(inside.nbytes, 1)))
                yield inside
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > _SILENCE_SECONDS:
                raise _explain_silence(consumer, topic, left, log_ends, refusals)
            done = {p for p, until in left.items() if p in reached or log_ends.get(p, -1) >= until}
            for partition in done:
                del left[partition]
            if left and done:
                consumer.incremental_unassign([TopicPartition(topic, partition) for partition in done])


def _cut(batch: pa.RecordBatch, left: Mapping[int, int]) -> tuple[pa.RecordBatch, set[int]]:
    """The records before the ends of their ranges, and the partitions whose end is reached."""
    import numpy as np

    partitions, offsets = batch.column("partition").to_numpy(), batch.column("offset").to_numpy()
    is_inside, reached = np.zeros(len(batch), bool), set()
    for partition, until in left.items():
        is_own = partitions == partition
        is_inside |= is_own & (offsets < until)
        if (offsets[is_own] >= until - 1).any():
            reached.add(partition)
    return (batch if is_inside.all() else batch.filter(is_inside)), reached


def _explain_silence(
    consumer: Consumer, topic: str, left: Mapping[int, int], log_ends: Mapping[int, int], refusals: Refusals
) -> Exception:
    """Why no record comes: a new leader's log may end before what was planned from the old one's."""
    from confluent_kafka import KafkaException

    short = {partition: end for partition, end in log_ends.items() if end < left.get(partition, 0)}
    if short:
        said = ", ".join(f"partition {p} ends at {end}, before {left[p]}" for p, end in sorted(short.items()))
        return LostOffsetsError(f"Kafka no longer holds offsets of {topic} that are to be read: {said}.")
    try:
        partitions = consumer.list_topics(topic, timeout=_ANSWER_SECONDS).topics[topic].partitions
    except KafkaException:
        partitions = None
    if partitions is not None and not partitions:
        return _explain_missing(topic)
    if partitions is not None and any(partitions[p].leader < 0 for p in left if p in partitions):
        return no_leader(f"topic {topic}")
    if (refused := find_refusal(refusals.newest, "Read", f"topic {topic}", _PART)) is not None:
        return refused
    return BrokerUnavailableError(
        f"Kafka sent no record of {topic} for {_SILENCE_SECONDS:g} s. Check that the broker runs, and its log."
    )


def _is_end(error: KafkaError | None, topic: str) -> bool:
    """Whether this says that a partition has no more to read now; all else is raised."""
    from confluent_kafka import KafkaError, KafkaException

    assert error is not None
    if error.code() == KafkaError._PARTITION_EOF:
        return True
    if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
        raise LostOffsetsError(f"Kafka no longer holds offsets of {topic} that are to be read: {error.str()}")
    if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION):
        raise _explain_missing(topic)
    if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        raise missing_right("Read", f"topic {topic}", _PART)
    # Nobody joins the group, so the right to it is not needed; a connection is made anew.
    passing = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError.GROUP_AUTHORIZATION_FAILED)
    if error.retriable() or error.code() in passing:
        return False
    raise KafkaException(error)


def _explain_missing(topic: str) -> MissingTopicError:
    return MissingTopicError(f"Topic {topic} is gone from the broker. Create it again, or name another.")


def _build_batch(messages: Sequence[Message], with_headers: bool) -> pa.RecordBatch:
    import pyarrow as pa

    millis = pa.array([message.timestamp()[1] for message in messages], pa.timestamp("ms", tz="UTC"))
    columns = {
        "key": pa.array([message.key() for message in messages], pa.binary()),
        "value": pa.array([message.value() for message in messages], pa.binary()),
        "partition": pa.array([message.partition() for message in messages], pa.int32()),
        "offset": pa.array([message.offset() for message in messages], pa.int64()),
        "timestamp": millis.cast(pa.timestamp("us", tz="UTC")),
    }
    if with_headers:
        pair = pa.struct([("key", pa.string()), ("value", pa.binary())])
        columns["headers"] = pa.array([message.headers() for message in messages], pa.list_(pair))
    return pa.record_batch(columns)


@lru_cache(maxsize=4)
def _open_consumer(options: str) -> tuple[Consumer, Refusals]:
    """A consumer that stays connected from batch to batch. It joins no group and commits no offset."""
    from confluent_kafka import Consumer

    own = {
        "group.id": "headrace-ranges",  # required by librdkafka
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "queued.max.messages.kbytes": _AHEAD_KIB,
        "fetch.message.max.bytes": _FETCH_BYTES,
        # A full queue rests for so long before the next fetch; by default for a second.
        "fetch.queue.backoff.ms": 1,
        # A range that ends with the marker of a transaction ends with an answer without records, which is held back
        # for so long.
        "fetch.wait.max.ms": 10,
    }
    refusals = Refusals()
    return Consumer(quiet({**json.loads(options), **own}, refusals)), refusals
