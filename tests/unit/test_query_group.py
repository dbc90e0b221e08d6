"""A query whose source was slow to start is started again; other ends are failures; slow starts stop no heartbeat.

Doubles: a machine so loaded that a Python process needs ten seconds to start can't be made on purpose.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from platform_assets.errors import CheckpointMismatchError, QueryFailedError
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.engine import query_group, relay_group
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.engine.relay_group import RelayGroup
from platform_assets.streaming.engine.table_query import SOURCE_ATTEMPTS, SOURCE_TIMED_OUT, TableQuery
from platform_assets.streaming.stream_spec import Stream, select_derived
from platform_assets.streams import load_streams

STREAM = next(stream for stream in select_derived(load_streams()) if stream.name == "sessions")
_NO_SESSION: Any = None


class DeadQuery:
    """A query that ended with this error."""

    isActive = False  # noqa: N815 (Spark's name)

    def __init__(self, error: str) -> None:
        self._error = error

    def exception(self) -> str:
        return self._error


@pytest.fixture
def starts() -> list[bool]:
    return []


def build_query(monkeypatch: pytest.MonkeyPatch, root: Path, starts: list[bool], error: str) -> TableQuery:
    """A dead query; each start from now on is noted, and the query dies again at once."""
    query = TableQuery(_NO_SESSION, STREAM, StreamContext(root.as_uri(), {}, "earliest", 1, 1.0, 1, None))
    monkeypatch.setattr(query, "_query", DeadQuery(error))
    monkeypatch.setattr(query, "start", lambda *, bounded: starts.append(bounded))
    return query


def test_a_query_whose_source_was_slow_is_started_again_a_few_times(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, starts: list[bool]
) -> None:
    query = build_query(monkeypatch, tmp_path, starts, f"org.apache.spark.SparkException: {SOURCE_TIMED_OUT}.")
    for _ in range(SOURCE_ATTEMPTS - 1):
        assert query.failure() is None
    assert starts == [False] * (SOURCE_ATTEMPTS - 1)
    assert isinstance(query.failure(), QueryFailedError)
    assert len(starts) == SOURCE_ATTEMPTS - 1


def test_any_other_end_is_a_failure_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, starts: list[bool]
) -> None:
    query = build_query(monkeypatch, tmp_path, starts, "the disk is on fire")
    assert "the disk is on fire" in str(query.failure())
    assert starts == []


@pytest.fixture(autouse=True)
def _no_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no session in which it could be made known."""
    monkeypatch.setattr(query_group, "register_source", lambda _session: None)


class SlowQuery:
    """A query whose start takes `seconds` of the test's clock."""

    def __init__(self, stream: Stream, clock: list[float], seconds: float) -> None:
        self.stream = stream
        self.started_at = 0.0
        self.is_first = True
        self._clock = clock
        self._seconds = seconds

    @property
    def is_active(self) -> bool:
        return self.started_at > 0

    def start(self) -> None:
        self.started_at = time.time()
        self._clock[0] += self._seconds

    def is_at_first_batch(self) -> bool:
        return self.is_active and self.is_first


@pytest.mark.parametrize(("seconds", "calls"), [(10.0, 5), (0.1, 1)])
def test_records_come_first_and_slow_starts_leave_time_for_a_heartbeat(
    monkeypatch: pytest.MonkeyPatch, seconds: float, calls: int
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    context = StreamContext("/nowhere", {}, "earliest", 1, 1.0, 1, None)
    group = QueryGroup(_NO_SESSION, load_streams(), context)
    queries = {stream.name: SlowQuery(stream, clock, seconds) for stream in load_streams()}
    monkeypatch.setattr(group, "_queries", queries)
    monkeypatch.setattr(group, "_waiting", [name for name in queries if name != "events"])
    queries["events"].start()
    group.reconcile()
    assert [name for name, query in queries.items() if query.is_active] == ["events"]

    queries["events"].is_first = False
    for number in range(calls):
        assert sum(query.is_active for query in queries.values()) == 1 + number
        group.reconcile()
    assert all(query.is_active for query in queries.values())


def test_a_start_that_is_refused_is_refused_by_its_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    context = StreamContext("/nowhere", {}, "earliest", 1, 1.0, 1, None)
    group = QueryGroup(_NO_SESSION, [STREAM], context)
    query = TableQuery(_NO_SESSION, STREAM, context)

    def refuse(*, bounded: bool = False) -> None:
        raise CheckpointMismatchError("the checkpoint is gone")

    monkeypatch.setattr(query, "start", refuse)
    monkeypatch.setattr(group, "_queries", {STREAM.name: query})
    monkeypatch.setattr(group, "_waiting", [STREAM.name])
    with pytest.raises(CheckpointMismatchError, match=r"^the checkpoint is gone$"):
        group.reconcile()


class DyingQuery:
    """A query that dies between the look for its error and the next one: it cannot be made to on purpose."""

    def __init__(self) -> None:
        self.started_at = 1.0
        self._looks = 0

    def _look(self) -> bool:
        """Whether it is alive, which it is for one look alone."""
        self._looks += 1
        return self._looks == 1

    @property
    def is_active(self) -> bool:
        return self._look()

    def failure(self) -> QueryFailedError | None:
        return None if self._look() else QueryFailedError("the disk is on fire")


@pytest.mark.parametrize("kind", [QueryGroup, RelayGroup])
def test_a_query_that_dies_between_two_looks_has_not_finished(
    monkeypatch: pytest.MonkeyPatch, kind: type[QueryGroup | RelayGroup]
) -> None:
    monkeypatch.setattr(relay_group, "count_task_slots", lambda _session: 1)
    group = kind(_NO_SESSION, [], StreamContext("/nowhere", {}, "earliest", 1, 1.0, 1, None))
    monkeypatch.setattr(group, "_bounded", True)
    monkeypatch.setattr(group, "_queries", {"dying": DyingQuery()})
    assert not group.is_finished()
    with pytest.raises(QueryFailedError, match="on fire"):
        raise group.failure() or AssertionError("a dead query and no failure")
