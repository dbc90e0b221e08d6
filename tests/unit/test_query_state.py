"""What is named next to a table's completeness, and how far apart late events are looked for."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.streaming.derive.query_state import name_hours
from platform_assets.streaming.derive.table_writer import split_by_pauses

pytestmark = pytest.mark.unit

BEGIN = datetime(2000, 1, 1, tzinfo=UTC)
times = st.lists(st.timedeltas(timedelta(0), timedelta(days=9_000)).map(lambda after: BEGIN + after), max_size=60)


@given(times)
def test_every_waiting_event_is_in_one_of_the_hours(waiting: list[datetime]) -> None:
    named = json.loads(name_hours(waiting))
    assert sum(hours["late_events"] for hours in named) == len(waiting)
    assert len(named) <= 25
    ranges = [(datetime.fromisoformat(hours["from"]), datetime.fromisoformat(hours["until"])) for hours in named]
    for moment in waiting:
        assert sum(first <= moment < until for first, until in ranges) == 1
    assert all(before[1] <= after[0] for before, after in pairwise(ranges))


@given(times, st.timedeltas(timedelta(0), timedelta(days=900)))
def test_ranges_hold_all_times_and_lie_further_apart_than_the_pause(found: list[datetime], pause: timedelta) -> None:
    ranges = split_by_pauses(found, pause)
    assert all(any(first <= moment <= last for first, last in ranges) for moment in found)
    assert all(after[0] - before[1] > pause for before, after in pairwise(ranges))
    assert {moment for pair in ranges for moment in pair} <= set(found)
