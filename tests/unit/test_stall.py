"""A stuck query among those that work, wait or are caught at work by chance."""

from __future__ import annotations

from jobs.supervision.stall import Stall, StallWatch
from platform_assets.streaming.progress import QueryProgress


def query(name: str, batch_id: int, busy: bool) -> QueryProgress:
    return QueryProgress(name, "q", batch_id, 0, 0.0, None, None, {}, None, busy)


def look(watch: StallWatch, now: float, *queries: QueryProgress) -> Stall | None:
    return watch.look({query.query: query for query in queries}, now)


def test_stall_lasts_from_the_first_look_at_the_batch() -> None:
    watch = StallWatch()
    assert look(watch, 100, query("a", 7, True), query("b", 3, True)) == Stall("a", 0)
    assert look(watch, 130, query("a", 8, True), query("b", 3, True)) == Stall("b", 30)


def test_idle_look_between_two_busy_ones_ends_the_stall() -> None:
    watch = StallWatch()
    look(watch, 100, query("a", 7, True))
    assert look(watch, 101, query("a", 7, False)) is None
    assert look(watch, 130, query("a", 7, True)) == Stall("a", 0)


def test_query_that_is_no_longer_there_is_not_stuck() -> None:
    watch = StallWatch()
    look(watch, 100, query("a", 7, True))
    assert look(watch, 130) is None
