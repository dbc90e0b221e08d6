"""Reads of a topic's records by a consumer of its own: for proofs, and for the newest of them.

Nothing is committed, and no group is joined.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from platform_assets.errors import BrokerUnavailableError
from resources.librdkafka import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message

    from resources.kafka import KafkaResource

# A read that begins elsewhere takes milliseconds, in which a consumer reads on over some thousand records. Of a topic
# that is written in transactions there are millions of ranges, each transaction's marker.
_NEAR_OFFSETS = 1_000


def read_times(kafka: KafkaResource, topic: str, positions: Mapping[int, int]) -> dict[int, datetime]:
    """When the first record at or behind each position (offset by partition) was sent, committed or not.

    A partition that has no such record has no time.
    """
    found: dict[int, datetime] = {}
    if not positions:
        return found
    with _proof_consumer(kafka, committed=False) as consumer:
        for partition, start in positions.items():
            record = next(_read_from(kafka, consumer, topic, partition, start), None)
            if record is not None:
                found[partition] = datetime.fromtimestamp(record[1] / 1000, UTC)
    return found


def read_newest(kafka: KafkaResource, topic: str) -> dict[int, bytes]:
    """The value of the newest committed record, by partition; nothing for a partition without one."""
    return {partition: record.value() or b"" for partition, record in _read_ends(kafka, topic)}


def read_newest_versions(kafka: KafkaResource, topic: str) -> list[tuple[int, datetime]]:
    """The header `version` and the time of each partition's newest record, where no transaction has sent it.

    At the end of what a transaction has sent there is its marker, which is no record.
    """
    found = []
    for _, record in _read_ends(kafka, topic):
        version = dict(record.headers() or []).get("version")
        if isinstance(version, bytes) and version.isdigit():
            found.append((int(version), datetime.fromtimestamp(record.timestamp()[1] / 1000, UTC)))
    return found


def read_last(kafka: KafkaResource, topic: str, key: bytes) -> bytes | None:
    """The value of the newest committed record of this key in the topic's first partition; None for a tombstone.

    Without such a record it is None, too.

    Read backwards, for a compacted topic keeps what it was written in the last week. What was sent before the call
    in transactions that are still open is waited for: an older record may lie behind one of another sender's.
    Raises `BrokerUnavailableError` where such a one stays open.
    """
    end, first = kafka.end_offsets(topic)[0], kafka.beginning_offsets(topic)[0]
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while kafka.end_offsets(topic, committed=True)[0] < end:
        if time.monotonic() > deadline:
            raise BrokerUnavailableError(
                f"The end of the topic {topic} lies behind an open transaction. It is read when that has ended."
            )
        time.sleep(0.05)
    width, until = _NEAR_OFFSETS, end
    with _proof_consumer(kafka) as consumer:
        while until > first:
            start = max(first, until - width)
            records = _poll_from(kafka, consumer, topic, 0, start, until)
            if values := [record.value() for record in records if record.key() == key]:
                return values[-1]
            until, width = start, 10 * width
    return None


def find_records(
    kafka: KafkaResource, topic: str, ranges: Sequence[tuple[int, int, int]], *, committed: bool = True
) -> list[tuple[int, int]]:
    """The (partition, offset) of every committed record in ranges of (partition, from_offset, until_offset).

    A second, independent read (`read_committed`), for proofs that a range is empty. With `committed` false also
    records of transactions that were aborted or are open. What Kafka no longer holds cannot be read again and is
    left out.
    """
    held = kafka.beginning_offsets(topic)
    found: list[tuple[int, int]] = []
    with _proof_consumer(kafka, committed=committed) as consumer:
        for partition, group in itertools.groupby(sorted(ranges), key=lambda found: found[0]):
            left = [(max(low, held[partition]), high) for _, low, high in group if high > held[partition]]
            for near in _gather(left):
                for offset, _ in _read_from(kafka, consumer, topic, partition, near[0][0], near[-1][1]):
                    _, high = near[bisect.bisect_right(near, offset, key=lambda found: found[0]) - 1]
                    if offset < high:
                        found.append((partition, offset))
    return found


def _read_ends(kafka: KafkaResource, topic: str) -> Iterator[tuple[int, Message]]:
    held = kafka.beginning_offsets(topic)
    with _proof_consumer(kafka) as consumer:
        for partition, end in kafka.end_offsets(topic, committed=True).items():
            if end > held[partition]:
                for record in _poll_from(kafka, consumer, topic, partition, end - 1, end):
                    yield partition, record


@contextlib.contextmanager
def _proof_consumer(kafka: KafkaResource, *, committed: bool = True) -> Iterator[Consumer]:
    consumer = kafka.consumer(
        group_id="headrace-proof",  # required by librdkafka; nothing is ever committed to it
        enable_auto_commit=False,
        isolation_level="read_committed" if committed else "read_uncommitted",
        enable_partition_eof=True,
        auto_offset_reset="error",
    )
    try:
        yield consumer
    finally:
        consumer.close()


def _read_from(
    kafka: KafkaResource, consumer: Consumer, topic: str, partition: int, start: int, until: float = math.inf
) -> Iterator[tuple[int, int]]:
    """Offset and time (milliseconds) of the partition's records from `start` to before `until`, or to its end."""
    for record in _poll_from(kafka, consumer, topic, partition, start, until):
        yield record.offset() or 0, record.timestamp()[1]


def _poll_from(
    kafka: KafkaResource, consumer: Consumer, topic: str, partition: int, start: int, until: float = math.inf
) -> Iterator[Message]:
    """The partition's records from `start` to before `until`, or to its end."""
    from confluent_kafka import KafkaError, KafkaException, TopicPartition

    consumer.assign([TopicPartition(topic, partition, start)])
    heard_at = time.monotonic()
    while True:
        record = consumer.poll(TIMEOUT_SECONDS)
        if record is None or time.monotonic() - heard_at > 2 * TIMEOUT_SECONDS:
            raise kafka.unavailable(KafkaException("a second read got no answer"))
        error = record.error()
        if error is not None and error.code() == KafkaError._PARTITION_EOF:
            return
        if error is not None and error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            continue  # nobody joins the group, so the right to it is not needed
        if error is not None:
            read = ("Read", f"topic {topic}", "the platform, which reads what is there")
            raise kafka.unavailable(KafkaException(error), *read)
        offset = record.offset()
        if offset is None or offset >= until:
            return
        yield record
        heard_at = time.monotonic()


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
