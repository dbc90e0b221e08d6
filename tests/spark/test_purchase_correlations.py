"""gold.purchase_correlations and gold.purchase_devices: against plain Python, and at the borders of days and lags."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given

from platform_assets.reports.purchase_correlations import PURCHASE_CORRELATIONS, PURCHASE_CORRELATIONS_TABLE
from platform_assets.reports.purchase_devices import PURCHASE_DEVICES, PURCHASE_DEVICES_TABLE
from platform_assets.streams import view_to_purchase
from resources.lakehouse import LakehouseResource
from tests.generated_cases import examples
from tests.money_oracle import add_up
from tests.spark.report_cases import (
    HALF_HOUR,
    MICROSECOND,
    Event,
    append_events,
    apply_rule,
    compute_by_both_engines,
    event,
    events_table,
    read_rows,
    run_reports,
    shops,
    write_stream_tables,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOON = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)
MIDNIGHT = datetime(2024, 3, 1, tzinfo=UTC)

Row = tuple[Any, ...]


def correlate(events: Sequence[Event]) -> dict[tuple[date, str], Row]:
    """The oracle: every view against every purchase."""
    known = [e for e in events if e["product_id"] is not None]
    views = [e for e in known if e["event_type"] == "page_view"]
    purchases = [e for e in known if e["event_type"] == "purchase"]
    counts: dict[tuple[date, str], dict[str, Any]] = defaultdict(
        lambda: {"views": 0, "purchases": 0, "converted": 0, "lags": [], "credited": []}
    )
    for view in views:
        group = counts[view["event_time"].date(), view["product_id"]]
        lags = [_lag(view, p) for p in purchases if _is_pair(view, p)]
        group["views"] += 1
        group["converted"] += bool(lags)
        group["lags"] += lags
    for purchase in purchases:
        group = counts[purchase["event_time"].date(), purchase["product_id"]]
        group["purchases"] += 1
        if any(_is_pair(view, purchase) for view in views):
            group["credited"].append(purchase)
    return {key: _row(group, [g for (day, _), g in counts.items() if day == key[0]]) for key, group in counts.items()}


def _row(group: dict[str, Any], day: list[dict[str, Any]]) -> Row:
    shop = sum(g["converted"] for g in day) / max(1, sum(g["views"] for g in day))
    rate = group["converted"] / group["views"] if group["views"] else None
    quantiles = [float(np.percentile(group["lags"], q)) if group["lags"] else None for q in (50, 90)]
    lift = rate / shop if rate is not None and shop else None
    counts = (group["views"], group["purchases"], group["converted"])
    money = add_up(group["credited"])
    return (*counts, rate, *quantiles, money.total, lift, *money[1:])


def _without_nulls(row: Row) -> Row:
    return tuple(float("nan") if value is None else value for value in row)


def _lag(view: Event, purchase: Event) -> float:
    return ((purchase["event_time"] - view["event_time"]) // MICROSECOND) / 1_000_000


def _is_pair(view: Event, purchase: Event) -> bool:
    lag = purchase["event_time"] - view["event_time"]
    same = (view["user_id"], view["product_id"]) == (purchase["user_id"], purchase["product_id"])
    return same and timedelta(0) < lag <= HALF_HOUR and not view.get("is_anonymous")


def collect(spark: SparkSession, events: Sequence[Event]) -> dict[tuple[date, str], Row]:
    rows = events_table(events)
    pairs = apply_rule(view_to_purchase.STREAM, rows)
    report = compute_by_both_engines(spark, PURCHASE_CORRELATIONS.sql, events=rows, view_to_purchase=pairs)
    assert report.column_names == [column.name for column in PURCHASE_CORRELATIONS_TABLE.columns]
    found = [tuple(row.values()) for row in report.to_pylist()]
    return {(row[0], row[1]): row[2:] for row in found}


@examples(4)
@given(shops())
def test_the_report_equals_every_view_against_every_purchase(spark: SparkSession, events: list[Event]) -> None:
    actual, expected = collect(spark, events), correlate(events)
    assert actual.keys() == expected.keys()
    for key, row in expected.items():
        numbers, texts = slice(8), slice(8, None)
        found, wanted = _without_nulls(actual[key][numbers]), _without_nulls(row[numbers])
        assert found == pytest.approx(wanted, rel=1e-9, nan_ok=True), key
        assert actual[key][texts] == row[texts], key


def test_a_purchase_follows_a_view_after_more_than_nothing_and_at_most_thirty_minutes(spark: SparkSession) -> None:
    is_pair = {
        timedelta(0): 0, MICROSECOND: 1, HALF_HOUR: 1, HALF_HOUR + MICROSECOND: 0, -MICROSECOND: 0
    }  # fmt: skip
    events = [
        e
        for lag in is_pair
        for e in (event("u", NOON, product_id=str(lag)), event("u", NOON + lag, "purchase", str(lag), revenue=5.0))
    ]
    found = collect(spark, events)
    for lag, converted in is_pair.items():
        row = found[NOON.date(), str(lag)]
        assert (row[2], row[6]) == (converted, 5.0 * converted), lag


def test_lags_are_counted_by_the_minute_with_thirty_minutes_in_the_last(spark: SparkSession) -> None:
    lags = [MICROSECOND, timedelta(minutes=1), timedelta(minutes=1) + MICROSECOND, HALF_HOUR]
    events = [event("u", NOON), *(event("u", NOON + lag, "purchase") for lag in lags)]
    assert PURCHASE_CORRELATIONS.picture is not None
    pairs = apply_rule(view_to_purchase.STREAM, events_table(events))
    rows = compute_by_both_engines(spark, PURCHASE_CORRELATIONS.picture.sql, view_to_purchase=pairs).to_pylist()
    assert {row["day"] for row in rows} == {NOON.date()}
    assert {row["position"]: row["n"] for row in rows} == {0: 2, 1: 1, 29: 1}


def test_a_view_before_midnight_bought_after_it_counts_on_both_days_whichever_day_is_run(
    lakehouse: LakehouseResource,
) -> None:
    last_view = MIDNIGHT - MICROSECOND
    append_events(
        lakehouse,
        [
            event("u", last_view),
            event("u", last_view + HALF_HOUR, "purchase", revenue=7.5),
            event("v", last_view),  # not converted: the rate is one of two
        ],
    )
    wanted = {date(2024, 2, 29): (2, 0, 1, 0.5, 0.0), date(2024, 3, 1): (0, 1, 0, None, 7.5)}
    write_stream_tables(lakehouse)
    for day in wanted:
        run_reports(lakehouse, day.isoformat(), only=[PURCHASE_CORRELATIONS_TABLE])
    columns = ("views", "purchases", "converted_views", "view_to_purchase_rate", "attributed_revenue")
    rows = read_rows(lakehouse, PURCHASE_CORRELATIONS_TABLE.name)
    assert {row["report_date"]: tuple(row[c] for c in columns) for row in rows} == wanted


def by_device(events: Sequence[Event]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """The oracle: what each device's views led to, and whose last view each purchase followed."""
    known = [{**e, "event_id": f"e{n}"} for n, e in enumerate(events) if e["product_id"] is not None]
    views = [e for e in known if e["event_type"] == "page_view"]
    purchases = [e for e in known if e["event_type"] == "purchase"]
    found: dict[tuple[Any, ...], list[Any]] = defaultdict(lambda: [0, 0, []])
    for view in views:
        group = found[view["event_time"].date(), view["product_id"], view["device_type"]]
        group[0] += 1
        group[1] += any(_is_pair(view, purchase) for purchase in purchases)
    for purchase in purchases:
        before = [view for view in views if _is_pair(view, purchase)]
        if before:
            last = max(before, key=lambda view: (view["event_time"], view["event_id"]))
            group = found[purchase["event_time"].date(), last["product_id"], last["device_type"]]
            group[2].append(purchase)
    return {key: (*group[:2], len(group[2]), *add_up(group[2])) for key, group in found.items()}


@examples(3)
@given(shops())
def test_a_purchase_is_credited_to_the_device_of_the_last_view_before_it(
    spark: SparkSession, events: list[Event]
) -> None:
    table = events_table(events)
    pairs = apply_rule(view_to_purchase.STREAM, table)
    report = compute_by_both_engines(spark, PURCHASE_DEVICES.sql, events=table, view_to_purchase=pairs)
    assert report.column_names == [column.name for column in PURCHASE_DEVICES_TABLE.columns]
    columns = (
        "views", "converted_views", "attributed_purchases", "attributed_revenue", "currency",
        "attributed_revenue_by_currency", "attributed_without_amount",
    )  # fmt: skip
    rows = report.to_pylist()
    found = {
        (row["report_date"], row["product_id"], row["device_type"]): tuple(row[name] for name in columns)
        for row in rows
    }
    assert len(found) == len(rows)
    assert found == by_device(events)
