"""One publisher at work: follows its table's log, and sends what each version changed in one transaction of Kafka.

The position stands in the same transaction. So a kill at any moment sends a version again to nobody who reads what is
committed. What the log no longer says (it was cut, it is another table) is sent as a whole once more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from platform_assets.publishing.position import PublishedPosition
from platform_assets.publishing.record_writer import RecordWriter
from platform_assets.publishing.start_positions import StartPositions
from platform_assets.publishing.transactional_sender import OutRecord, TransactionalSender
from platform_assets.sinks.changed_rows import find_changed_rows
from platform_assets.sinks.file_rows import read_rows
from platform_assets.sinks.table_log import LogGapError, Step, TableLog
from platform_assets.sinks.table_version import build_nullable_schema, cut_portions, list_files, open_version
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.progress import QueryProgress, SinkProgress

if TYPE_CHECKING:
    from platform_assets.streaming.formats.registered_schema import SchemaTarget
    from platform_assets.streaming.stream_spec import TableStream
    from resources.duckdb import DuckDBResource
    from resources.kafka import KafkaResource
    from resources.lakehouse import LakehouseResource

# A damaged table, whose whole meets the same again, must not be sent in a loop.
_ANEW_SECONDS = 60.0
# Listing a log of 20,000 commits takes a disk 50 ms, and an object store 20 requests.
_LIST_SECONDS = 60.0

_log = logging.getLogger(__name__)


class TablePublisher:
    """The publisher of one stream. A `Follower`: its methods are called from one thread, plain values from any.

    `check_lease` is called before each commit, and raises where another host has taken over.
    """

    def __init__(
        self,
        stream: TableStream,
        kafka: KafkaResource,
        lakehouse: LakehouseResource,
        engine: DuckDBResource,
        target: SchemaTarget | None,
        partitions: int,
        check_lease: Callable[[], None] | None = None,
    ) -> None:
        """Contacts nobody. `partitions` as of `TransactionalSender`.

        Raises `SettingError` for a table that cannot be written in the format that is set.
        """
        assert stream.publish_topic is not None
        self.topic = stream.publish_topic
        self.subject = f"The publisher of {stream.main_table.name}"
        self.behind_since: datetime | None = None
        self.records = self.transactions = 0
        self.last_commit_at: datetime | None = None
        self._stream, self._table = stream, stream.main_table
        self._kafka, self._lakehouse, self._engine = kafka, lakehouse, engine
        self._writer = RecordWriter(stream, target)
        self._sender = TransactionalSender(kafka, self.topic, partitions, check_lease)
        uri = lakehouse.table_uri(self._table.name)
        self._table_log = TableLog(self._table.name, uri, lakehouse.storage_options())
        self._starts = StartPositions(self.topic, self._table.name, kafka, lakehouse, self._table_log)
        self._position: PublishedPosition | None = None
        self._sent_table_id: str | None = None
        self._listed_at = -_LIST_SECONDS
        self._begun_anew_at = -_ANEW_SECONDS

    @property
    def version(self) -> int | None:
        """The table's version that is published; None before the first."""
        position = self._position
        return None if position is None or position.portions is not None else position.version

    @property
    def lakehouse_root(self) -> str:
        """The root of the lakehouse."""
        return self._lakehouse.root_uri

    def newest_version(self) -> int | None:
        """The table's version now; None where there is no table."""
        bounds = self._table_log.read_bounds()
        return None if bounds is None else bounds[1]

    def note_lag(self) -> None:
        """Looks when the oldest commit was made that is not published."""
        if self.version is not None and self.behind_since is None:
            self.behind_since = self._table_log.read_time(self.version + 1)

    def close(self) -> None:
        """Lets go of Kafka. What was not committed is not there."""
        self._sender.close()
        self._listed_at = -_LIST_SECONDS

    def describe(self, name: str, trouble: str, *, is_busy: bool) -> QueryProgress:
        """How far it is, as `Follower.describe`. The rows of its `SinkProgress` are the records that it has sent."""
        behind = None if self.behind_since is None else self.behind_since.astimezone(UTC).isoformat()
        last = None if self.last_commit_at is None else self.last_commit_at.isoformat()
        return QueryProgress(
            query=name, query_id=self.topic, batch_id=self.transactions, rows_in=self.records, rows_per_second=0.0,
            lag_records=None, watermark=None, last_commit_at=last, busy=is_busy,
            table_versions={} if self.version is None else {self._table.name: self.version},
            sink=SinkProgress(self.version, self.records, behind, trouble),
        )  # fmt: skip

    def advance(self) -> bool:
        """Does the next transaction; False when there is nothing to do now.

        Raises what `TransactionalSender` does, what a registry does that gives no schema, what `check_lease` raises,
        and what the lakehouse's disk or store does. Nothing of it is published then.
        """
        if not self._sender.is_open and self._open():
            return True
        if self._position is None:
            return self._begin()
        try:
            if self._position.portions is not None:
                return self._send_portion(self._position, self._position.portions)
            return self._follow(self._position)
        except LogGapError as error:
            if time.monotonic() - self._begun_anew_at < _ANEW_SECONDS:
                raise LogGapError(
                    f"{self._table.name} cannot be published: {error}. Look at the table; it is tried again."
                ) from error
            self._begun_anew_at = time.monotonic()
            _log.warning(
                "%s cannot follow it: %s. All its rows are sent to %s once more, with batch=whole in their headers. "
                "Keys that have gone meanwhile have no tombstone.", self.subject, error, self.topic,
            )  # fmt: skip
            return self._begin_whole()

    def _open(self) -> bool:
        """Learns how far the topic is; True where that took a transaction."""
        position = self._sender.open()
        try:
            self._starts.demand_alone(position, self._sent_table_id)
            self._position = position
            if position is not None and position.topic_id != self._starts.read_topic_id():
                _log.warning("The topic %s was made anew. %s sends it the whole table.", self.topic, self.subject)
                self._position = None
                return self._begin_whole()
            if position is not None and position.portions is not None:
                return False
            ahead = self._starts.find_sent_by_stream(position)
            if ahead is None:
                return False
            _log.warning("%s begins behind version %d, which the stream has published.", self.subject, ahead.version)
            self._send((), "none", ahead)
            return True
        except BaseException:
            self._sender.close()
            raise

    def _begin(self) -> bool:
        """Finds where to begin. A topic that has had records was published before: by an earlier setting."""
        if not sum(self._kafka.end_offsets(self.topic).values()):
            return self._begin_whole()
        newest = self._starts.find_newest()
        if newest is None:
            return False
        self._send((), "none", newest)
        _log.warning(
            "%s begins behind version %d: the topic %s has records already, which stand for the versions before.",
            self.subject, newest.version, self.topic,
        )  # fmt: skip
        return True

    def _begin_whole(self) -> bool:
        if not self._sender.is_open:
            self._sender.open()
        newest = self._starts.find_newest()
        if newest is None:
            return False
        self._send((), "none", msgspec.structs.replace(newest, portions=0))
        return True

    def _send_portion(self, position: PublishedPosition, done: int) -> bool:
        """Sends some files of a whole table. The same version gives the same portions."""
        table = open_version(self._lakehouse, self._table.name, position.version, position.table_id)
        portions = cut_portions(list_files(table))
        left = len(portions) - done
        rows = read_rows(self._table_log.files, portions[done], build_nullable_schema(self._table)) if left > 0 else ()
        after = msgspec.structs.replace(position, portions=done + 1 if left > 1 else None)
        self._send(self._writer.write_rows(rows), "whole", after)
        return True

    def _follow(self, position: PublishedPosition) -> bool:
        """Sends what the next version changed."""
        if time.monotonic() - self._listed_at > _LIST_SECONDS:
            self._table_log.demand_followed(position.version, position.digest)
            if position.topic_id != self._starts.read_topic_id():
                self._sender.close()
                return True
            self._listed_at = time.monotonic()
        step = self._table_log.read_step(position.version, position.digest, position.table_id, position.version + 1)
        if step is None:
            self.behind_since = None
            return False
        self.behind_since = step.first_committed_at
        info = self._table_log.read_info(step.version)
        after = msgspec.structs.replace(position, version=step.version, digest=step.digest)
        if info is not None and info.kind is CommitKind.EXPIRY:
            # A topic has a retention of its own; rows that the table no longer keeps are not wrong.
            self._send((), "none", after)
            return True
        self._send(self._read_changes(step), _name_batch(info), after)
        return True

    def _read_changes(self, step: Step) -> Iterator[OutRecord]:
        files, schema = self._table_log.files, build_nullable_schema(self._table)
        with find_changed_rows(self._engine, files, step, self._table, schema) as changed:
            yield from chain(self._writer.write_rows(changed.come), self._writer.write_tombstones(changed.ended))

    def _send(self, records: Iterable[OutRecord], batch: str, position: PublishedPosition) -> None:
        headers = {"query": self._stream.name, "batch": batch, "version": str(position.version)}
        count = self._sender.send(records, headers, position)
        self._position, self._sent_table_id = position, position.table_id
        self.records += count
        self.transactions += 1
        self.last_commit_at = datetime.now(UTC)
        self.behind_since = None if self.version is None else self._table_log.read_time(position.version + 1)


def _name_batch(info: CommitInfo | None) -> str:
    """What the header `batch` says: a number, or why a version was made that is no batch's."""
    if info is None:
        return "other"
    return str(info.batch) if info.kind is CommitKind.BATCH else info.kind.value
