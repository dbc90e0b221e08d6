"""gold.purchase_correlations: how often, and how soon, a view of a product led to its purchase."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import TYPE_CHECKING

from platform_assets.reports.daily_report import DailyReport, ReportInput
from platform_assets.reports.days import DayRange
from platform_assets.reports.pictures import draw_lag_distribution
from platform_assets.streams.events import EVENTS
from platform_assets.streams.view_to_purchase import MAX_LAG, VIEW_TO_PURCHASE
from platform_assets.tables.spec import Column, TableSpec

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_LAG_MINUTES = MAX_LAG // timedelta(minutes=1)

PURCHASE_CORRELATIONS_TABLE = TableSpec(
    name="gold.purchase_correlations",
    description="Views and purchases of a product on a UTC day, and how often one led to the other in 30 minutes.",
    grain="one day and product",
    key=("report_date", "product_id"),
    columns=(
        Column("report_date", "date", "UTC day of the views, and of the purchases", nullable=False),
        Column("product_id", "string", "Product viewed or bought on the day", nullable=False),
        Column("views", "bigint", "page_view events of the day", nullable=False),
        Column("purchases", "bigint", "purchase events of the day", nullable=False),
        Column("converted_views", "bigint", "Views of the day that a purchase followed in 30 min", nullable=False),
        Column("view_to_purchase_rate", "double", "converted_views / views, 0 to 1; null without a view"),
        Column("p50_lag_seconds", "double", "Median time from view to purchase over all pairs of the day's views"),
        Column("p90_lag_seconds", "double", "90th percentile of the same"),
        Column("attributed_revenue", "double", "Revenue of the day's purchases that a view led to", nullable=False),
        Column("lift", "double", "view_to_purchase_rate over the shop's; null without a view or when that is 0"),
    ),
    partition_columns=("report_date",),
)


def count_conversions(events: DataFrame, pairs: DataFrame, *by: str) -> DataFrame:
    """Views, purchases and conversions of each day and value of the columns `by` (of views and of pairs).

    `events` are rows of silver.events, `pairs` of gold.view_to_purchase. Columns besides `report_date` and `by`:
    `views`, `purchases`, `converted_views`, `p50_lag_seconds`, `p90_lag_seconds`, `attributed_purchases`,
    `attributed_revenue`. Which day counts what:
    - by the day of the *view*: views, conversions and lags (so a view at 23:50 that is bought at 00:10 is a conversion
      of the first day);
    - by the day of the *purchase*: purchases and what is attributed.

    A purchase is credited once, to the last view before it. Lags are taken over all pairs. Percentiles are exact,
    interpolated. Events without a product count in nothing. A purchase counts under the values of its own event, what
    is attributed under those of the view.
    """
    from pyspark.sql import functions as F

    view_day, purchase_day = (F.to_date(name).alias("report_date") for name in ("view_time", "purchase_time"))
    counts = (
        events.where(F.col("product_id").isNotNull() & F.col("event_type").isin("page_view", "purchase"))
        .groupBy(F.to_date("event_time").alias("report_date"), *by)
        .agg(
            F.count_if(F.col("event_type") == "page_view").alias("views"),
            F.count_if(F.col("event_type") == "purchase").alias("purchases"),
        )
    )
    # Apart: a distinct count beside percentiles makes Spark keep and merge a histogram for each value counted.
    views = pairs.select(view_day, *by, "view_event_id", "view_time").distinct()
    converted = views.groupBy("report_date", *by).agg(F.count(F.lit(1)).alias("converted_views"))
    lags = pairs.groupBy(view_day, *by).agg(F.percentile("time_to_purchase_seconds", [0.5, 0.9]).alias("lags"))
    by_view = lags.select(
        "report_date", *by, F.col("lags")[0].alias("p50_lag_seconds"), F.col("lags")[1].alias("p90_lag_seconds")
    )
    last_view = F.max_by(F.struct("revenue", *by), F.struct("view_time", "view_event_id"))
    by_purchase = (
        pairs.groupBy("purchase_event_id", "purchase_time", F.col("product_id").alias("bought"))
        .agg(last_view.alias("last"))
        .select(purchase_day, "last.*")
        .groupBy("report_date", *by)
        .agg(
            F.count(F.lit(1)).alias("attributed_purchases"),
            F.sum(F.col("revenue").try_cast("decimal(18,2)")).cast("double").alias("attributed_revenue"),
        )
    )
    # One row of each part at most: null is a value of a group, and would be none of a join.
    parts = counts
    for part in (converted, by_view, by_purchase):
        parts = parts.unionByName(part, allowMissingColumns=True)
    whole = ("views", "purchases", "converted_views", "attributed_purchases")
    return parts.groupBy("report_date", *by).agg(
        *(F.coalesce(F.max(name), F.lit(0)).alias(name) for name in whole),
        F.max("p50_lag_seconds").alias("p50_lag_seconds"),
        F.max("p90_lag_seconds").alias("p90_lag_seconds"),
        F.coalesce(F.max("attributed_revenue"), F.lit(0.0)).alias("attributed_revenue"),
    )


def correlate_purchases(events: DataFrame, pairs: DataFrame) -> DataFrame:
    """Rows of `PURCHASE_CORRELATIONS_TABLE`, as `count_conversions` counts.

    For a complete day there must be all its events, and the pairs that begin or end on it. `lift` compares with all
    views of the day that have a product.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    the_day = Window.partitionBy("report_date")
    rate = F.try_divide("converted_views", "views")
    shop_rate = F.try_divide(F.sum("converted_views").over(the_day), F.sum("views").over(the_day))
    return (
        count_conversions(events, pairs, "product_id")
        .withColumns({"view_to_purchase_rate": rate, "lift": F.try_divide(rate, shop_rate)})
        .select(*(column.name for column in PURCHASE_CORRELATIONS_TABLE.columns))
    )


