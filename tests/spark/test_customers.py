"""gold.customer_days and gold.customer_360: against plain Python, and incrementally as from the beginning."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from platform_assets.reports.customer_360 import CUSTOMER_360_TABLE, SQL, read_included_version
from platform_assets.reports.customer_days import CART_TYPES, CUSTOMER_DAYS, CUSTOMER_DAYS_TABLE
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streams import sessions
from platform_assets.streams.sessions import INACTIVITY
from resources.lakehouse import LakehouseResource
from tests.generated_cases import examples
from tests.money_oracle import add_up
from tests.spark.report_cases import (
    Event,
    append_events,
    apply_rule,
    compute_by_both_engines,
    event,
    events_table,
    materialize_days,
    of_known_users,
    read_rows,
    run_reports,
    shops,
    with_coordinates,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession

NOON = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)
TABLES = (CUSTOMER_DAYS_TABLE, CUSTOMER_360_TABLE)

_FACTS = (
    "first_seen_at", "last_seen_at", "last_purchase_at", "purchases", "total_revenue", "currency",
    "revenue_by_currency", "purchases_without_amount", "avg_order_value", "events", "sessions", "last_session_start",
    "last_session_end", "favourite_device", "open_cart", "open_cart_products",
)  # fmt: skip


def know(events: Sequence[Event]) -> dict[str, tuple[Any, ...]]:
    """The oracle: each customer's events in order, looked at one after the other."""
    histories: dict[str, list[Event]] = defaultdict(list)
    known = of_known_users(with_coordinates(events))
    for e in sorted(known, key=lambda e: (e["event_time"], e["kafka_partition"], e["kafka_offset"])):
        histories[e["user_id"]].append(e)
    return {user: _look_through(own) for user, own in histories.items()}


def _look_through(own: list[Event]) -> tuple[Any, ...]:
    visits: list[list[datetime]] = []
    bought, cart = [], {}
    for e in own:
        if not visits or e["event_time"] - visits[-1][1] > INACTIVITY:
            visits.append([e["event_time"], e["event_time"]])
        visits[-1][1] = e["event_time"]
        if e["event_type"] in CART_TYPES and e["product_id"] is not None:
            cart[e["product_id"]] = e["event_type"] == "add_to_cart"
        if e["event_type"] == "purchase":
            bought.append(e)
    devices = Counter(e["device_type"] for e in own if e["device_type"] is not None)
    device = min(devices, key=lambda name: (-devices[name], name)) if devices else None
    open_cart = sorted(product for product, is_open in cart.items() if is_open)
    money = add_up(bought)
    known = len(bought) - money.without_amount
    average = money.total / known if known and money.total is not None else None
    return (
        own[0]["event_time"], own[-1]["event_time"], bought[-1]["event_time"] if bought else None, len(bought), *money,
        average, len(own), len(visits), *visits[-1], device, json.dumps(open_cart, separators=(",", ":")),
        len(open_cart),
    )  # fmt: skip


def facts_of(rows: Sequence[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    found = {row["user_id"]: tuple(row[name] for name in _FACTS) for row in rows}
    assert len(found) == len(rows)
    return found


def days_of(spark: SparkSession, events: Sequence[Event]) -> pa.Table:
    rows = events_table(events)
    own = apply_rule(sessions.STREAM, rows)
    days = compute_by_both_engines(spark, CUSTOMER_DAYS.sql, events=rows, sessions=own)
    assert days.column_names == [column.name for column in CUSTOMER_DAYS_TABLE.columns]
    return days.cast(build_arrow_schema(CUSTOMER_DAYS_TABLE))


@examples(3)
@given(shops(), st.data())
def test_customers_built_in_two_steps_equal_their_events_looked_through_in_order(
    spark: SparkSession, events: list[Event], data: st.DataObject
) -> None:
    half = data.draw(st.integers(1, len(events) - 1))
    then, now = days_of(spark, events[:half]), days_of(spark, events)
    schema = build_arrow_schema(CUSTOMER_360_TABLE)
    nobody = schema.empty_table()
    first = compute_by_both_engines(spark, SQL, known=nobody, days_now=then, days_then=then.slice(0, 0))
    assert first.column_names == schema.names
    known = first.cast(schema)
    rows = compute_by_both_engines(spark, SQL, known=known, days_now=now, days_then=then).cast(schema).to_pylist()
    aware = [{k: v.astimezone(UTC) if isinstance(v, datetime) else v for k, v in row.items()} for row in rows]
    assert facts_of(aware) == know(events)


def test_a_run_reads_the_days_that_changed_and_no_others(lakehouse: LakehouseResource) -> None:
    history = [event(f"u{n}", NOON - timedelta(days=n), "purchase", revenue=10.0 + n) for n in range(4)]
    append_events(lakehouse, history)
    materialize_days(lakehouse, "2024-02-26", "2024-02-29", only=TABLES)
    assert facts_of(read_rows(lakehouse, CUSTOMER_360_TABLE.name)) == know(history)
    before = lakehouse.delta_table(CUSTOMER_360_TABLE.name).version()

    run_reports(lakehouse, "2024-02-29", only=TABLES)
    assert lakehouse.delta_table(CUSTOMER_360_TABLE.name).version() == before

    late = [event("u1", NOON - timedelta(days=2), "add_to_cart", "p7"), event("new", NOON)]
    append_events(lakehouse, late, first_offset=10)
    materialize_days(lakehouse, "2024-02-26", "2024-02-29", only=TABLES)
    table = lakehouse.delta_table(CUSTOMER_360_TABLE.name)
    assert read_included_version(table) == lakehouse.delta_table(CUSTOMER_DAYS_TABLE.name).version()
    assert facts_of(read_rows(lakehouse, CUSTOMER_360_TABLE.name)) == know([*history, *late])


def test_a_table_that_somebody_changed_is_built_anew(lakehouse: LakehouseResource) -> None:
    history = [event(f"u{n}", NOON, "purchase") for n in range(3)]
    append_events(lakehouse, history)
    materialize_days(lakehouse, "2024-02-29", only=TABLES)
    lakehouse.delta_table(CUSTOMER_360_TABLE.name).delete("user_id = 'u1'")
    run_reports(lakehouse, "2024-02-29", only=TABLES)
    assert facts_of(read_rows(lakehouse, CUSTOMER_360_TABLE.name)) == know(history)
