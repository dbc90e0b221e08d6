"""The streams over silver.events: the table that a stream writes = its twin on a batch = an oracle in SQL.

The stream is run in several micro-batches with a restart from its checkpoint between any two.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.query_group import QueryGroup
from platform_assets.streaming.specs import StreamSpec, TableSource
from platform_assets.streams import load_streams
from resources.lakehouse import LakehouseResource
from tests.bounded_run import run_to_end
from tests.spark.report_cases import Event, append_events, event, events_frame, read_rows, shops, with_coordinates

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

STREAMS = {stream.name: stream for stream in load_streams() if isinstance(stream.source, TableSource)}
NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)

_WINDOWS = """
    windows as (
      select e.*, w as window_start, w + interval '{size}' as window_end
      from (select *, unnest(generate_series(
              time_bucket(interval '{slide}', event_time) - interval '{size}' + interval '{slide}',
              time_bucket(interval '{slide}', event_time), interval '{slide}')) as w from events) e)
"""
# By way of its decimal digits, as Spark rounds a double: 1.005 is 1.01, although the double lies a little below.
_MONEY = "sum(try_cast(revenue::varchar as decimal(18,2)))"
ORACLES = {
    "revenue_by_category": f"""
        with {_WINDOWS.format(size="1 minute", slide="30 seconds")}
        select window_start, window_end, category, coalesce(cast({_MONEY} as double), 0.0) as total_revenue,
               count(*) as purchase_count, total_revenue / purchase_count as avg_order_value
        from windows where event_type = 'purchase' group by window_start, window_end, category""",
    "high_value_users": f"""
        with {_WINDOWS.format(size="5 minutes", slide="1 minute")}
        select window_start, window_end, user_id, cast({_MONEY} as double) as total_spent,
               count(*) as purchase_count, count(distinct product_id) as products_purchased
        from windows where event_type = 'purchase' group by window_start, window_end, user_id
        having {_MONEY} > 100""",
    "conversion_funnel": f"""
        with {_WINDOWS.format(size="5 minutes", slide="1 minute")}
        select window_start, window_end,
               count(distinct user_id) filter (event_type = 'page_view') as unique_visitors,
               count(distinct user_id) filter (event_type = 'add_to_cart') as cart_users,
               count(distinct user_id) filter (event_type = 'purchase') as purchasers,
               cart_users / nullif(unique_visitors, 0) * 100 as cart_conversion_rate,
               purchasers / nullif(cart_users, 0) * 100 as purchase_conversion_rate
        from windows where event_type in ('page_view', 'add_to_cart', 'purchase') group by window_start, window_end""",
    "view_to_purchase": """
        select v.event_id as view_event_id, p.event_id as purchase_event_id, v.user_id, v.product_id,
               v.event_time as view_time, p.event_time as purchase_time,
               (epoch_us(p.event_time) - epoch_us(v.event_time)) / 1000000 as time_to_purchase_seconds,
               v.device_type, p.revenue
        from events v join events p on v.user_id = p.user_id and v.product_id = p.product_id
        where v.event_type = 'page_view' and p.event_type = 'purchase' and p.event_time > v.event_time
          and p.event_time - v.event_time <= interval '30 minutes'""",
}


def vary(events: list[Event], chance: random.Random) -> list[Event]:
    """Gives the events categories, and some purchases a price of which two make a high-value user."""

    def revenue(e: Event) -> float:
        return chance.choice([e["revenue"], 60.0]) if e["event_type"] == "purchase" else 0.0

    return [{**e, "category": chance.choice(["toys", "books", None]), "revenue": revenue(e)} for e in events]


def ask_oracle(name: str, events: Sequence[Event]) -> list[dict[str, Any]]:
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    rows = [{**e, "event_id": f"e{n}", "category": e.get("category")} for n, e in enumerate(events)]
    fields = [
        ("event_id", pa.string()), ("user_id", pa.string()), ("event_time", pa.timestamp("us", tz="UTC")),
        ("event_type", pa.string()), ("product_id", pa.string()), ("revenue", pa.float64()),
        ("device_type", pa.string()), ("category", pa.string()),
    ]  # fmt: skip
    connection.register("events", pa.Table.from_pylist(rows, pa.schema(fields)))
    return in_order(STREAMS[name], connection.sql(ORACLES[name]).to_arrow_table().to_pylist())


def run_twin(spark: SparkSession, name: str, events: Sequence[Event]) -> list[dict[str, Any]]:
    stream = STREAMS[name]
    assert isinstance(stream.source, TableSource) and stream.transform is not None
    found = stream.transform(events_frame(spark, events).select(*stream.source.columns)).toArrow()
    return in_order(stream, found.to_pylist())


def in_order(stream: StreamSpec, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = [column.name for column in stream.main_table.columns]
    plain = [
        {name: row[name].astimezone(UTC) if isinstance(row[name], datetime) else row[name] for name in names}
        for row in rows
    ]
    return sorted(plain, key=lambda row: str(tuple(row[name] for name in stream.main_table.key)))


def run_streams(spark: SparkSession, lakehouse: LakehouseResource) -> None:
    """One bounded run over what silver.events holds now, from the checkpoints on."""
    context = StreamContext(lakehouse.root_uri, "none", {}, "earliest", 1, 1.0, 1, None)
    group = QueryGroup(spark, list(STREAMS.values()), context)
    run_to_end(group)


@pytest.mark.parametrize("name", STREAMS)
def test_every_stream_has_an_oracle(name: str) -> None:
    assert name in ORACLES


@settings(max_examples=3, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(shops(), st.integers(0, 2**32).map(random.Random))
def test_twin_equals_the_oracle(spark: SparkSession, events: list[Event], chance: random.Random) -> None:
    events = vary(events, chance)
    for name in STREAMS:
        assert run_twin(spark, name, events) == ask_oracle(name, events), name


@settings(max_examples=1, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(shops(), st.integers(0, 2**32).map(random.Random))
def test_stream_in_batches_with_restarts_equals_its_twin(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, events: list[Event], chance: random.Random
) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path_factory.mktemp("lakehouse")))
    events = sorted(vary(events, chance), key=lambda e: e["event_time"])
    cuts = sorted(chance.sample(range(1, len(events)), 2))
    # Within a batch in any order; a batch never goes back behind the one before, so nothing is late.
    parts = [events[a:b] for a, b in zip([0, *cuts], [*cuts, len(events)], strict=True)]
    arrived: list[Event] = []
    for part in parts:
        chance.shuffle(part)
        append_events(spark, lakehouse, part, first_offset=len(arrived))
        arrived += part
        run_streams(spark, lakehouse)
    for name, stream in STREAMS.items():
        assert in_order(stream, read_rows(lakehouse, stream.main_table.name)) == run_twin(spark, name, arrived), name


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


def test_exactly_one_hundred_is_not_high(spark: SparkSession) -> None:
    events = [event("low", NOON, "purchase", revenue=100.0), event("high", NOON, "purchase", revenue=100.01)]
    assert {row["user_id"] for row in run_twin(spark, "high_value_users", events)} == {"high"}


def test_a_rate_without_a_divisor_is_null(spark: SparkSession) -> None:
    rows = run_twin(spark, "conversion_funnel", [event("u", NOON, "purchase")])
    assert {(r["unique_visitors"], r["cart_conversion_rate"], r["purchase_conversion_rate"]) for r in rows} == {
        (0, None, None)
    }
    assert len(rows) == 5
