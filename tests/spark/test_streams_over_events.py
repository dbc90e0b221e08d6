"""The streams over silver.events: the table that a stream writes = its twin on a batch = its rule in SQL, by DuckDB.

The stream is run in several micro-batches with a restart from its checkpoint between any two.
"""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.streaming.derive import batch_results
from platform_assets.streaming.repair.twin import run_twin as run_batch_twin
from platform_assets.streaming.stream_spec import select_derived
from platform_assets.streams import load_streams
from platform_assets.tables.platform import COMPLETE_UNTIL, LATE_EVENTS
from platform_assets.topics.events import EVENTS
from resources.lakehouse import LakehouseResource
from tests.generated_cases import examples
from tests.spark.report_cases import (
    HALF_HOUR,
    Event,
    event,
    events_frame,
    events_table,
    read_rows,
    shops,
    with_coordinates,
)
from tests.spark.streams_over_table import StreamsOverTable, in_order

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

STREAMS = {stream.name: stream for stream in select_derived(load_streams())}
# Alone on its day, of a type that only sessions count: it lets the watermarks pass all that is before.
CLOSER = event("closer", datetime(2024, 12, 1, 12, tzinfo=UTC), "remove_from_cart")
NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)


def vary(events: list[Event], chance: random.Random) -> list[Event]:
    """Gives the events categories, and some purchases a price of which two make a high-value user."""

    def revenue(e: Event) -> float:
        return chance.choice([e["revenue"], 60.0]) if e["event_type"] == "purchase" else 0.0

    return [{**e, "category": chance.choice(["toys", "books", None]), "revenue": revenue(e)} for e in events]


# Hypothesis tries the simplest first: everything at one moment, which is no test of watermarks.
VARIED_SHOPS = shops().filter(lambda events: len({e["event_time"] for e in events}) > 30)


# Windows of an event by stream: size, slide. A session, or a pair, is closed with the event's own time and a pause.
WINDOWS = {
    "revenue_by_category": (60.0, 30.0), "high_value_users": (300.0, 60.0), "conversion_funnel": (300.0, 60.0)
}  # fmt: skip
PAUSES = {"sessions": HALF_HOUR, "view_to_purchase": timedelta(0)}


SHOP = StreamsOverTable(EVENTS, STREAMS, events_table, CLOSER, WINDOWS, PAUSES, grows_late=frozenset({"sessions"}))
arrive, run_streams, ask_rule, run_twin = SHOP.arrive, SHOP.run, SHOP.ask_rule, SHOP.run_twin
assert_tables_equal_twins = SHOP.assert_equal_twins


@pytest.mark.parametrize("name", STREAMS)
def test_every_stream_has_a_rule(name: str) -> None:
    assert STREAMS[name].rule


@examples(3)
@given(shops(), st.integers(0, 2**32).map(random.Random))
def test_twin_equals_the_rule(spark: SparkSession, events: list[Event], chance: random.Random) -> None:
    events = vary(events, chance)
    for name in STREAMS:
        assert run_twin(spark, name, events) == ask_rule(name, events), name


@pytest.mark.long
@examples(1)
@given(VARIED_SHOPS, st.integers(0, 2**32).map(random.Random))
def test_stream_in_batches_with_restarts_equals_its_twin(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, events: list[Event], chance: random.Random
) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path_factory.mktemp("lakehouse")))
    SHOP.assert_restarts_change_nothing(spark, lakehouse, vary(events, chance), chance)


