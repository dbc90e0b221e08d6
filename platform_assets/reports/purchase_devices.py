"""gold.purchase_devices: on which device people look at a product before they buy it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from platform_assets.reports.daily_report import DailyReport, ReportInput
from platform_assets.reports.days import DayRange
from platform_assets.reports.purchase_correlations import count_conversions, read_events_of, read_pairs_of
from platform_assets.streams.events import EVENTS
from platform_assets.streams.view_to_purchase import VIEW_TO_PURCHASE
from platform_assets.tables.spec import Column, TableSpec

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

PURCHASE_DEVICES_TABLE = TableSpec(
    name="gold.purchase_devices",
    description="As gold.purchase_correlations, by the device of the view: where people look, and where it sells.",
    grain="one day, product and device type",
    key=("report_date", "product_id", "device_type"),
    columns=(
        Column("report_date", "date", "UTC day of the views, and of the attributed purchases", nullable=False),
        Column("product_id", "string", "Product viewed", nullable=False),
        Column("device_type", "string", "Device of the view; null where unknown"),
        Column("views", "bigint", "page_view events of the day on the device", nullable=False),
        Column("converted_views", "bigint", "Those of them that a purchase followed in 30 min", nullable=False),
        Column("view_to_purchase_rate", "double", "converted_views / views, 0 to 1; null without a view"),
        Column("p50_lag_seconds", "double", "Median time from view to purchase over all pairs of these views"),
        Column("attributed_purchases", "bigint", "Purchases of the day whose last view was on it", nullable=False),
        Column("attributed_revenue", "double", "Revenue of these", nullable=False),
    ),
    partition_columns=("report_date",),
)


def split_by_device(events: DataFrame, pairs: DataFrame) -> DataFrame:
    """Rows of `PURCHASE_DEVICES_TABLE`, as `count_conversions` counts; a device without a view and a sale has none."""
    from pyspark.sql import functions as F

    return (
        count_conversions(events, pairs, "product_id", "device_type")
        .where((F.col("views") > 0) | (F.col("attributed_purchases") > 0))
        .withColumn("view_to_purchase_rate", F.try_divide("converted_views", "views"))
        .select(*(column.name for column in PURCHASE_DEVICES_TABLE.columns))
    )


def _compute(inputs: Mapping[str, DataFrame], days: DayRange) -> DataFrame:
    return split_by_device(read_events_of(inputs, days), read_pairs_of(inputs, days))


PURCHASE_DEVICES = DailyReport(
    table=PURCHASE_DEVICES_TABLE,
    # As of gold.purchase_correlations.
    inputs=(ReportInput(VIEW_TO_PURCHASE), ReportInput(EVENTS, neighbours=1)),
    compute=_compute,
)
