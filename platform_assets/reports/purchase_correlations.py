"""gold.purchase_correlations: how often, and how soon, a view of a product led to its purchase."""

from __future__ import annotations

from datetime import timedelta

from platform_assets.reports.daily_report import DailyReport, Picture, ReportInput
from platform_assets.reports.pictures import draw_lag_distribution
from platform_assets.reports.report_sql import BY_CURRENCY, amount, join_amounts, total_of
from platform_assets.streams.view_to_purchase import MAX_LAG, VIEW_TO_PURCHASE
from platform_assets.tables.spec import Column, TableSpec
from platform_assets.topics.events import EVENTS

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
        Column("attributed_revenue", "double", "Revenue of the day's purchases that a view led to; null: several "
               "currencies, or none known"),
        Column("lift", "double", "view_to_purchase_rate over the shop's; null without a view or when that is 0"),
        Column("currency", "string", "Currency of attributed_revenue; null where none was sent"),
        Column("attributed_revenue_by_currency", "string", "JSON: the same by currency, as decimals in text"),
        Column("attributed_without_amount", "bigint", "Those of the purchases whose amount is not known"),
    ),
    partition_columns=("report_date",),
)  # fmt: skip


def count_conversions(*by: str) -> str:
    """SQL: views, purchases and conversions of each day and value of the columns `by` (of views and of pairs).

    Its inputs are `events` (rows of silver.events) and `view_to_purchase`. Columns besides `report_date` and `by`:
    `views`, `purchases`, `converted_views`, `p50_lag_seconds`, `p90_lag_seconds`, `attributed_purchases`,
    `attributed_revenue`, `currency`, `attributed_revenue_by_currency`, `attributed_without_amount` (see `report_sql`).
    Which day counts what:
    - by the day of the *view*: views, conversions and lags (so a view at 23:50 that is bought at 00:10 is a conversion
      of the first day);
    - by the day of the *purchase*: purchases and what is attributed.

    A purchase is credited once, to the last view before it. Lags are taken over all pairs. Percentiles are exact,
    interpolated. Events without a product count in nothing. A purchase counts under the values of its own event, what
    is attributed under those of the view.
    """
    values = ", ".join(by)
    kept = ", ".join(f"'{name}': {name}" for name in (*by, "currency"))
    of_last_view = ", ".join(f"last_view.{name}" for name in by)
    # One row of each part at most is added up: null is a value of a group, and would be none of a join.
    return f"""
WITH counts AS (
  SELECT CAST(event_time AS DATE) AS report_date, {values},
         count(*) FILTER (WHERE event_type = 'page_view') AS views,
         count(*) FILTER (WHERE event_type = 'purchase') AS purchases
  FROM events WHERE product_id IS NOT NULL AND event_type IN ('page_view', 'purchase') GROUP BY ALL
), viewed AS (
  SELECT DISTINCT CAST(view_time AS DATE) AS report_date, {values}, view_event_id, view_time FROM view_to_purchase
), converted AS (
  SELECT report_date, {values}, count(*) AS converted_views FROM viewed GROUP BY ALL
), lags AS (
  SELECT CAST(view_time AS DATE) AS report_date, {values},
         quantile_cont(time_to_purchase_seconds, 0.5) AS p50, quantile_cont(time_to_purchase_seconds, 0.9) AS p90
  FROM view_to_purchase GROUP BY ALL
), last_views AS (
  SELECT purchase_event_id, purchase_time, product_id AS bought,
         max_by({{'revenue': revenue, {kept}}}, {{'time': view_time, 'id': view_event_id}}) AS last_view
  FROM view_to_purchase GROUP BY ALL
), credited AS (
  SELECT CAST(purchase_time AS DATE) AS report_date, {of_last_view}, COALESCE(last_view.currency, '') AS currency,
         {amount("last_view.revenue")} AS amount
  FROM last_views
), attributed AS (
  SELECT report_date, {values}, count(*) AS attributed_purchases, count(*) - count(amount) AS without_amount
  FROM credited GROUP BY ALL
), amounts AS (
  SELECT report_date, {values}, currency, sum(amount) AS amount FROM credited WHERE amount > 0 GROUP BY ALL
), money AS ({join_amounts("amounts", f"report_date, {values}")}
), parts AS (
  SELECT report_date, {values}, views, purchases, 0 AS converted_views, CAST(NULL AS DOUBLE) AS p50,
         CAST(NULL AS DOUBLE) AS p90, 0 AS attributed_purchases, 0 AS without_amount, CAST(NULL AS VARCHAR) AS sums,
         CAST(NULL AS DOUBLE) AS one_sum, CAST(NULL AS VARCHAR) AS currency FROM counts
  UNION ALL SELECT report_date, {values}, 0, 0, converted_views, NULL, NULL, 0, 0, NULL, NULL, NULL FROM converted
  UNION ALL SELECT report_date, {values}, 0, 0, 0, p50, p90, 0, 0, NULL, NULL, NULL FROM lags
  UNION ALL SELECT report_date, {values}, 0, 0, 0, NULL, NULL, attributed_purchases, without_amount, NULL, NULL, NULL
    FROM attributed
  UNION ALL SELECT report_date, {values}, 0, 0, 0, NULL, NULL, 0, 0, sums, one_sum, currency FROM money
), joined AS (
  SELECT report_date, {values}, max(views) AS views, max(purchases) AS purchases,
         max(converted_views) AS converted_views, max(p50) AS p50_lag_seconds, max(p90) AS p90_lag_seconds,
         max(attributed_purchases) AS attributed_purchases, max(without_amount) AS attributed_without_amount,
         max(sums) AS sums, max(one_sum) AS one_sum, max(currency) AS currency
  FROM parts GROUP BY ALL
)
SELECT report_date, {values}, views, purchases, converted_views, p50_lag_seconds, p90_lag_seconds,
       attributed_purchases, attributed_without_amount, {total_of("attributed_without_amount")} AS attributed_revenue,
       currency, {BY_CURRENCY} AS attributed_revenue_by_currency
FROM joined
"""


