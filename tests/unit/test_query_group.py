"""A query whose source was slow to start is started again; whatever else ends a query is its failure.

Doubles: a machine so loaded that a Python process needs ten seconds to start can't be made on purpose.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from platform_assets.errors import QueryFailedError
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.query_group import SOURCE_ATTEMPTS, SOURCE_TIMED_OUT, QueryGroup
from platform_assets.streams import load_streams

STREAM = next(stream for stream in load_streams() if stream.name == "sessions")


class DeadQuery:
    """A query that ended with this error."""

    isActive = False  # noqa: N815 (Spark's name)

    def __init__(self, error: str) -> None:
        self._error = error

    def exception(self) -> str:
        return self._error


def build_group(monkeypatch: pytest.MonkeyPatch, error: str) -> tuple[QueryGroup, list[str]]:
    """A group with one dead query, and the names of the queries that it starts from now on (which die at once)."""
    group, started = QueryGroup(_NO_SESSION, [STREAM], StreamContext("/lake", "t", {}, "earliest", 1, 1.0, 1, None)), []
    queries: dict[str, Any] = {STREAM.name: (STREAM, SimpleNamespace(error=None), DeadQuery(error))}
    monkeypatch.setattr(group, "_queries", queries)
    monkeypatch.setattr(group, "_start_query", lambda stream: started.append(stream.name))
    return group, started


_NO_SESSION: Any = None


def test_a_query_whose_source_was_slow_is_started_again_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    group, started = build_group(monkeypatch, f"org.apache.spark.SparkException: {SOURCE_TIMED_OUT}.")
    for _ in range(SOURCE_ATTEMPTS - 1):
        assert group.failure() is None
    assert started == [STREAM.name] * (SOURCE_ATTEMPTS - 1)
    assert isinstance(group.failure(), QueryFailedError)
    assert len(started) == SOURCE_ATTEMPTS - 1


def test_any_other_end_is_a_failure_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    group, started = build_group(monkeypatch, "the disk is on fire")
    assert "the disk is on fire" in str(group.failure())
    assert started == []
