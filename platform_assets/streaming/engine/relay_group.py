"""Runs the relays of a group as queries of one Spark application. The counterpart of `query_group` for relays."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from platform_assets.errors import HeadraceError, NotReadyError, TaskSlotsError
from platform_assets.streaming.engine.free_space import find_shortage
from platform_assets.streaming.engine.periodic_work import PeriodicWork, Task
from platform_assets.streaming.engine.query_errors import classify_failure
from platform_assets.streaming.engine.relay_query import RelayQuery
from platform_assets.streaming.engine.task_slots import count_task_slots

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from platform_assets.streaming.context import StreamContext
    from platform_assets.streaming.progress import QueryProgress
    from platform_assets.streaming.relay_spec import RelayStream

# A partition that is added has records at once, which nobody reads before it was seen here.
_PARTITIONS_SECONDS = 15.0


class RelayGroup:
    """See the module. `start` once, then `reconcile`, `progress`, `failure` as often as wanted, then `stop`."""

    def __init__(self, session: SparkSession, relays: Sequence[RelayStream], context: StreamContext) -> None:
        self._session, self._context, self._relays = session, context, relays
        self._opened = {stream.name: stream.open(context) for stream in relays}
        self._queries: dict[str, RelayQuery] = {}
        self._paused: frozenset[str] = frozenset()
        self._bounded = False
        self._slots = count_task_slots(session)
        self._work: PeriodicWork | None = None

    def start(self, *, bounded: bool = False, paused: frozenset[str] = frozenset()) -> None:
        """Refreshes what the relays look up and starts their queries, but those of `paused`.

        Raises `TaskSlotsError` where a partition would never be read, and `HeadraceError` when a query cannot start.
        """
        self._bounded, self._paused = bounded, paused
        if not bounded:
            self._demand_slots()
        try:
            for stream in self._relays:
                self._opened[stream.name].refresh()
                query = RelayQuery(self._session, stream, self._opened[stream.name], self._context)
                self._queries[stream.name] = query
                if stream.name not in paused:
                    query.start(bounded=bounded)
        except HeadraceError:
            raise
        except Exception as error:
            raise classify_failure("start", str(error), self._context) from error
        if not bounded:
            tasks = [Task(each.refresh_seconds, self._opened[each.name].refresh) for each in self._relays]
            self._work = PeriodicWork(
                [*tasks, Task(_PARTITIONS_SECONDS, self._watch_partitions)],
                lambda text: classify_failure("refresh", text, self._context),
            )
            self._work.start()

    def reconcile(
        self, paused: frozenset[str] = frozenset(), restart_at: Mapping[str, float] = MappingProxyType({})
    ) -> None:
        """Stops the queries of `paused`; starts those no longer in it, and those older than a wish.

        Starts those too whose relay would build something else into them now. Raises `HeadraceError` when a query
        cannot start.
        """
        for name, query in self._queries.items():
            if name in paused:
                query.stop()
                continue
            is_asked = name in self._paused or restart_at.get(name, 0.0) > query.started_at
            if is_asked or self._opened[name].name_built_in() != query.built_in:
                query.stop()
                try:
                    query.start()
                except Exception as error:
                    raise classify_failure(name, str(error), self._context) from error
        self._paused = paused

    def progress(self) -> dict[str, QueryProgress]:
        """Each started query's progress, by the relay's name."""
        found = {name: query.progress() for name, query in self._queries.items()}
        return {name: progress for name, progress in found.items() if progress is not None}

    def failure(self) -> HeadraceError | None:
        """Why the first query died, or what else cannot go on; None while all is well."""
        for query in self._queries.values():
            if (failure := query.failure()) is not None:
                return failure
        if self._work is not None and self._work.error is not None:
            return self._work.error
        return find_shortage(self._context.local_folders, self._context.min_free_bytes)

    def is_finished(self) -> bool:
        """Whether all queries of a bounded run have read what was there."""
        # Ended first, then why: of a query that dies between two looks the other order would see neither.
        return self._bounded and not any(each.is_active for each in self._queries.values()) and self.failure() is None

    def stop(self, grace_seconds: float) -> None:
        """Stops the queries, and the refresh within the grace. Never raises for a dead JVM."""
        from py4j.protocol import Py4JError

        deadline = time.monotonic() + grace_seconds
        if self._work is not None:
            self._work.begin_stop()
        try:
            for query in self._queries.values():
                query.stop()
        except (Py4JError, OSError):
            # The JVM is gone, and with it the queries: the checkpoint says where to go on.
            return
        finally:
            if self._work is not None:
                self._work.stop(max(1.0, deadline - time.monotonic()), lambda: None)
            for relay in self._opened.values():
                relay.close()

    def _demand_slots(self) -> None:
        if self._context.real_time_batch_seconds is None:
            return
        needed = {name: len(self._context.ingest[name].kafka_partitions) for name in self._opened}
        if sum(needed.values()) > self._slots:
            said = ", ".join(f"{count} of {self._context.ingest[name].topic}" for name, count in needed.items())
            raise TaskSlotsError(
                f"Real-time mode holds a task slot for each Kafka partition ({said}), and Spark has {self._slots}: the "
                f"others would never be read. Set HEADRACE_SPARK_MASTER=local[{sum(needed.values()) + 1}] or more, or "
                "HEADRACE_REAL_TIME=false."
            )

    def _watch_partitions(self) -> None:
        """Raises `NotReadyError` once a topic has more partitions than at the start: the next start counts anew."""
        for name in self._opened:
            ingest = self._context.ingest[name]
            ends = ingest.fetch_ends() if ingest.fetch_ends is not None else None
            if ends is not None and len(ends) > len(ingest.kafka_partitions):
                raise NotReadyError(
                    f"Topic {ingest.topic} has {len(ends)} partitions now, and had {len(ingest.kafka_partitions)} when "
                    f"{name} was started. The group is started again, with task slots for all of them."
                )
