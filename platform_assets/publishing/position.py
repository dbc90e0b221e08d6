"""How far a topic is published: a record of Kafka's, written in the transaction of the records that it stands for.

A group's committed offset would do the same, but Kafka forgets that of a group without members after seven days.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from platform_assets.errors import BrokerUnavailableError
from platform_assets.publishing.selection import POSITIONS_TOPIC
from resources.kafka_records import read_last

if TYPE_CHECKING:
    from resources.kafka import KafkaResource


_Count = Annotated[int, msgspec.Meta(ge=0)]


class PublishedPosition(msgspec.Struct, frozen=True):
    """All of a table up to a version is in its topic. `digest` stands for that version's commit.

    `topic_id` is the cluster's for the topic: one that was made anew has another, and nothing of the table.
    `portions`: of the files of that version so many portions are, and the others are not; None: all.
    """

    table_id: str
    version: _Count
    digest: str
    topic_id: str
    portions: _Count | None = None


def encode(position: PublishedPosition) -> bytes:
    """The value of its record. Its key is the topic's name."""
    return msgspec.json.encode(position)


def read_position(kafka: KafkaResource, topic: str) -> PublishedPosition | None:
    """The newest one of a topic; None where there is none yet.

    Right only for the one producer of the topic's transactional id, after it has begun. Raises what Kafka's clients do,
    and `BrokerUnavailableError` for a record that this code did not write.
    """
    value = read_last(kafka, POSITIONS_TOPIC, topic.encode())
    try:
        return None if value is None else msgspec.json.decode(value, type=PublishedPosition)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BrokerUnavailableError(
            f"The newest record of {topic} in the topic {POSITIONS_TOPIC} is no position: somebody else has written "
            "there. Write a tombstone with this key, and the publisher begins as it first did (docs/publishing.md)."
        ) from None
