"""How Spark reads Kafka: the options of every read, and a read of given ranges outside a query."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from platform_assets.streaming.checkpoint.checkpoint import OffsetRange
    from platform_assets.streaming.context import StreamContext

# Kafka sends compressed records, and a consumer unpacks in one go what it was sent, up to 500 records, and keeps them
# until it is asked for more. LZ4 packs a value of 16 MB that is all one letter into 64 kB: of the default of 1 MiB that
# would be 256 MB for each partition. Of usual events 128 KiB are more than 500.
_MAX_FETCH_BYTES = 128 * 1024

# A broker that hangs, or whose host has lost its power, closes no connection: for the default of half a minute Spark
# would wait for its answer, while another one leads since ten seconds.
_REQUEST_TIMEOUT_MILLIS = 10_000
# Kafka's Java client asks the broker for offsets that led a partition when the call began. When that one has died
# and is out of the list of brokers, it waits for its return as long as a call may take (KAFKA-20673): by default a
# minute, with each broker that dies. Spark's next attempt asks the new leader; all of them take three minutes, as
# by default.
_CALL_TIMEOUT_MILLIS = 15_000
_ATTEMPTS = 12

_GROUP = "headrace-ranges"

RECORD_COLUMNS = ("key", "value", "partition", "offset", "timestamp")
"""What `record_parser` takes; of some topics it takes the headers too."""


def build_options(context: StreamContext) -> dict[str, str]:
    """Options of Spark's Kafka source for any read of the topic; a user's own Kafka options win."""
    # The client refuses a call that may take less time than each of its requests.
    request_millis = int(context.kafka_options.get("kafka.request.timeout.ms", _REQUEST_TIMEOUT_MILLIS))
    return {
        "kafka.max.partition.fetch.bytes": str(_MAX_FETCH_BYTES),
        "kafka.request.timeout.ms": str(request_millis),
        "kafka.default.api.timeout.ms": str(max(_CALL_TIMEOUT_MILLIS, request_millis)),
        "fetchOffset.numRetries": str(_ATTEMPTS),
        **context.kafka_options,
        "failOnDataLoss": "true",
        "kafka.isolation.level": "read_committed",
    }


def read_ranges(
    session: SparkSession, context: StreamContext, ranges: Sequence[OffsetRange], with_headers: bool = False
) -> DataFrame:
    """The records of these ranges of one topic, one range a partition; a partition's in the order of their offsets.

    Fails where Kafka no longer holds one of them. Not counted in the progress of any query.
    """
    topic = ranges[0].topic

    def as_json(offsets: dict[int, int]) -> str:
        return json.dumps({topic: {str(partition): offset for partition, offset in offsets.items()}})

    options = {
        # Spark keeps each consumer for five minutes, with the records that it fetched last, by its group; and makes up
        # a group for each read: after twenty reads of values of 16 MB the heap was full. No offset is committed to it.
        "kafka.group.id": _GROUP,
        **build_options(context),
        "assign": json.dumps({topic: [r.kafka_partition for r in ranges]}),
        "startingOffsets": as_json({r.kafka_partition: r.from_offset for r in ranges}),
        "endingOffsets": as_json({r.kafka_partition: r.until_offset for r in ranges}),
    }
    columns = [*RECORD_COLUMNS, *(["headers"] if with_headers else ())]
    read = session.read.format("kafka").options(**options).option("includeHeaders", str(with_headers).lower())
    return read.load().select(*columns)
