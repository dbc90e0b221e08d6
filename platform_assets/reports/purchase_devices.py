"""gold.purchase_devices: on which device people look at a product before they buy it."""

from __future__ import annotations

from platform_assets.reports.daily_report import DailyReport
from platform_assets.reports.purchase_correlations import CONVERSION_INPUTS, count_conversions
from platform_assets.tables.spec import Column, TableSpec

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
        Column("attributed_revenue", "double", "Revenue of these; null: several currencies, or none known"),
        Column("currency", "string", "Currency of attributed_revenue; null where none was sent"),
        Column("attributed_revenue_by_currency", "string", "JSON: the same by currency, as decimals in text"),
        Column("attributed_without_amount", "bigint", "Those of the purchases whose amount is not known"),
    ),
    partition_columns=("report_date",),
)


# A device without a view and a sale has no row.
_SQL = f"""
SELECT report_date, product_id, device_type, views, converted_views,
       converted_views / nullif(views, 0) AS view_to_purchase_rate, p50_lag_seconds, attributed_purchases,
       attributed_revenue, currency, attributed_revenue_by_currency, attributed_without_amount
FROM ({count_conversions("product_id", "device_type")}) AS counted
WHERE views > 0 OR attributed_purchases > 0
"""

PURCHASE_DEVICES = DailyReport(table=PURCHASE_DEVICES_TABLE, inputs=CONVERSION_INPUTS, sql=_SQL)