def test_where_each_task_writes_files_and_spark_merges_nothing_else_changes(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row is too many for the driver here: every batch is as one with more rows than it takes."""
    for name in ("_FEW_ROWS", "_LEAST_ROWS"):
        monkeypatch.setattr(batch_results, name, 0)
    chance = random.Random(7)
    times = sorted(NOON + chance.random() * timedelta(hours=2) for _ in range(200))
    events = [event(f"u{chance.randrange(20)}", at, chance.choice(["page_view", "purchase"])) for at in times]
    lakehouse, names = LakehouseResource(root=str(tmp_path)), ["sessions", "revenue_by_category", "view_to_purchase"]
    arrived = arrive(spark, lakehouse, [events[:120], [*events[120:], CLOSER]], names)
    for name in names:
        stream = STREAMS[name]
        asked = arrived if stream.write_mode == "upsert" else arrived[:-1]
        table = DeltaTable(lakehouse.table_uri(stream.main_table.name))
        assert in_order(stream, read_rows(lakehouse, stream.main_table.name)) == ask_rule(name, asked), name
        engines = {commit.get("engineInfo", "").split(":")[0].split("/")[0] for commit in table.history()[:-1]}
        assert engines == {"Apache-Spark" if stream.write_mode == "upsert" else "delta-rs"}, name
        assert {action["num_records"] > 0 for action in pa.table(table.get_add_actions()).to_pylist()} == {True}


@pytest.mark.long
@examples(1)
@given(VARIED_SHOPS, st.integers(0, 2**32).map(random.Random))
def test_late_events_are_counted_one_by_one_and_repaired(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, events: list[Event], chance: random.Random
) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path_factory.mktemp("lakehouse")))
    SHOP.assert_late_are_listed_and_repaired(spark, lakehouse, vary(events, chance), chance)


def test_a_session_that_goes_on_for_days_has_a_row_for_each_while_it_goes_on(
    spark: SparkSession, tmp_path: Path
) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path))
    # One event each 20 minutes for 60 hours, in parts with a restart between two; others pass by now and then.
    monitor = [event("monitor", NOON + timedelta(minutes=20 * n)) for n in range(3 * 60)]
    others = [event(f"u{n}", NOON + timedelta(hours=5 * n)) for n in range(12)]
    events = sorted([*monitor, *others], key=lambda e: e["event_time"])
    arrived = arrive(spark, lakehouse, [events[:100], events[100:150]], ["sessions"])
    days = [row["session_date"] for row in read_rows(lakehouse, "gold.sessions") if row["user_id"] == "monitor"]
    assert days == [NOON.date(), NOON.date() + timedelta(days=1)]
    (state,) = read_rows(lakehouse, COMPLETE_UNTIL.name)
    assert (state["late_events_pending"], state["exceptions"]) == (0, "[]")
    rest = [*events[150:], CLOSER]
    SHOP.append(lakehouse, rest, first_offset=len(arrived))
    arrived += rest
    run_streams(spark, lakehouse, ["sessions"])
    rows = [row for row in read_rows(lakehouse, "gold.sessions") if row["user_id"] != CLOSER["user_id"]]
    twin = [row for row in ask_rule("sessions", arrived) if row["user_id"] != CLOSER["user_id"]]
    assert in_order(STREAMS["sessions"], rows) == twin
    assert len(twin) == len(others) + 3


def test_a_late_event_that_waits_for_the_end_of_its_session_is_an_exception_and_nothing_more(
    spark: SparkSession, tmp_path: Path
) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path))
    monitor = [event("monitor", NOON + timedelta(minutes=20 * n)) for n in range(12)]
    late = event("monitor", NOON + timedelta(minutes=10))
    arrived = arrive(spark, lakehouse, [[*monitor, event("u", NOON + timedelta(hours=4))], [late]], ["sessions"])
    SHOP.append(lakehouse, [event("u2", NOON + timedelta(hours=4))], first_offset=len(arrived))
    run_streams(spark, lakehouse, ["sessions"])
    (state,) = read_rows(lakehouse, COMPLETE_UNTIL.name)
    assert state["complete_until"] == state["watermark"] == NOON + timedelta(hours=3, minutes=50)
    assert json.loads(state["exceptions"]) == [
        {"from": "2024-02-29T12:00:00+00:00", "until": "2024-02-29T13:00:00+00:00", "late_events": 1}
    ]


@pytest.mark.long
def test_an_event_that_continues_a_session_closed_before_it_came_becomes_part_of_it(
    spark: SparkSession, tmp_path: Path
) -> None:
    """Its own session would still be open: the watermark does not refuse it, and the stream begins a second one."""
    lakehouse = LakehouseResource(root=str(tmp_path))
    parts = [
        [event("u", NOON)],
        [event("other", NOON + timedelta(minutes=41))],
        # Only the first of these two continues anything.
        [event("u", NOON + timedelta(minutes=29)), event("third", NOON + timedelta(minutes=29))],
        [event("u", NOON + timedelta(minutes=50)), CLOSER],
    ]
    arrived = arrive(spark, lakehouse, parts)
    (own,) = (row for row in read_rows(lakehouse, "gold.sessions") if row["user_id"] == "u")
    assert (own["event_count"], own["duration_seconds"]) == (3, 50 * 60.0)
    assert_tables_equal_twins(spark, lakehouse, arrived)
    late = [row for row in read_rows(lakehouse, LATE_EVENTS.name) if row["query"] == "sessions"]
    assert [(row["kafka_offset"], row["refused_windows"]) for row in late] == [(2, 0)]


@pytest.mark.parametrize(
    ("lag", "pairs"),
    [
        (timedelta(0), 0),
        (timedelta(microseconds=1), 1),
        (timedelta(minutes=30), 1),
        (timedelta(minutes=30, microseconds=1), 0),
    ],
)
def test_a_pair_lies_at_most_thirty_minutes_apart(spark: SparkSession, lag: timedelta, pairs: int) -> None:
    events = with_coordinates([event("u", NOON), event("u", NOON + lag, "purchase")])
    assert len(run_twin(spark, "view_to_purchase", events)) == pairs


def test_a_window_ends_before_its_last_moment(spark: SparkSession) -> None:
    rows = run_twin(spark, "revenue_by_category", [event("u", NOON, "purchase")])
    assert [(row["window_start"], row["window_end"]) for row in rows] == [
        (NOON - timedelta(seconds=30), NOON + timedelta(seconds=30)),
        (NOON, NOON + timedelta(minutes=1)),
    ]


@pytest.mark.long
def test_a_hot_user_and_a_hot_product_lose_nothing(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fifth of all events is one user's, half of all are about one product: thousands of pairs under one key."""
    monkeypatch.setattr(batch_results, "_FEW_ROWS", 1_000)  # some tasks' rows come to the driver, others are in files
    chance = random.Random(11)
    times = sorted(NOON + chance.random() * timedelta(hours=2) for _ in range(3_000))
    events = [
        event(
            "hot" if chance.random() < 0.2 else f"u{chance.randrange(400)}",
            time,
            chance.choice(["page_view"] * 7 + ["add_to_cart", "purchase", "purchase"]),
            "hot" if chance.random() < 0.5 else f"p{chance.randrange(50)}",
        )
        for time in times
    ]
    lakehouse = LakehouseResource(root=str(tmp_path))
    arrived = arrive(spark, lakehouse, [events[:1_000], [*events[1_000:], CLOSER]])
    assert_tables_equal_twins(spark, lakehouse, arrived)
    pairs = read_rows(lakehouse, "gold.view_to_purchase")
    assert sum(row["user_id"] == "hot" for row in pairs) > 2_000
    assert in_order(STREAMS["view_to_purchase"], pairs) == ask_rule("view_to_purchase", arrived)


def test_events_older_than_a_column_have_null_there(spark: SparkSession) -> None:
    older = events_frame(spark, [event("u", NOON, "purchase", currency="EUR")]).drop("currency")
    found = run_batch_twin(older, STREAMS["revenue_by_category"]).toArrow()
    assert found["currency"].to_pylist() == [None, None] and found["total_revenue"].to_pylist() == [10.0, 10.0]


def test_exactly_one_hundred_is_not_high(spark: SparkSession) -> None:
    events = [event("low", NOON, "purchase", revenue=100.0), event("high", NOON, "purchase", revenue=100.01)]
    assert {row["user_id"] for row in run_twin(spark, "high_value_users", events)} == {"high"}


def test_a_rate_without_a_divisor_is_null(spark: SparkSession) -> None:
    rows = run_twin(spark, "conversion_funnel", [event("u", NOON, "purchase")])
    assert {(r["unique_visitors"], r["cart_conversion_rate"], r["purchase_conversion_rate"]) for r in rows} == {
        (0, None, None)
    }
    assert len(rows) == 5
