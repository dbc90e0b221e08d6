"""gold.customer_360: one row a customer, all that is known of him.

Incremental: a run looks at the days of gold.customer_days that changed since the version which the table's newest
commit names, adds what these days say now and takes away what they said then. So its cost follows the days that
changed, and the number of customers, whose table it writes anew; never the events.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING, Any

from platform_assets.reports.customer_days import CUSTOMER_DAYS_TABLE
from platform_assets.reports.daily_report import (
    InputRows,
    PinnedTable,
    ReportCommit,
    pin_table,
    remove_replaced_files,
)
from platform_assets.reports.report_engine import ReportEngine
from platform_assets.reports.report_sql import BY_CURRENCY, as_json, join_amounts, read_amounts, total_of
from platform_assets.tables.spec import Column, TableSpec

if TYPE_CHECKING:
    from deltalake import DeltaTable

CUSTOMER_360_TABLE = TableSpec(
    name="gold.customer_360",
    description="One row a customer: when, how often and for how much he bought, what he likes, what is in his cart.",
    grain="one user",
    key=("user_id",),
    columns=(
        Column("user_id", "string", "Who", nullable=False),
        Column("first_seen_at", "timestamp", "Time of his first event", nullable=False),
        Column("last_seen_at", "timestamp", "Time of his last event", nullable=False),
        Column("last_purchase_at", "timestamp", "Recency: time of his last purchase; null without one"),
        Column("purchases", "bigint", "Frequency: purchase events", nullable=False),
        Column("total_revenue", "double", "Monetary value: their revenue; null: several currencies, or none known"),
        Column("avg_order_value", "double", "total_revenue / purchases with an amount; null without one"),
        Column("events", "bigint", "Events of every type", nullable=False),
        Column("sessions", "bigint", "Lifetime sessions (ended)", nullable=False),
        Column("last_session_start", "timestamp", "Start of his last session that has ended"),
        Column("last_session_end", "timestamp", "Time of its last event"),
        Column("favourite_category", "string", "Category of most of his events; of equal ones the first by name"),
        Column("favourite_device", "string", "Device type of most of his events; of equal ones the first by name"),
        Column("open_cart", "string", "JSON: products whose newest cart action is an add_to_cart", nullable=False),
        Column("open_cart_products", "bigint", "How many", nullable=False),
        Column("category_events", "string", "JSON: events by category", nullable=False),
        Column("device_events", "string", "JSON: events by device type", nullable=False),
        Column("cart_actions", "string", "JSON: the newest cart action by product", nullable=False),
        Column("currency", "string", "Currency of total_revenue; null where none was sent"),
        Column("revenue_by_currency", "string", "JSON: revenue by currency, as decimals in text"),
        Column("purchases_without_amount", "bigint", "Purchases whose amount is not known"),
    ),
    statistics_columns=("first_seen_at", "last_seen_at"),
)


_COUNTS = ("purchases", "events", "sessions", "purchases_without_amount")
_ACTION = 'STRUCT("at" BIGINT, "partition" INT, "offset" BIGINT, "open" BOOLEAN)'


def _facts(relation: str, sign: int, first: str = "first_event_at", last: str = "last_event_at") -> str:
    """SQL: what the rows of a relation add to, or take away from, their users."""
    counts = ", ".join(f"{sign} * COALESCE({name}, 0) AS {name}" for name in _COUNTS)
    return f"""
  SELECT user_id, {first} AS first_seen_at, {last} AS last_seen_at, last_purchase_at, last_session_start,
         last_session_end, {counts}, revenue_by_currency, total_revenue, {sign} AS sign, category_events,
         device_events, cart_actions
  FROM {relation}"""


def _count_by(column: str) -> str:
    """SQL: a user's events by a value, from the JSON objects of all facts. A value without events any more is gone."""
    return f"""
  SELECT user_id, entry.key AS name, CAST(sum(sign * entry.value) AS BIGINT) AS n
  FROM (
    SELECT user_id, sign, unnest(map_entries(CAST(CAST({column} AS JSON) AS MAP(VARCHAR, BIGINT)))) AS entry FROM facts
  ) AS entries GROUP BY ALL HAVING sum(sign * entry.value) > 0
"""


def _sum_by(counted: str) -> str:
    """SQL: the same as one JSON object a user, with the name that has most; of equal ones the first by name."""
    return f"""
  SELECT user_id, {as_json("name", "n")} AS counted, min_by(name, {{'n': -n, 'name': name}}) AS most
  FROM {counted} GROUP BY user_id
"""