def read_events_of(inputs: Mapping[str, DataFrame], days: DayRange) -> DataFrame:
    """What is counted of silver.events: the days' events, with few columns."""
    columns = ("event_type", "event_time", "product_id", "device_type")
    return inputs[EVENTS.name].where(days.predicate("event_date")).select(*columns)


def read_pairs_of(inputs: Mapping[str, DataFrame], days: DayRange) -> DataFrame:
    """The pairs of gold.view_to_purchase that begin or end on the days."""
    from pyspark.sql import functions as F

    begins, ends = F.col("view_time") < F.lit(days.end), F.col("purchase_time") >= F.lit(days.start)
    # Both bounds on the view's time as well: it is what the files are ordered by.
    return inputs[VIEW_TO_PURCHASE.name].where((F.col("view_time") >= F.lit(days.start - MAX_LAG)) & begins & ends)


def count_pairs_by_minute(pairs: DataFrame) -> dict[date, list[int]]:
    """By the day of the view, pairs by whole minutes of their lag: 30 numbers, the first for up to one minute."""
    from pyspark.sql import functions as F

    minute = F.ceil(F.col("time_to_purchase_seconds") / 60) - 1
    counts: dict[date, list[int]] = {}
    rows = pairs.groupBy(F.to_date("view_time").alias("day"), minute.alias("minute")).agg(F.count(F.lit(1)).alias("n"))
    for row in rows.collect():
        counts.setdefault(row["day"], [0] * _LAG_MINUTES)[row["minute"]] = row["n"]
    return counts


def _compute(inputs: Mapping[str, DataFrame], days: DayRange) -> DataFrame:
    return correlate_purchases(read_events_of(inputs, days), read_pairs_of(inputs, days))


def _draw(inputs: Mapping[str, DataFrame], days: DayRange) -> dict[date, tuple[str, str]]:
    counts = count_pairs_by_minute(read_pairs_of(inputs, days))
    nothing = [0] * _LAG_MINUTES
    return {day: ("lag_distribution", draw_lag_distribution(counts.get(day, nothing), str(day))) for day in days.days()}


PURCHASE_CORRELATIONS = DailyReport(
    table=PURCHASE_CORRELATIONS_TABLE,
    # A view before midnight and a purchase after it are of two days.
    inputs=(ReportInput(VIEW_TO_PURCHASE), ReportInput(EVENTS, neighbours=1)),
    compute=_compute,
    draw=_draw,
)
