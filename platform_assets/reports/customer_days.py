"""gold.customer_days: what each customer did on a day. What gold.customer_360 is summed up from."""

from __future__ import annotations

from platform_assets.reports.daily_report import DailyReport, ReportInput
from platform_assets.reports.report_sql import BY_CURRENCY, amount, as_json, join_amounts, total_of
from platform_assets.streams.sessions import SESSIONS
from platform_assets.tables.spec import Column, TableSpec
from platform_assets.topics.events import EVENTS

# The newest of these says whether a product is in the cart.
CART_TYPES = ("add_to_cart", "remove_from_cart", "purchase")

CUSTOMER_DAYS_TABLE = TableSpec(
    name="gold.customer_days",
    description="What each customer did on a UTC day: events, purchases, sessions, cart.",
    grain="one day and user",
    key=("report_date", "user_id"),
    columns=(
        Column("report_date", "date", "UTC day of the events, and of the sessions' start", nullable=False),
        Column("user_id", "string", "Who", nullable=False),
        Column("first_event_at", "timestamp", "Time of the day's first event", nullable=False),
        Column("last_event_at", "timestamp", "Time of the day's last event", nullable=False),
        Column("events", "bigint", "Events of every type", nullable=False),
        Column("purchases", "bigint", "Purchase events", nullable=False),
        Column("total_revenue", "double", "Revenue of these; null: several currencies, or none known"),
        Column("last_purchase_at", "timestamp", "Time of the day's last purchase; null without one"),
        Column("sessions", "bigint", "Sessions (ended) that started on the day", nullable=False),
        Column("last_session_start", "timestamp", "Start of the last of these; null without one"),
        Column("last_session_end", "timestamp", "Time of its last event"),
        Column("category_events", "string", "JSON: events by category, where one is known", nullable=False),
        Column("device_events", "string", "JSON: events by device type, where one is known", nullable=False),
        Column("cart_actions", "string", "JSON: the newest cart action by product, and whether it is open after it",
               nullable=False),
        Column("currency", "string", "Currency of total_revenue; null where none was sent"),
        Column("revenue_by_currency", "string", "JSON: revenue by currency, as decimals in text"),
        Column("purchases_without_amount", "bigint", "Purchases whose amount is not known"),
    ),
    partition_columns=("report_date",),
    statistics_columns=("first_event_at", "last_event_at"),
)  # fmt: skip


_IN_CART = ", ".join(f"'{name}'" for name in CART_TYPES)


def count_by(column: str) -> str:
    """SQL: a user's and day's events by the values of a column, as a JSON object with its names in order."""
    return f"""
  SELECT report_date, user_id, {as_json("column_value", "n")} AS counted
  FROM (
    SELECT CAST(event_time AS DATE) AS report_date, user_id, {column} AS column_value, count(*) AS n
    FROM events WHERE {column} IS NOT NULL GROUP BY ALL
  ) AS values_of_days GROUP BY ALL
"""


# Aggregated by key before anything is collected: a user that stands for many has millions of events, not of keys.
# The newest action on a product counts: by time, then in the topic's order.
_SQL = f"""
WITH own AS (
  SELECT CAST(event_time AS DATE) AS report_date, user_id, min(event_time) AS first_event_at,
         max(event_time) AS last_event_at, count(*) AS events,
         count(*) FILTER (WHERE event_type = 'purchase') AS purchases,
         count(*) FILTER (WHERE event_type = 'purchase' AND {amount("revenue")} IS NULL) AS purchases_without_amount,
         max(CASE WHEN event_type = 'purchase' THEN event_time END) AS last_purchase_at
  FROM events WHERE is_anonymous IS NOT TRUE GROUP BY ALL
), amounts AS (
  SELECT CAST(event_time AS DATE) AS report_date, user_id, COALESCE(currency, '') AS currency,
         sum({amount("revenue")}) AS amount
  FROM events WHERE event_type = 'purchase' AND {amount("revenue")} > 0 GROUP BY ALL
), money AS ({join_amounts("amounts", "report_date, user_id")}
), visits AS (
  SELECT session_date AS report_date, user_id, count(*) AS sessions, max(session_start) AS last_session_start,
         max_by(session_end, session_start) AS last_session_end
  FROM sessions GROUP BY ALL
), categories AS ({count_by("category")}), devices AS ({count_by("device_type")}), actions AS (
  SELECT CAST(event_time AS DATE) AS report_date, user_id, product_id,
         max({{'at': epoch_us(event_time), 'partition': kafka_partition, 'offset': kafka_offset,
               'open': event_type = 'add_to_cart'}}) AS action
  FROM events WHERE event_type IN ({_IN_CART}) AND product_id IS NOT NULL GROUP BY ALL
), carts AS (
  SELECT report_date, user_id, {as_json("product_id", "action")} AS counted FROM actions GROUP BY ALL
)
SELECT own.report_date, own.user_id, first_event_at, last_event_at, events, purchases,
       {total_of("purchases_without_amount")} AS total_revenue, last_purchase_at, COALESCE(sessions, 0) AS sessions,
       last_session_start, last_session_end,
       COALESCE(categories.counted, '{{}}') AS category_events,
       COALESCE(devices.counted, '{{}}') AS device_events,
       COALESCE(carts.counted, '{{}}') AS cart_actions, currency, {BY_CURRENCY} AS revenue_by_currency,
       purchases_without_amount
FROM own
LEFT JOIN money ON money.report_date = own.report_date AND money.user_id = own.user_id
LEFT JOIN visits ON visits.report_date = own.report_date AND visits.user_id = own.user_id
LEFT JOIN categories ON categories.report_date = own.report_date AND categories.user_id = own.user_id
LEFT JOIN devices ON devices.report_date = own.report_date AND devices.user_id = own.user_id
LEFT JOIN carts ON carts.report_date = own.report_date AND carts.user_id = own.user_id
"""

CUSTOMER_DAYS = DailyReport(
    table=CUSTOMER_DAYS_TABLE,
    inputs=(ReportInput(EVENTS, "event_date"), ReportInput(SESSIONS, "session_date")),
    sql=_SQL,
)
