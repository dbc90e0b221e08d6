"""What a table, a source and a stream are, as frozen values. Nothing here runs or imports Spark.

A stream file in `platform_assets/streams/` builds one `KafkaStream` or `TableStream`; `streaming.engine` runs
it; the composition root turns it into Dagster assets. Specs are safe to build at import in the code server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, TypeAlias

from platform_assets.errors import CatalogueError
from platform_assets.streaming.result_span import ResultSpan
from platform_assets.streaming.topic_spec import Topic
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True)
class TableSource:
    """What a stream reads of a Delta table's appends: the named columns of the rows of `event_types` (none: all).

    `time_column` is the event time, `watermark_delay` how far behind the table's frontier an event may come.

    `distinct_within` is for a transformation to which rows that agree in every column are as one, and times within a
    multiple of it are the same: sets of values in windows that begin and end at such multiples. It then gets one row
    for the equal ones that a task reads, with such a time. Whole seconds; none: every row, as it is.
    """

    table: TableSpec
    columns: tuple[str, ...]
    time_column: str
    watermark_delay: timedelta
    event_types: tuple[str, ...] = ()
    distinct_within: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        if self.distinct_within < timedelta(0) or self.distinct_within % timedelta(seconds=1):
            raise ValueError(f"{self.table.name}: distinct_within must be whole seconds, not {self.distinct_within}.")
        missing = [name for name in self.columns if name in self.table.partition_columns]
        if missing:
            raise ValueError(f"{self.table.name}: the files of a partitioned table do not hold {missing}.")
        if self.event_types and self.table.roles.event_type is None:
            raise ValueError(f"{self.table.name} has no column of event types, so none can be chosen.")

    @property
    def ddl(self) -> str:
        """The columns as Spark DDL."""
        types = {column.name: column.type for column in self.table.columns}
        return ", ".join(f"`{name}` {types[name]}" for name in self.columns)


@dataclass(frozen=True)
class KafkaStream:
    """One streaming query over a Kafka topic, and the tables that it fills with its records.

    Its tables are those of accepted, of quarantined and of deduplicated records, in this order, which
    `streaming.ingest.event_writer` writes. Offsets live in the checkpoint, never in a consumer group.
    `trigger_seconds` None: HEADRACE_TRIGGER_SECONDS.
    """

    topic: Topic
    trigger_seconds: float | None = None

    @property
    def name(self) -> str:
        """The query's name: the topic's."""
        return self.topic.name

    @property
    def tables(self) -> tuple[TableSpec, TableSpec, TableSpec]:
        """Returns those of the topic."""
        return self.topic.tables

    @property
    def main_table(self) -> TableSpec:
        """The table whose commits mark the query's progress."""
        return self.tables[0]


@dataclass(frozen=True)
class PublishedState:
    """Says of a topic that its last record of each `key` is the newest row by `time_column`, late or sent twice or not.

    The rows are those of the stream's table, and of `others`: tables of other writers, who commit a row before they
    send its record, and look afterwards whether one of the stream's is newer. Of one moment the other's row holds.
    """

    key: tuple[str, ...]
    time_column: str
    others: tuple[TableSpec, ...] = ()


@dataclass(frozen=True)
class TableStream:
    """One streaming query over a Delta table, and the table that it writes.

    `name` is the query's name; the main table's name is the last part of its checkpoint's path. `tables[0]` is the
    main table, whose commits say how far the query is. `transform` is a pure function that runs on a stream and, as
    the *twin*, on a batch: it gets the source's columns (the watermark already defined on a stream) and returns rows of
    `tables[0]`. `span` says where these lie in event time. `rule` says the same rows once more, as a query in DuckDB's
    dialect over a relation `events` with all rows and columns of the source: the check `parity` holds the table
    against it. Without a rule, or with reports by Spark, it takes the twin. `write_mode` is `upsert` (rows of the
    table's key are replaced while their window is open), `append`, or `latest`: of each key the table has the row that
    is the greatest by the columns `latest_by`, in whatever order they come, and no row is ever final or late.
    `trigger_seconds` None: HEADRACE_TRIGGER_SECONDS.
    `publish_topic`: a Kafka topic that gets every row as well (`streaming.derive.kafka_publisher`), or, with
    `published_state`, the newest row of each of its keys.
    """

    name: str
    source: TableSource
    tables: tuple[TableSpec, ...]
    transform: Callable[[DataFrame], DataFrame]
    span: ResultSpan
    rule: str | None = None
    write_mode: Literal["append", "upsert", "latest"] = "append"
    latest_by: tuple[str, ...] = ()
    trigger_seconds: float | None = None
    publish_topic: str | None = None
    published_state: PublishedState | None = None

    def __post_init__(self) -> None:
        if self.span.of_pairs and (self.write_mode != "append" or not self.span.by_user):
            raise ValueError(f"{self.name}: pairs are appended, and are of one user each (append, by_user).")
        if self.is_latest != bool(self.latest_by) or (self.is_latest and (self.publish_topic or self.rule is None)):
            raise ValueError(f"{self.name}: the latest rows need `latest_by` and a rule, and are not published.")
        table, user = self.source.table, self.span.user_column
        # A table that a stream has written has no roles; its columns are what the stream's file says.
        known = table.roles.user_id if table.layer == "silver" else user
        if self.span.by_user and (user != known or user not in {column.name for column in table.columns}):
            name = table.name
            raise ValueError(f"{self.name}: rows by user need the user of {name} (its roles) in a column {user}, too.")

    @property
    def main_table(self) -> TableSpec:
        """The table whose commits mark the query's progress."""
        return self.tables[0]

    @property
    def is_latest(self) -> bool:
        """Whether its table has the latest row of each key, so that time makes none of them final."""
        return self.write_mode == "latest"


