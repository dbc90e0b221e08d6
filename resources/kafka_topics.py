"""Topics of a cluster: their creation, how long and how often they are kept, and the right to write to them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from platform_assets.errors import BrokerUnavailableError, MissingTopicError, SettingError
from platform_assets.kafka_replication import Replication
from resources.librdkafka import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from resources.kafka import KafkaResource


def ensure_topic(kafka: KafkaResource, topic: str, partitions: int, config: Mapping[str, str] | None = None) -> None:
    """Makes sure that the topic exists and clients can see it; `config` counts at its creation.

    Creates it on the embedded broker only; on any other a missing one raises `MissingTopicError`, for its
    replication and retention are its owner's to choose. An existing topic is left as it is.
    """
    if kafka.is_embedded:
        create_topic(kafka, topic, partitions, 1, config)
    else:
        kafka.partitions(topic)


def create_topic(
    kafka: KafkaResource, topic: str, partitions: int, replication: int, config: Mapping[str, str] | None = None
) -> None:
    """Creates the topic on whatever broker, unless it exists, and returns when clients can see it.

    An existing topic is left as it is. Raises `SettingError` where the cluster refuses it as it is asked for, such
    as with more replicas than there are brokers.
    """
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import NewTopic

    wanted = NewTopic(topic, partitions, replication, config=dict(config or {}))
    created = kafka.admin().create_topics([wanted], operation_timeout=TIMEOUT_SECONDS)
    try:
        created[topic].result(TIMEOUT_SECONDS)
    except KafkaException as error:
        code, text = error.args[0].code(), error.args[0].str()
        if code in (KafkaError.INVALID_REPLICATION_FACTOR, KafkaError.INVALID_PARTITIONS,
                    KafkaError.POLICY_VIOLATION):  # fmt: skip
            raise SettingError(
                f"HEADRACE_TOPIC_REPLICATION, HEADRACE_TOPIC_PARTITIONS: {kafka.servers()} refuses the topic "
                f"{topic} with {partitions} partitions of {replication} replicas: {text}"
            ) from None
        if code != KafkaError.TOPIC_ALREADY_EXISTS:
            raise kafka.unavailable(error, "Create", f"topic {topic}", "headrace topics") from None
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:  # creation is acknowledged before every partition has a leader
        try:
            kafka.partitions(topic)
            kafka.end_offsets(topic)
            return
        except (MissingTopicError, BrokerUnavailableError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def read_retention(kafka: KafkaResource, topic: str) -> timedelta | None:
    """How long the broker keeps a record of the topic; None: without a limit of time."""
    milliseconds = int(_read_config(kafka, topic, "retention.ms"))
    return None if milliseconds < 0 else timedelta(milliseconds=milliseconds)


def read_retention_bytes(kafka: KafkaResource, topic: str) -> int | None:
    """How much of each partition of the topic the broker keeps; None: without a limit of size."""
    limit = int(_read_config(kafka, topic, "retention.bytes"))
    return None if limit < 0 else limit


def is_compacted(kafka: KafkaResource, topic: str) -> bool:
    """Whether the broker removes records of the topic that a newer one of their key replaces, unread ones too."""
    return "compact" in _read_config(kafka, topic, "cleanup.policy")


def read_replication(kafka: KafkaResource, topic: str) -> Replication:
    """How often the cluster keeps the topic's records."""
    in_sync, unclean = (
        _read_config(kafka, topic, name) for name in ("min.insync.replicas", "unclean.leader.election.enable")
    )
    metadata = kafka.list_topics()
    partitions = metadata.topics[topic].partitions.values()
    replicas = min(len(partition.replicas) for partition in partitions)
    return Replication(len(metadata.brokers), replicas, int(in_sync), unclean == "true")


def may_write(kafka: KafkaResource, topic: str) -> bool:
    """Whether the cluster lets this account write to the topic. Raises `MissingTopicError` where it is not seen.

    Clients say of a refused transaction only that some topic of it was refused.
    """
    from confluent_kafka.admin import AclOperation

    kafka.partitions(topic)
    return AclOperation.WRITE in (kafka.describe_topic(topic, with_rights=True).authorized_operations or ())


def _read_config(kafka: KafkaResource, topic: str, name: str) -> str:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import ConfigResource, ResourceType

    kafka.partitions(topic)
    resource = ConfigResource(ResourceType.TOPIC, topic)
    try:
        described = kafka.admin().describe_configs([resource], request_timeout=TIMEOUT_SECONDS)[resource].result()
    except KafkaException as error:
        right = ("DescribeConfigs", f"topic {topic}", "the checks of retention and compaction")
        raise kafka.unavailable(error, *right) from None
    return str(described[name].value)
