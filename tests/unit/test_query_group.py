"""A query whose source was slow to start is started again; whatever else ends a query is its failure.

Doubles: a machine so loaded that a Python process needs ten seconds to start can't be made on purpose.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from platform_assets.errors import QueryFailedError
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.stream_query import SOURCE_ATTEMPTS, SOURCE_TIMED_OUT, StreamQuery
from platform_assets.streams import load_streams

STREAM = next(stream for stream in load_streams() if stream.name == "sessions")
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


def build_query(monkeypatch: pytest.MonkeyPatch, root: Path, starts: list[bool], error: str) -> StreamQuery:
    """A dead query; each start from now on is noted, and the query dies again at once."""
    query = StreamQuery(_NO_SESSION, STREAM, StreamContext(root.as_uri(), "t", {}, "earliest", 1, 1.0, 1, None))
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