Stream: TypeAlias = KafkaStream | TableStream


def select_ingest(streams: Iterable[Stream]) -> tuple[KafkaStream, ...]:
    """The streams over Kafka, in their order."""
    return tuple(stream for stream in streams if isinstance(stream, KafkaStream))


def select_derived(streams: Iterable[Stream]) -> tuple[TableStream, ...]:
    """The streams over tables, in their order."""
    return tuple(stream for stream in streams if isinstance(stream, TableStream))


def select_downstream(over: Iterable[KafkaStream], streams: Iterable[Stream]) -> tuple[TableStream, ...]:
    """The streams over tables that these streams over Kafka fill, or that such streams fill, in their order."""
    derived = select_derived(streams)
    filled = {table.name for stream in over for table in stream.tables}
    while more := {t.name for s in derived if s.source.table.name in filled for t in s.tables} - filled:
        filled |= more
    return tuple(stream for stream in derived if stream.source.table.name in filled)


def name_topics(streams: Iterable[Stream], shop_topic: str) -> dict[str, str]:
    """The topic on the broker that each stream over Kafka reads, by the stream's name."""
    return {stream.name: stream.topic.kafka_topic or shop_topic for stream in select_ingest(streams)}


@dataclass(frozen=True)
class Group:
    """What a file in `platform_assets/groups/` says: which topics are read together, and which streams follow.

    `topics` are names of streams over Kafka. `streams` are names of streams over tables; none named: all whose source
    is filled by these topics, or by such a stream. A topic, and a stream, is of one group. `closed_days` is the name of
    the asset that says which days the group has closed, in the layer `platform`; empty: closed_days_<name>.
    `relays` are names of files in `platform_assets/relays/`. A relay holds task slots for good, so that a group has
    either relays or streams.
    """

    name: str
    topics: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    closed_days: str = ""
    relays: tuple[str, ...] = ()

    def resolve(self, catalogue: Iterable[Stream]) -> StreamGroup:
        """The group with its streams, those over Kafka first. Raises `CatalogueError` for names that it cannot have."""
        known = {stream.name: stream for stream in catalogue}
        names = (*self.topics, *self.streams)
        if missing := [name for name in names if name not in known]:
            raise CatalogueError(
                f"Group {self.name}: there is no stream {', '.join(missing)}. There are: {', '.join(known)}."
            )
        if twice := {name for name in names if names.count(name) > 1}:
            raise CatalogueError(f"Group {self.name} names {', '.join(sorted(twice))} twice. Name it once.")
        if bool(names) == bool(self.relays):
            raise CatalogueError(
                f"Group {self.name}: name either topics and streams, or relays. A relay would keep the streams of its "
                "Spark application from their task slots."
            )
        ingest = select_ingest(known[name] for name in self.topics)
        derived = select_downstream(ingest, known.values())
        if self.streams:
            derived = select_derived(known[name] for name in self.streams)
        if len(ingest) < len(self.topics) or (self.streams and len(derived) < len(self.streams)):
            raise CatalogueError(
                f"Group {self.name}: `topics` are streams over Kafka, `streams` are streams over tables."
            )
        closed_days = self.closed_days or f"closed_days_{self.name}"
        return StreamGroup(self.name, (*ingest, *derived), closed_days, self.relays)


def name_sink(table: TableSpec) -> str:
    """The name of the sink of a table: `sink_gold_sessions`."""
    return f"sink_{table.name.replace('.', '_')}"


def name_publisher(stream: TableStream) -> str:
    """The name of what publishes a stream by transactions: `publish_high_value_users`."""
    return f"publish_{stream.name}"


@dataclass(frozen=True)
class StreamGroup:
    """Streams that share one Spark application: the unit that is deployed, supervised, stopped and restarted.

    `closed_days` and `relays` as in `Group`. `sinks` are tables that this group keeps in step in a database,
    `alerts` the names of its alerts and channels, `published` streams of other groups whose topics it writes: such a
    group has nothing else, and no Spark.
    """

    name: str
    streams: tuple[Stream, ...]
    closed_days: str = "closed_days"
    relays: tuple[str, ...] = ()
    sinks: tuple[TableSpec, ...] = ()
    alerts: tuple[str, ...] = ()
    published: tuple[TableStream, ...] = ()

    @property
    def query_names(self) -> tuple[str, ...]:
        """The names of its queries, sinks, alerts and publishers: what can be paused and started again alone."""
        followers = (*map(name_sink, self.sinks), *self.alerts, *map(name_publisher, self.published))
        return (*(stream.name for stream in self.streams), *self.relays, *followers)

    @property
    def ingest(self) -> tuple[KafkaStream, ...]:
        """Its streams over Kafka, in their order."""
        return select_ingest(self.streams)

    @property
    def derived(self) -> tuple[TableStream, ...]:
        """Its streams over tables, in their order."""
        return select_derived(self.streams)
