"""Which windows a watermark has closed for an event, and how late events are put together for a repair."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.streaming.delta.commit_log import AppendedFile
from platform_assets.streaming.repair.late_portions import split_by_events
from platform_assets.streaming.result_span import ResultSpan, count_refused

MINUTE = timedelta(minutes=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.integers(1, 6).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))),
)
def test_closed_windows_are_those_that_end_at_or_before_the_watermark(
    event: int, watermark: int, sizes: tuple[int, int]
) -> None:
    size, slide = (n * 60_000_000 for n in (sizes[0] * sizes[1], sizes[1]))
    span = ResultSpan("a", "b", reach=MINUTE, window=(timedelta(microseconds=size), timedelta(microseconds=slide)))
    (found,) = count_refused(np.array([event]), span, watermark)
    starts = range(-size // slide * slide, event + slide, slide)
    assert found == sum(start <= event < start + size and start + size <= watermark for start in starts)


def test_without_windows_an_event_is_refused_when_its_pause_is_over() -> None:
    span = ResultSpan("a", "b", reach=MINUTE, inactivity=MINUTE)
    events = np.array([0, 1, 2])
    assert count_refused(events, span, 60_000_001).tolist() == [1, 1, 0]


def split(minutes: list[int], files: list[tuple[int, int]]) -> list[list[int]]:
    """Portions of late events at these minutes, over files of (first minute, rows)."""
    late = pa.table({"event_time": pa.array([EPOCH + n * MINUTE for n in minutes], pa.timestamp("us", tz="UTC"))})
    source = [AppendedFile(str(start), rows, start * 60_000_000, None) for start, rows in files]
    portions = [portion["event_time"].to_pylist() for portion in split_by_events(late, source)]
    return [[(time - EPOCH) // MINUTE for time in portion] for portion in portions]


def test_late_events_with_little_between_them_are_repaired_together() -> None:
    assert split([9000, 5, 400], [(0, 1000), (300, 1000), (8000, 1000)]) == [[5, 400, 9000]]
    assert split([], [(0, 1)]) == []


def test_much_between_two_late_events_is_not_read() -> None:
    assert split([5, 9, 400], [(0, 10), (100, 2_000_000)]) == [[5, 9], [400]]


def test_a_portion_has_its_limit() -> None:
    minutes = list(range(100))
    portions = split(minutes, [(n, 900_000) for n in minutes])
    assert [n for portion in portions for n in portion] == minutes
    assert max(map(len, portions)) == 23


def test_a_portion_has_not_more_late_events_than_can_be_collected() -> None:
    assert [len(portion) for portion in split([0] * 12_000, [(0, 12_000)])] == [5_000, 5_000, 2_000]
