"""Panel `top_products`: what was bought most in the last hour."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from jobs.page.kept_rows import Kept
from jobs.page.panel import Panel, PanelInput
from platform_assets.topics.events import EVENTS


def _find_since(newest: datetime) -> datetime:
    """An hour of whole minutes, and the one that has begun."""
    return newest.replace(second=0, microsecond=0) - timedelta(hours=1)


_MOST = 8

# Purchases alone, added up by minute: a busy shop's table of events is too large to be read for a page.
_SALES = Kept(
    name="product_sales",
    table=EVENTS,
    time_column="event_time",
    find_since=_find_since,
    sql="""
        SELECT date_trunc('minute', event_time) AS moment, product_id, max(product_name) AS product_name, currency,
               sum(TRY_CAST(revenue AS DECIMAL(18, 2))) AS amount, count(*) AS purchases
        FROM file_rows
        WHERE event_type = 'purchase' AND product_id IS NOT NULL AND event_time >= $since
        GROUP BY ALL""",
)


def build(given: PanelInput) -> Mapping[str, Any]:
    """The products by purchases: amounts in several currencies have no order."""
    newest = given.newest["product_sales"]
    rows = given.ask(
        """WITH sold AS (
             SELECT product_id, currency, max(product_name) AS product_name, sum(amount) AS amount,
                    sum(purchases) AS purchases
             FROM product_sales WHERE moment >= $since AND moment <= $now GROUP BY ALL)
           SELECT product_id, max(product_name) AS name, CAST(sum(purchases) AS BIGINT) AS purchases,
                  list({'currency': currency, 'amount': CAST(amount AS DECIMAL(38, 2))}
                       ORDER BY purchases DESC, currency) AS amounts
           FROM sold GROUP BY product_id ORDER BY purchases DESC, product_id LIMIT $most""",
        now=given.now, since=_find_since(newest or given.now), most=_MOST,
    )  # fmt: skip
    most = rows[0]["purchases"] if rows else 1
    return {
        "now": given.now,
        "until": newest,
        "products": [
            {
                "name": row["name"] or row["product_id"], "purchases": row["purchases"],
                "share": row["purchases"] / most,
                "amounts": {each["currency"]: each["amount"] for each in row["amounts"][:2]},
            }
            for row in rows
        ],
    }  # fmt: skip


PANEL = Panel(name="top_products", title="Top products", order=50, build=build, kept=(_SALES,))
