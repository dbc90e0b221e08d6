"""Runs the streams of a group as queries of one Spark application.

Called by the host loop (a supervised run or a drain), from one thread. Tables are created, empty, before the first
batch. In bounded mode the streams over Kafka catch up first, then those over their tables: a stage a kind of source.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

from platform_assets.errors import HeadraceError
from platform_assets.streaming.derive.commit_stream import register_source
from platform_assets.streaming.engine.free_space import find_shortage
from platform_assets.streaming.engine.group_maintenance import GroupMaintenance
from platform_assets.streaming.engine.kafka_query import KafkaQuery
from platform_assets.streaming.engine.query_errors import classify_failure
from platform_assets.streaming.engine.table_query import TableQuery
from platform_assets.streaming.progress import QueryProgress
from platform_assets.streaming.stream_spec import Stream, select_derived, select_ingest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from platform_assets.streaming.context import StreamContext
    from platform_assets.streaming.engine.stream_query import StreamQuery

# On two cores the starts of five other queries made the first batch after a crash take twice its time. A backlog
# makes it long by itself: the others must not wait for that.
_FIRST_BATCH_SECONDS = 15.0
# The caller must send a heartbeat between two calls, each 30 seconds at least; on a loaded machine one start took ten.
_STARTS_SECONDS = 5.0


class QueryGroup:
    """See the module. `start` once, then `progress`/`failure`/`is_finished` as often as wanted, then `stop`."""

    def __init__(self, session: SparkSession, streams: Sequence[Stream], context: StreamContext) -> None:
        self._session = session
        self._context = context
        self._bounded = False
        self._ingest = select_ingest(streams)
        self._derived = select_derived(streams)
        self._ingest_names = {stream.name for stream in self._ingest}
        self._queries: dict[str, StreamQuery] = {}
        self._waiting: list[str] = []
        self._has_source = False
        self._paused: frozenset[str] = frozenset()
        self._maintenance: GroupMaintenance | None = None

    def start(self, *, bounded: bool = False, paused: frozenset[str] = frozenset()) -> None:
        """Creates the tables and starts the first query, or the first stage of a bounded run; not those of `paused`.

        `reconcile` starts the others.

        Raises `HeadraceError` when a query cannot start; those started before run on until `stop`.
        """
        self._bounded, self._paused = bounded, paused
        try:
            # All tables first: a stream reads another one's, and a person finds every table from the first moment.
            ingest = [KafkaQuery(self._session, stream, self._context) for stream in self._ingest]
            derived = [TableQuery(self._session, stream, self._context) for stream in self._derived]
            # Records come first: a stream over a table starts after the one that fills it.
            self._queries = {query.name: query for query in (*ingest, *derived)}
            self._maintenance = GroupMaintenance(self._session, ingest, derived, self._context)
            # A bounded query ends when nothing is left to close. One that goes on closes windows with its next batch,
            # and spares a second batch after each.
            self._session.conf.set("spark.sql.streaming.noDataMicroBatches.enabled", str(bounded).lower())
            self._waiting = [name for name in self._queries if name not in paused]
            if bounded:
                self._start_stage()
            elif self._waiting:
                self._start_next()
        except HeadraceError:
            raise
        except Exception as error:
            raise classify_failure("start", str(error), self._context) from error
        if not bounded:
            self._maintenance.start()

    def reconcile(
        self, paused: frozenset[str] = frozenset(), restart_at: Mapping[str, float] = MappingProxyType({})
    ) -> None:
        """Stops the queries of `paused`; starts those no longer in it, those older than a wish, those not yet started.

        Each stop at a batch boundary: a query with a batch in flight is left to the next call. So is what there is no
        time to start in this one. `restart_at` is seconds since the epoch by stream. Raises `HeadraceError` when a
        query cannot start.
        """
        still_paused = {name for name in paused if name in self._queries}
        self._waiting = [name for name in self._waiting if name not in paused]
        deadline = time.monotonic() + _STARTS_SECONDS
        for name, query in self._queries.items():
            # A pause that was taken back before it took effect leaves a closed gate behind: it is a restart as well.
            to_start = name not in paused and (name in self._paused or restart_at.get(name, 0.0) > query.started_at)
            if name in self._waiting or not (to_start or name in paused):
                continue
            if (to_start and time.monotonic() > deadline) or (query.is_active and not query.try_stop()):
                still_paused.add(name)
            elif to_start:
                self._start(name)
        self._paused = frozenset(still_paused)
        while self._waiting and time.monotonic() < deadline and not self._is_reading_first_records():
            self._start_next()

    def progress(self) -> dict[str, QueryProgress]:
        """Each started query's progress, by stream name."""
        found = {name: query.progress() for name, query in self._queries.items()}
        return {name: self._complete(progress) for name, progress in found.items() if progress is not None}

    def _complete(self, progress: QueryProgress) -> QueryProgress:
        """Adds what the query itself does not know: what the looks at its topic and its table have found."""
        name, maintenance = progress.query, self._maintenance
        if maintenance is None:
            return progress
        progress = replace(
            progress,
            complete_until=maintenance.complete_until().get(name),
            late_pending=maintenance.late_pending.get(name),
            late_repaired=maintenance.late_repaired.get(name, 0),
        )
        if (held := maintenance.held.get(name)) is not None:
            progress = replace(progress, held_records=held.records, held_since=_format_moment(held.since))
        if (unread := maintenance.unread.get(name)) is not None:
            progress = replace(progress, unread_records=unread.records, unread_since=_format_moment(unread.since))
        return progress

    def failure(self) -> HeadraceError | None:
        """Why the first query died, classified, or that the disk is nearly full.

        None while all are well, paused, or at the end of a bounded run.
        """
        for query in self._queries.values():
            started_at = query.started_at
            if (failure := query.failure()) is not None:
                return failure
            if query.started_at != started_at:
                break  # it was started again, which takes time: see `reconcile`
        if self._maintenance is not None and self._maintenance.error is not None:
            return self._maintenance.error
        return find_shortage(self._context.local_folders, self._context.min_free_bytes)

    def is_finished(self) -> bool:
        """Whether all stages of a bounded run have ended without a failure. Starts the next stage when one has ended.

        The last stage is followed by what a group that goes on does besides its queries: repair of what came late, for
        as long as the context says, removal of what has expired, upkeep of the tables. It raises `HeadraceError`.
        """
        # Ended first, then why: of a query that dies between two looks the other order would see neither.
        if not self._bounded or self._is_active() or self.failure() is not None:
            return False
        if self._is_active():  # `failure` has started one again
            return False
        assert self._maintenance is not None
        if self._waiting:
            if self._context.close_windows:
                self._maintenance.mark_read()
            self._start_stage()
            return False
        self._maintenance.finish(self._context.repair_seconds)
        return True

    def stop(self, grace_seconds: float) -> None:
        """Waits for the batches in flight, at most `grace_seconds` in all, stops the queries, writes the history.

        Never raises for a dead JVM.
        """
        from py4j.protocol import Py4JError

        deadline = time.monotonic() + grace_seconds
        try:
            # No query begins a batch while another one's is waited for, and no repair takes the cores from them.
            for query in self._queries.values():
                query.try_stop()
            if self._maintenance is not None:
                self._maintenance.interrupt()
            for query in self._queries.values():
                query.stop(deadline)
            if self._maintenance is not None:
                self._maintenance.stop(max(1.0, deadline - time.monotonic()))
        except (Py4JError, OSError):
            # The JVM is gone, and with it the queries: nothing is left to stop, the checkpoint says where to go on.
            return

    def _is_active(self) -> bool:
        return any(query.is_active for query in self._queries.values())

    def _is_reading_first_records(self) -> bool:
        """Whether a query over Kafka was started lately, and has neither ended a batch nor found nothing to do."""
        return any(
            time.time() - query.started_at < _FIRST_BATCH_SECONDS and query.is_at_first_batch()
            for name, query in self._queries.items()
            if name in self._ingest_names
        )

    def _start_next(self) -> None:
        self._start(self._waiting.pop(0))

    def _start(self, name: str) -> None:
        try:
            self._prepare_source(name)
            self._queries[name].start()
        except HeadraceError:
            raise
        except Exception as error:
            raise classify_failure(name, str(error), self._context) from error

    def _start_stage(self) -> None:
        """Starts those of the waiting streams that read the same kind of source as the first of them."""
        ingest = [name for name in self._waiting if name in self._ingest_names]
        stage = ingest or self._waiting
        self._waiting = self._waiting[len(stage) :]
        for name in stage:
            self._prepare_source(name)
            self._queries[name].start(bounded=self._bounded)

    def _prepare_source(self, name: str) -> None:
        """Makes the source of streams over tables known. It starts a Python process, for which records do not wait."""
        if not self._has_source and name not in self._ingest_names:
            register_source(self._session)
            self._has_source = True


def _format_moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