# `lift` compares with all views of the day that have a product.
_SQL = f"""
WITH products AS ({count_conversions("product_id")}), rated AS (
  SELECT *, converted_views / nullif(views, 0) AS view_to_purchase_rate,
         CAST(sum(converted_views) OVER (PARTITION BY report_date) AS BIGINT) AS shop_converted,
         CAST(sum(views) OVER (PARTITION BY report_date) AS BIGINT) AS shop_views
  FROM products
)
SELECT report_date, product_id, views, purchases, converted_views, view_to_purchase_rate, p50_lag_seconds,
       p90_lag_seconds, attributed_revenue,
       view_to_purchase_rate / nullif(shop_converted / nullif(shop_views, 0), 0) AS lift, currency,
       attributed_revenue_by_currency, attributed_without_amount
FROM rated
"""

# The first minute holds the lags of up to one minute, the last those of up to thirty.
_BY_MINUTE = """
SELECT CAST(view_time AS DATE) AS day, CAST(ceil(time_to_purchase_seconds / 60) AS INT) - 1 AS position, count(*) AS n
FROM view_to_purchase GROUP BY ALL
"""

# A view before midnight and a purchase after it are of two days: each day depends on its neighbours.
CONVERSION_INPUTS = (
    ReportInput(VIEW_TO_PURCHASE, "view_time", before=MAX_LAG),
    ReportInput(EVENTS, "event_date", neighbours=1),
)

PURCHASE_CORRELATIONS = DailyReport(
    table=PURCHASE_CORRELATIONS_TABLE,
    inputs=CONVERSION_INPUTS,
    sql=_SQL,
    picture=Picture("lag_distribution", _BY_MINUTE, MAX_LAG // timedelta(minutes=1), draw_lag_distribution),
)
