"""A day is closed once, when every stream's table is complete beyond what may be open at its end."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg

from jobs.supervision.table_events import _EVENTS_OF_ONE_PAGE, AssetEvent, TableEvents, read_closed_day
from platform_assets.reports.days import CLOSED_DAYS_KEY
from platform_assets.streaming.progress import QueryProgress
from platform_assets.streaming.stream_spec import select_derived
from platform_assets.streams import load_streams

STREAMS = load_streams()
DERIVED = [stream.name for stream in select_derived(STREAMS)]
MIDNIGHT = datetime(2024, 3, 1, tzinfo=UTC)
HALF_HOUR = timedelta(minutes=30)


def progress(complete_until: datetime | None, **others: datetime | None) -> dict[str, QueryProgress]:
    """Every stream's, all complete until then but for `others`."""
    complete = {name: others.get(name, complete_until) for name in DERIVED}
    times = {name: None if moment is None else moment.isoformat() for name, moment in complete.items()}
    return {
        stream.name: QueryProgress(stream.name, "q", 1, 0, 0.0, None, None, {}, None, False, times.get(stream.name))
        for stream in STREAMS
    }


def closed(*looks: dict[str, QueryProgress], since: date | None = None) -> list[str | None]:
    logged: list[AssetEvent] = []
    events = TableEvents(STREAMS, logged.append, "clickstream", since)
    for number, look in enumerate(looks):
        events.publish(look, float(number))
    assert all(event.asset_key == CLOSED_DAYS_KEY for event in logged)
    return [event.partition for event in logged if isinstance(event, dg.AssetMaterialization)]


def test_a_day_is_closed_when_what_was_open_at_its_end_is_over() -> None:
    early, late = progress(MIDNIGHT + HALF_HOUR - timedelta(microseconds=2)), progress(MIDNIGHT + HALF_HOUR)
    before = date(2024, 2, 28)
    assert closed(early, since=before) == []
    assert closed(early, late, late, since=before) == ["2024-02-29"]


def test_every_stream_must_have_come_so_far() -> None:
    later = MIDNIGHT + timedelta(hours=2)
    before = date(2024, 2, 28)
    assert closed(progress(later, sessions=MIDNIGHT), since=before) == []
    assert closed(progress(later, sessions=None), since=before) == []
    without_one = progress(later)
    del without_one["sessions"]
    assert closed(without_one, since=before) == []


def test_a_late_event_that_waits_for_repair_opens_no_day_again() -> None:
    assert closed(progress(MIDNIGHT + HALF_HOUR), progress(MIDNIGHT - HALF_HOUR), progress(MIDNIGHT + HALF_HOUR)) == [
        "2024-02-29"
    ]


def test_days_in_which_nobody_looked_are_closed_one_by_one() -> None:
    after = progress(MIDNIGHT + timedelta(days=2, hours=3))
    assert closed(after, since=date(2024, 2, 28)) == ["2024-02-29", "2024-03-01", "2024-03-02"]
    # Only the newest day of a history is closed: the reports of the others are a backfill's.
    assert closed(after) == ["2024-03-02"]


def test_the_event_log_says_which_day_a_group_closed_last() -> None:
    with dg.instance_for_test() as instance:
        assert read_closed_day(instance, "clickstream") is None
        for group, day in (("clickstream", "2024-02-28"), ("clickstream", "2024-02-29"), ("other", "2024-03-01")):
            event = dg.AssetMaterialization(CLOSED_DAYS_KEY, partition=day, metadata={"headrace/group": group})
            instance.report_runless_asset_event(event)
        assert read_closed_day(instance, "clickstream") == date(2024, 2, 29)


def report(instance: dg.DagsterInstance, partition: str | None, metadata: dict[str, Any] | None = None) -> None:
    instance.report_runless_asset_event(
        dg.AssetMaterialization(CLOSED_DAYS_KEY, partition=partition, metadata=metadata or {})
    )


def test_events_of_others_neither_end_the_search_nor_hide_the_groups_own_day() -> None:
    ours = {"headrace/group": "clickstream"}
    with dg.instance_for_test() as instance:
        report(instance, "2024-02-28", ours)
        report(instance, "2024-03-05")  # by hand, in the UI
        report(instance, None)
        report(instance, None, ours)
        report(instance, "not a day", ours)
        report(instance, "2999-01-01", ours)
        for value in (7, 1.5, {"a": 1}, None, dg.MetadataValue.url("clickstream"), dg.MetadataValue.md("x")):
            report(instance, "2024-03-06", {"headrace/group": value})
        for _ in range(_EVENTS_OF_ONE_PAGE + 20):
            report(instance, "2024-03-07", {"headrace/group": "other"})
        assert read_closed_day(instance, "clickstream") == date(2024, 2, 28)
        assert read_closed_day(instance, "nobody") is None


def test_years_are_closed_in_portions_one_with_each_heartbeat() -> None:
    logged: list[AssetEvent] = []
    events = TableEvents(STREAMS, logged.append, "clickstream", date(2024, 1, 1))
    look = progress(MIDNIGHT + HALF_HOUR)
    for heartbeat in range(1, 8):
        events.publish(look, float(heartbeat))
        assert len(logged) == min(10 * heartbeat, 59)
    assert [event.partition for event in logged] == [str(date(2024, 1, 2) + timedelta(days=n)) for n in range(59)]


def test_days_before_the_reports_first_are_passed_over() -> None:
    after = progress(MIDNIGHT + HALF_HOUR)
    for since in (date(2019, 10, 3), None):
        logged: list[AssetEvent] = []
        TableEvents(STREAMS, logged.append, "clickstream", since, date(2024, 3, 1)).publish(after, 1.0)
        assert logged == []
    TableEvents(STREAMS, logged.append, "clickstream", date(2019, 10, 3), date(2024, 2, 28)).publish(after, 1.0)
    assert [event.partition for event in logged] == ["2024-02-28", "2024-02-29"]
