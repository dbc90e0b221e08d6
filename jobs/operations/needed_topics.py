"""Which topics the enabled groups read and write, and what of them a broker lacks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from platform_assets.errors import MissingTopicError
from platform_assets.publishing.selection import POSITIONS_TOPIC
from platform_assets.relays import load_relays
from platform_assets.streaming.stream_spec import StreamGroup, name_topics
from resources import kafka_topics
from resources.kafka import KafkaResource
from resources.settings import Settings


@dataclass(frozen=True)
class NeededTopic:
    """A topic that streams read, or write to.

    `answered` is the topic whose records it answers, which it must have as many partitions as; empty for most.
    """

    name: str
    user: str
    is_read: bool = False
    is_compacted: bool = False
    answered: str = ""


@dataclass(frozen=True)
class FoundTopic:
    """A needed topic, and its partitions on the broker; 0: it does not exist."""

    needed: NeededTopic
    partitions: int


def list_needed(groups: Iterable[StreamGroup], settings: Settings) -> tuple[NeededTopic, ...]:
    """The topics of these groups, each once, those that are read first."""
    read: list[NeededTopic] = []
    written: list[NeededTopic] = []
    for group in groups:
        read += [NeededTopic(topic, name, True) for name, topic in name_topics(group.streams, settings.topic).items()]
        for relay in load_relays(group.relays):
            source = relay.source.kafka_topic
            read.append(NeededTopic(source, relay.name, True))
            written += [NeededTopic(output, relay.name, answered=source) for output in relay.outputs]
        if group.alerts and settings.alerts_topic:
            written.append(NeededTopic(settings.alerts_topic, group.name))
        if group.published:
            written.append(NeededTopic(POSITIONS_TOPIC, group.name, is_compacted=True))
        if settings.publish:
            written += [
                NeededTopic(stream.publish_topic, stream.name, is_compacted=True)
                for stream in group.derived
                if stream.publish_topic
            ]
    first: dict[str, NeededTopic] = {}
    for topic in (*written, *read):  # what a relay writes another group may read: the relay says its partitions
        first.setdefault(topic.name, topic)
    return tuple(sorted(first.values(), key=lambda topic: not topic.is_read))


def find_topics(needed: Sequence[NeededTopic], kafka: KafkaResource) -> list[FoundTopic]:
    """Each of these with what the broker has. Raises `BrokerUnavailableError`."""
    return [FoundTopic(topic, count_partitions(topic.name, kafka)) for topic in needed]


def create_topic(topic: NeededTopic, settings: Settings, kafka: KafkaResource) -> int:
    """Creates it by the settings; returns its partitions. Create those that are read first.

    Raises `SettingError` where the cluster refuses it, and `BrokerUnavailableError`.
    """
    partitions = settings.topic_partitions
    if topic.answered:
        partitions = max(partitions, count_partitions(topic.answered, kafka))
    config = {"cleanup.policy": "compact"} if topic.is_compacted else {}
    kafka_topics.create_topic(kafka, topic.name, partitions, settings.topic_replication, config)
    return partitions


def count_partitions(topic: str, kafka: KafkaResource) -> int:
    """The partitions of a topic on the broker; 0 where it does not exist."""
    try:
        return len(kafka.partitions(topic))
    except MissingTopicError:
        return 0
