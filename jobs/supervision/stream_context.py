"""Builds what the engine must know from settings and resources."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import msgspec

from jobs.supervision.publish_target import find_publish_target
from platform_assets.errors import BrokerUnavailableError, MissingTopicError, SettingError
from platform_assets.kafka_replication import find_weaknesses
from platform_assets.publishing.selection import select_transactional
from platform_assets.streaming.context import KafkaIngest, StreamContext
from platform_assets.streaming.engine.free_space import find_shortage
from platform_assets.streaming.event_rules import ANONYMOUS_USERS, PLACEHOLDER_IDS, EventRules, fold
from platform_assets.streaming.formats.registered_schema import SchemaSource, explain_no_registry
from platform_assets.streaming.repair.expiry import check_policy
from platform_assets.streaming.stream_spec import KafkaStream, Stream, name_topics, select_derived
from platform_assets.streams import load_all_streams
from resources.embedded.registry import find_registry
from resources.kafka_open_transactions import read_ends
from resources.kafka_records import read_newest, read_times
from resources.kafka_topics import ensure_topic, is_compacted, read_replication
from resources.range_reader import RangeReader

if TYPE_CHECKING:
    from platform_assets.streaming.relay_spec import RelayStream
    from platform_assets.streaming.topic_snapshot import TopicSnapshot
    from resources.kafka import KafkaResource
    from resources.lakehouse import LakehouseResource
    from resources.settings import Settings

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


def build_stream_context(
    settings: Settings,
    kafka: KafkaResource,
    lakehouse: LakehouseResource,
    streams: Sequence[Stream],
    relays: Sequence[RelayStream] = (),
    *,
    close_windows: bool = False,
    check_lease: Callable[[], None] | None = None,
) -> StreamContext:
    """Checks that the lakehouse can be written and the streams' topics are there (creates them on our own broker).

    A missing topic to which one of `streams` is to be published is a warning, and not published to. Raises
    `SettingError`, `StorageError`, `MissingTopicError`, `BrokerUnavailableError` or `RegistryUnavailableError`, each
    with one line that says the fix.
    """
    check_policy(load_all_streams(), settings.retention_days)
    lakehouse.check_writable()
    local_folders = tuple(str(folder) for folder in (lakehouse.local_root, settings.home) if folder and folder.exists())
    min_free_bytes = settings.min_free_mib * 1024 * 1024
    if (shortage := find_shortage(local_folders, min_free_bytes)) is not None:
        raise shortage
    topics = name_topics(streams, settings.topic)
    for name in topics.values():
        ensure_topic(kafka, name, settings.topic_partitions)
        _warn_of_compaction(name, kafka)
        _warn_of_replication(name, kafka)
    for relay in relays:
        _ensure_relay_topics(relay, settings, kafka)
    others = select_transactional(streams, settings)  # those have a group of their own
    published = frozenset(
        topic
        for stream in select_derived(streams)
        if (topic := stream.publish_topic) and stream not in others and _is_there(topic, settings, kafka)
    )
    minutes = settings.deduplication_horizon_minutes
    return StreamContext(
        lakehouse_root=lakehouse.root_uri,
        kafka_options=kafka.spark_options(),
        starting_offsets=settings.starting_offsets,
        max_offsets_per_trigger=settings.max_offsets_per_trigger,
        max_rows_per_batch=settings.max_rows_per_batch,
        max_bytes_per_batch=settings.max_mib_per_batch * 1024 * 1024,
        kafka_trigger_seconds=settings.trigger_seconds,
        max_record_bytes=settings.max_record_bytes,
        event_rules=_build_rules(settings),
        deduplication_horizon_micros=minutes * 60_000_000 if settings.deduplication else None,
        storage_options=lakehouse.storage_options(),
        idle_timeout_seconds=settings.idle_timeout_seconds or None,
        upkeep_seconds=settings.upkeep_seconds,
        close_windows=close_windows,
        local_folders=local_folders,
        min_free_bytes=min_free_bytes,
        vacuum_hours=settings.vacuum_hours,
        history_days=settings.history_days,
        retention_days=settings.retention_days,
        check_lease=check_lease,
        read_records=RangeReader(kafka.client_config()),
        schemas=_build_schemas(settings, streams),
        ingest={name: _build_ingest(topic, kafka) for name, topic in topics.items()}
        | {relay.name: _build_relay_ingest(relay, kafka) for relay in relays},
        real_time_batch_seconds=settings.real_time_batch_seconds if settings.real_time else None,
        publish_topics=published,
        publish_target=find_publish_target(settings) if published else None,
    )


def _build_ingest(topic: str, kafka: KafkaResource) -> KafkaIngest:
    return KafkaIngest(
        topic,
        tuple(kafka.end_offsets(topic)),
        fetch_held=lambda: fetch_held(kafka, topic),
        fetch_topic_id=lambda: _try(lambda: kafka.topic_id(topic)),
        fetch_is_compacted=lambda: _try(lambda: is_compacted(kafka, topic)),
        fetch_ends=lambda: _try(lambda: read_ends(kafka, topic)),
        fetch_times=lambda positions: _try(lambda: read_times(kafka, topic, positions)),
    )


def _build_schemas(settings: Settings, streams: Sequence[Stream]) -> SchemaSource | None:
    """The registry, where a topic needs it. Raises `SettingError` where none is set, and names the topic."""
    needed = [s.topic for s in streams if isinstance(s, KafkaStream) and s.topic.is_registered]
    if not needed:
        return None
    if not settings.schema_registry_url:
        raise explain_no_registry(needed[0])
    return SchemaSource(find_registry(settings), quarantines=settings.unknown_schemas == "quarantine")


def _ensure_relay_topics(relay: RelayStream, settings: Settings, kafka: KafkaResource) -> None:
    """Topics of a relay, those that it writes with as many partitions as the one that it reads, or more."""
    source = relay.source.kafka_topic
    ensure_topic(kafka, source, settings.topic_partitions)
    needed = len(kafka.partitions(source))
    for name in relay.outputs:
        ensure_topic(kafka, name, needed)
        if (found := len(kafka.partitions(name))) < needed:
            raise SettingError(
                f"Topic {name} has {found} partitions, and {source}, whose records it answers, has {needed}. Give it "
                f"as many: kafka-topics.sh --alter --topic {name} --partitions {needed}"
            )


def _build_relay_ingest(relay: RelayStream, kafka: KafkaResource) -> KafkaIngest:
    """Builds what a stream is told too; records wait that lie behind the newest that its answers name."""
    topic, answers = relay.source.kafka_topic, relay.outputs[0]

    from platform_assets.streaming.topic_snapshot import Relayed

    def fetch_relayed(start: Mapping[int, int]) -> Relayed:
        passed_on = dict(start)
        for value in read_newest(kafka, answers).values():
            if (found := _read_answer(value)) is not None:
                partition = found.source_partition
                passed_on[partition] = max(passed_on.get(partition, 0), found.source_offset + 1)
        ends = read_ends(kafka, topic)
        waiting = sum(max(0, end - passed_on[p]) for p, (end, _) in ends.items() if p in passed_on)
        return Relayed(sum(passed_on.values()), waiting)

    return replace(_build_ingest(topic, kafka), fetch_relayed=lambda start: _try(lambda: fetch_relayed(start)))


class _Answer(msgspec.Struct):
    source_partition: int
    source_offset: int


def _read_answer(value: bytes) -> _Answer | None:
    """Which record a relay's own answers; None for what somebody else has written into its topic."""
    try:
        return msgspec.json.decode(value, type=_Answer)
    except msgspec.DecodeError:
        return None