# `known` are rows of the table (none: it is built anew, from all days), `days_now` and `days_then` are what the changed
# days of gold.customer_days say now and said then. Money is added up as decimal: the result does not depend on how the
# days came. Events of a day are never taken back, so times and carts are the latest of both. What a session grew into,
# or was merged into, ends no earlier; of two with one end the longer one is newer.
SQL = f"""
WITH facts AS (
  {_facts("known", 1, "first_seen_at", "last_seen_at")}
  UNION ALL {_facts("days_now", 1)}
  UNION ALL {_facts("days_then", -1)}
), summed AS (
  SELECT user_id, min(first_seen_at) AS first_seen_at, max(last_seen_at) AS last_seen_at,
         max(last_purchase_at) AS last_purchase_at,
         max_by({{'starts': last_session_start, 'ends': last_session_end}},
                {{'ends': last_session_end, 'length': -epoch_us(last_session_start)}})
           FILTER (WHERE last_session_end IS NOT NULL) AS last_session,
         {", ".join(f"CAST(sum({name}) AS BIGINT) AS {name}" for name in _COUNTS)}
  FROM facts GROUP BY user_id HAVING sum(events) > 0
), amounts AS ({read_amounts("facts", "user_id", "sign")}), money AS ({join_amounts("amounts", "user_id")}
), category_counts AS ({_count_by("category_events")}), categories AS ({_sum_by("category_counts")}
), device_counts AS ({_count_by("device_events")}), devices AS ({_sum_by("device_counts")}
), actions AS (
  SELECT user_id, entry.key AS product_id, max(entry.value) AS action
  FROM (
    SELECT user_id, unnest(map_entries(CAST(CAST(cart_actions AS JSON) AS MAP(VARCHAR, {_ACTION})))) AS entry FROM facts
  ) AS entries GROUP BY ALL
), carts AS (
  SELECT user_id, {as_json("product_id", "action")} AS cart_actions,
         list_sort(array_agg(product_id) FILTER (WHERE action.open)) AS open_cart,
         count(*) FILTER (WHERE action.open) AS open_cart_products
  FROM actions GROUP BY user_id
)
SELECT summed.user_id, first_seen_at, last_seen_at, last_purchase_at, purchases,
       {total_of("purchases_without_amount")} AS total_revenue,
       {total_of("purchases_without_amount")} / nullif(purchases - purchases_without_amount, 0) AS avg_order_value,
       events, sessions,
       last_session.starts AS last_session_start, last_session.ends AS last_session_end,
       categories.most AS favourite_category, devices.most AS favourite_device,
       CASE WHEN open_cart_products > 0 THEN CAST(to_json(open_cart) AS VARCHAR) ELSE '[]' END AS open_cart,
       COALESCE(open_cart_products, 0) AS open_cart_products,
       COALESCE(categories.counted, '{{}}') AS category_events, COALESCE(devices.counted, '{{}}') AS device_events,
       COALESCE(carts.cart_actions, '{{}}') AS cart_actions, currency, {BY_CURRENCY} AS revenue_by_currency,
       purchases_without_amount
FROM summed
LEFT JOIN money ON money.user_id = summed.user_id
LEFT JOIN categories ON categories.user_id = summed.user_id
LEFT JOIN devices ON devices.user_id = summed.user_id
LEFT JOIN carts ON carts.user_id = summed.user_id
"""


def update_customers(engine: ReportEngine, lakehouse: Any) -> DeltaTable:
    """Brings gold.customer_360 up to gold.customer_days, in one commit; the table as it is then. For one run at a time.

    Nothing is written when nothing has changed. Raises `dg.Failure` when gold.customer_days does not exist.
    """
    from platform_assets.streaming.delta.delta_tables import create_table

    days = pin_table(lakehouse, CUSTOMER_DAYS_TABLE)
    uri, options = lakehouse.table_uri(CUSTOMER_360_TABLE.name), lakehouse.storage_options()
    table = create_table(uri, CUSTOMER_360_TABLE, options)
    since = read_included_version(table)
    changed = None if since is None else _find_changed(lakehouse, since, days.version)
    if changed is not None and not changed:
        return table
    own = PinnedTable(CUSTOMER_360_TABLE, uri, table.version())
    inputs = list(_changes(own, days, since, changed))
    engine.replace(SQL, inputs, CUSTOMER_360_TABLE, ReportCommit(None, {days.name: days.version}))
    remove_replaced_files(table)
    return table


def _changes(own: PinnedTable, days: PinnedTable, since: int | None, changed: list[date] | None) -> Iterator[InputRows]:
    """What `SQL` reads: all days and nothing known, or what is known and the changed days as they are and were."""
    if since is None or changed is None:
        yield InputRows("known", own, is_empty=True)
        yield InputRows("days_now", days)
        yield InputRows("days_then", days, is_empty=True)
    else:
        bounds = ("report_date", min(changed), max(changed))
        yield InputRows("known", own)
        yield InputRows("days_now", days, bounds, tuple(changed))
        yield InputRows("days_then", PinnedTable(days.spec, days.uri, since), bounds, tuple(changed))


def read_included_version(table: DeltaTable) -> int | None:
    """The version of gold.customer_days that the table includes; None when its newest commit does not say so.

    Another one's commit on top (a deletion, a repair by hand) makes the next run build the table anew.
    """
    for commit in table.history(10):
        parsed = ReportCommit.parse(commit.get("userMetadata"))
        if parsed is not None:
            return parsed.inputs[CUSTOMER_DAYS_TABLE.name]
        if not commit["operation"].startswith("VACUUM"):
            return None
    return None


def _find_changed(lakehouse: Any, since: int, until: int) -> list[date] | None:
    """The days that changed between two versions of gold.customer_days; None when that cannot be told any more."""
    from platform_assets.streaming.delta.changed_days import find_changed_days
    from platform_assets.streaming.delta.commit_log import CommitLog

    if since > until:
        return None
    log = CommitLog(lakehouse.table_uri(CUSTOMER_DAYS_TABLE.name), "", lakehouse.storage_options())
    changed = find_changed_days(log, CUSTOMER_DAYS_TABLE.partition_columns[0], since, until)
    return None if changed is None else sorted(changed)
