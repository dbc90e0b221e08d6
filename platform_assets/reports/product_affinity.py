"""gold.product_affinity: which products are bought together."""

from __future__ import annotations

from platform_assets.reports.daily_report import DailyReport, ReportInput
from platform_assets.tables.spec import Column, TableSpec
from platform_assets.topics.events import EVENTS

# A reseller's basket of a thousand products would make a million pairs, and say nothing about what goes together.
MAX_PRODUCTS_OF_ONE_BASKET = 100

PRODUCT_AFFINITY_TABLE = TableSpec(
    name="gold.product_affinity",
    description="How often who bought one product on a UTC day also bought another one, and how much that says.",
    grain="one day and ordered pair of different products",
    key=("report_date", "product_id", "other_product_id"),
    columns=(
        Column("report_date", "date", "UTC day of the purchases", nullable=False),
        Column("product_id", "string", "Product bought", nullable=False),
        Column("other_product_id", "string", "Product bought by the same user on the same day", nullable=False),
        Column("baskets", "bigint", "Baskets of the day: users who bought something, all they bought", nullable=False),
        Column("product_baskets", "bigint", "Baskets with the product", nullable=False),
        Column("other_baskets", "bigint", "Baskets with the other one", nullable=False),
        Column("shared_baskets", "bigint", "Baskets with both", nullable=False),
        Column("support", "double", "shared_baskets / baskets, 0 to 1", nullable=False),
        Column("confidence", "double", "shared_baskets / product_baskets, 0 to 1", nullable=False),
        Column("lift", "double", "confidence / (other_baskets / baskets): 1 is chance", nullable=False),
    ),
    partition_columns=("report_date",),
)


# A basket is what one user bought on one UTC day, each product once; purchases without a product are in none, and
# baskets of more than `MAX_PRODUCTS_OF_ONE_BASKET` products are left out altogether. Support, confidence and lift as in
# Agrawal, Imielinski, Swami: Mining association rules (1993), and Brin et al. (1997, there "interest"), for rules of
# one product each side. Baskets are kept as lists: joined to each other, an engine may pair the products first.
_SQL = f"""
WITH bought AS (
  SELECT DISTINCT CAST(event_time AS DATE) AS report_date, user_id, product_id
  FROM events
  WHERE event_type = 'purchase' AND product_id IS NOT NULL AND is_anonymous IS NOT TRUE
), baskets AS (
  SELECT report_date, user_id, array_agg(product_id) AS products FROM bought
  GROUP BY ALL HAVING count(*) <= {MAX_PRODUCTS_OF_ONE_BASKET}
), per_day AS (
  SELECT report_date, count(*) AS baskets FROM baskets GROUP BY ALL
), singles AS (
  SELECT report_date, products, unnest(products) AS product_id FROM baskets
), per_product AS (
  SELECT report_date, product_id, count(*) AS product_baskets FROM singles GROUP BY ALL
), doubles AS (
  SELECT report_date, product_id, unnest(products) AS other_product_id FROM singles
), pairs AS (
  SELECT report_date, product_id, other_product_id, count(*) AS shared_baskets FROM doubles
  WHERE product_id <> other_product_id GROUP BY ALL
)
SELECT pairs.report_date, pairs.product_id, pairs.other_product_id, per_day.baskets, own.product_baskets,
       other.product_baskets AS other_baskets, pairs.shared_baskets,
       pairs.shared_baskets / per_day.baskets AS support,
       pairs.shared_baskets / own.product_baskets AS confidence,
       -- one division of whole numbers: the same to the bit in every engine
       (pairs.shared_baskets * per_day.baskets) / (own.product_baskets * other.product_baskets) AS lift
FROM pairs
JOIN per_day ON per_day.report_date = pairs.report_date
JOIN per_product AS own ON own.report_date = pairs.report_date AND own.product_id = pairs.product_id
JOIN per_product AS other ON other.report_date = pairs.report_date AND other.product_id = pairs.other_product_id
"""

PRODUCT_AFFINITY = DailyReport(table=PRODUCT_AFFINITY_TABLE, inputs=(ReportInput(EVENTS, "event_date"),), sql=_SQL)