def fetch_held(kafka: KafkaResource, topic: str) -> TopicSnapshot:
    """What Kafka holds of a topic now. Raises `BrokerUnavailableError` or `MissingTopicError`."""
    from platform_assets.streaming.topic_snapshot import TopicSnapshot

    first, end = kafka.beginning_offsets(topic), kafka.end_offsets(topic)
    return TopicSnapshot(kafka.topic_id(topic), {partition: (first[partition], end[partition]) for partition in end})


def _build_rules(settings: Settings) -> EventRules:
    def texts(setting: str, usual: tuple[str, ...]) -> frozenset[str]:
        return fold(tuple(setting.split(",")) if setting else usual)

    return EventRules(
        settings.topic_time_zone,
        texts(settings.placeholder_ids, PLACEHOLDER_IDS),
        texts(settings.anonymous_users, ANONYMOUS_USERS),
    )


def _warn_of_compaction(topic: str, kafka: KafkaResource) -> None:
    # An account that may read the topic need not be allowed to read its configuration.
    if _try(lambda: is_compacted(kafka, topic)):
        _log.warning(
            "Topic %s is compacted: Kafka removes records that a newer one of the same key replaces, unread ones too. "
            "The check ledger says how many that may be at most. Set its cleanup.policy to delete.", topic,
        )  # fmt: skip


def _warn_of_replication(topic: str, kafka: KafkaResource) -> None:
    found = _try(lambda: read_replication(kafka, topic))
    for weakness in find_weaknesses(found) if found is not None else ():
        _log.warning("Topic %s: %s See docs/kafka-cluster.md.", topic, weakness)


def _try(ask: Callable[[], _T]) -> _T | None:
    """The answer, or None while the broker is away: the batch must not fail for that, and the next one asks again."""
    try:
        return ask()
    except (BrokerUnavailableError, MissingTopicError):
        return None


def _is_there(topic: str, settings: Settings, kafka: KafkaResource) -> bool:
    """Whether an output topic exists. A missing optional topic must not stop ingestion: one line reports it."""
    if not settings.publish:
        return False
    try:
        ensure_topic(kafka, topic, settings.topic_partitions, {"cleanup.policy": "compact"})
    except MissingTopicError:
        _log.warning(
            "Topic %s does not exist on the broker: nothing is published to it. Create it there (compacted) and "
            "restart the stream group, or set HEADRACE_PUBLISH=false.",
            topic,
        )
        return False
    return True
