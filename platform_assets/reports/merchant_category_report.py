"""gold.merchant_category_report: what a day's cards paid by category of merchant, and how much of it came back."""

from __future__ import annotations

from platform_assets.reports.daily_report import DailyReport, ReportInput
from platform_assets.reports.report_sources import CARDS
from platform_assets.tables.spec import Column, TableSpec
from platform_assets.topics.transactions import TRANSACTIONS

MERCHANT_CATEGORY_REPORT_TABLE = TableSpec(
    name="gold.merchant_category_report",
    description="Card payments of a UTC day by category of merchant and currency: how many, how large, what came back.",
    grain="one day, merchant category and currency",
    key=("report_date", "merchant_category", "currency"),
    columns=(
        Column("report_date", "date", "UTC day of the transactions", nullable=False),
        Column("merchant_category", "string", "What the merchants sell"),
        Column("currency", "string", "Currency of the amounts"),
        Column("payments", "bigint", "Payments", nullable=False),
        Column("customers", "bigint", "Distinct known customers who paid", nullable=False),
        Column("cards", "bigint", "Distinct cards that paid", nullable=False),
        Column("merchants", "bigint", "Distinct merchants paid", nullable=False),
        Column("countries", "bigint", "Distinct known countries in which was paid", nullable=False),
        Column("total_amount", "decimal(28,2)", "Sum of the payments", nullable=False),
        Column("avg_amount", "double", "Mean payment; null without one"),
        Column("p50_amount", "double", "Median payment, interpolated; null without one"),
        Column("p90_amount", "double", "90th percentile of the payments, interpolated; null without one"),
        Column("refunds", "bigint", "Refunds on the day, whenever was paid", nullable=False),
        Column("refunded_amount", "decimal(28,2)", "Sum of the refunds", nullable=False),
        Column("refund_share", "double", "refunds / payments; null without a payment; may be more than 1"),
        Column("reversals", "bigint", "Payments of the day or shortly before it that were undone", nullable=False),
        Column("reversed_amount", "decimal(28,2)", "Sum of the reversals", nullable=False),
    ),
    partition_columns=("report_date",),
)


def _sum_of(kind: str) -> str:
    return f"CAST(COALESCE(sum(amount) FILTER (WHERE kind = '{kind}'), 0) AS DECIMAL(28, 2))"


# A transaction belongs to the day on which it happened. Percentiles are of doubles: DuckDB would round a decimal's.
_SQL = f"""
WITH counted AS (
  SELECT event_date AS report_date, merchant_category, currency,
         count(*) FILTER (WHERE kind = 'payment') AS payments,
         count(DISTINCT CASE WHEN kind = 'payment' AND is_anonymous IS NOT TRUE THEN customer_id END) AS customers,
         count(DISTINCT CASE WHEN kind = 'payment' THEN card_id END) AS cards,
         count(DISTINCT CASE WHEN kind = 'payment' THEN merchant_id END) AS merchants,
         count(DISTINCT CASE WHEN kind = 'payment' THEN country END) AS countries,
         {_sum_of("payment")} AS total_amount,
         quantile_cont(CASE WHEN kind = 'payment' THEN CAST(amount AS DOUBLE) END, 0.5) AS p50_amount,
         quantile_cont(CASE WHEN kind = 'payment' THEN CAST(amount AS DOUBLE) END, 0.9) AS p90_amount,
         count(*) FILTER (WHERE kind = 'refund') AS refunds,
         {_sum_of("refund")} AS refunded_amount,
         count(*) FILTER (WHERE kind = 'reversal') AS reversals,
         {_sum_of("reversal")} AS reversed_amount
  FROM transactions
  GROUP BY event_date, merchant_category, currency
)
SELECT report_date, merchant_category, currency, payments, customers, cards, merchants, countries, total_amount,
       CAST(total_amount AS DOUBLE) / nullif(payments, 0) AS avg_amount, p50_amount, p90_amount, refunds,
       refunded_amount, refunds / nullif(payments, 0) AS refund_share, reversals, reversed_amount
FROM counted
"""

MERCHANT_CATEGORY_REPORT = DailyReport(
    table=MERCHANT_CATEGORY_REPORT_TABLE,
    inputs=(ReportInput(TRANSACTIONS, "event_date"),),
    sql=_SQL,
    source=CARDS,
)
