"""What a query group must be told about its surroundings, as plain values: no resource, no Dagster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.formats.registered_schema import SchemaSource, SchemaTarget

if TYPE_CHECKING:
    from datetime import datetime

    import pyarrow as pa

    from platform_assets.streaming.topic_snapshot import Ends, Relayed, TopicSnapshot


class ReadRecords(Protocol):
    """Reads ranges of a topic. May be sent to another process."""

    def __call__(
        self, topic: str, ranges: Sequence[tuple[int, int, int]], with_headers: bool = False
    ) -> Iterator[pa.RecordBatch]:
        """The committed records in ranges of (partition, from_offset, until_offset), one range a partition.

        Batches of key, value, partition, offset, timestamp (UTC) and, if asked for, headers
        (`topic_tables.HEADERS_TYPE`), bounded in bytes; a partition's in order. Raises a
        `HeadraceError` where Kafka no longer holds an offset, or does not answer.
        """


@dataclass(frozen=True)
class KafkaIngest:
    """What a stream over Kafka must be told of its topic: the name on the broker, the partitions, and whom to ask.

    `fetch_held` asks Kafka what it holds of the topic now, `fetch_topic_id` for its id, `fetch_is_compacted` for its
    policy, `fetch_ends` up to where it can be read and up to where it is written, `fetch_times` when the record at or
    behind an offset of each partition was sent, committed or not; `fetch_relayed`, for relays, what was passed on and
    what waits, given the offsets before which nothing has to be. All but the first give None while Kafka does not
    answer (None instead of one of them: nobody can be asked).
    """

    topic: str
    kafka_partitions: tuple[int, ...] = ()
    fetch_held: Callable[[], TopicSnapshot] | None = field(default=None, repr=False)
    fetch_topic_id: Callable[[], str | None] | None = field(default=None, repr=False)
    fetch_is_compacted: Callable[[], bool | None] | None = field(default=None, repr=False)
    fetch_ends: Callable[[], Ends | None] | None = field(default=None, repr=False)
    fetch_times: Callable[[Mapping[int, int]], Mapping[int, datetime] | None] | None = field(default=None, repr=False)
    fetch_relayed: Callable[[Mapping[int, int]], Relayed | None] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class StreamContext:
    """The locations of tables and checkpoints, what is read, and how the streams run; `stream_context` builds it.

    `read_in_place` are tables that are not under the root, by name: what a replay reads and does not write.

    `kafka_options` are options of Spark's Kafka source (`kafka.*` and others) and may hold secrets: they are left out
    of the repr; `read_records` reads the records themselves, in Spark's tasks. `schemas` is the registry (None: there
    is none). `event_rules` are what of the event contract is the topic's own.
    `deduplication_horizon_micros` None turns deduplication off. `storage_options` are the object store's, for delta-rs;
    secrets too. A shop without an event for `idle_timeout_seconds` has its windows closed
    (None: never); `close_windows` does so at the end of a
    bounded run. Every `upkeep_seconds` a group writes its history, repairs late events and keeps its tables.
    A bounded run repairs late events for `repair_seconds` at its end (None: until none can be repaired).
    `publish_topics` are the topics to which streams that name them are published; `publish_target` says by which
    schemas (None: as JSON, by none). A group stops while less than
    `min_free_bytes` are free in one of `local_folders`. Files that a table has replaced are removed after
    `vacuum_hours`, once the group has read them; rows of days before the last `retention_days` of their table go (none
    named: they stay). The history of progress and of repairs goes after `history_days`.
    A batch of a stream over a table reads at most `max_rows_per_batch` rows of all types, and `max_bytes_per_batch` of
    files.
    `ingest` is what the streams over Kafka read, by the stream's name. `check_lease` is called
    before each commit, from any thread, and raises `GroupOwnedError` when another driver has taken over. `followers`
    are called every `upkeep_seconds` and at the end of a bounded run, on the thread of the upkeep; they raise nothing.
    Batches of relays last for `real_time_batch_seconds` (None: not in real-time mode, but for as short as they get).
    """

    lakehouse_root: str
    kafka_options: Mapping[str, str] = field(repr=False)
    starting_offsets: str
    max_offsets_per_trigger: int
    kafka_trigger_seconds: float
    max_record_bytes: int
    deduplication_horizon_micros: int | None
    event_rules: EventRules = field(default_factory=EventRules)
    storage_options: Mapping[str, str] = field(default_factory=dict, repr=False)
    idle_timeout_seconds: float | None = None
    upkeep_seconds: float = 60.0
    close_windows: bool = False
    repair_seconds: float | None = None
    publish_topics: frozenset[str] = frozenset()
    publish_target: SchemaTarget | None = None
    ingest: Mapping[str, KafkaIngest] = field(default_factory=dict)
    local_folders: tuple[str, ...] = ()
    min_free_bytes: int = 0
    vacuum_hours: int = 24
    history_days: int = 90
    retention_days: Mapping[str, int] = field(default_factory=dict)
    check_lease: Callable[[], None] | None = field(default=None, repr=False)
    followers: tuple[Callable[[], None], ...] = field(default=(), repr=False)
    read_records: ReadRecords | None = field(default=None, repr=False)
    schemas: SchemaSource | None = field(default=None, repr=False)
    read_in_place: Mapping[str, str] = field(default_factory=dict)
    real_time_batch_seconds: float | None = None
    max_rows_per_batch: int = 300_000
    max_bytes_per_batch: int = 128 * 1024 * 1024

    def table_uri(self, name: str) -> str:
        """The location of the table `<layer>.<table>`."""
        return self.read_in_place.get(name) or f"{self.lakehouse_root}/{name.replace('.', '/')}"

    def checkpoint_uri(self, name: str) -> str:
        """The checkpoint's location for the query that writes the table `<layer>.<table>`."""
        return f"{self.lakehouse_root}/_checkpoints/{name.replace('.', '/')}"
