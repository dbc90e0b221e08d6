"""The asset `reports/fraud_alerts_page`: the newest alerts as a page, hourly and on demand."""

# No postponed annotations in this file: Dagster reads those of assets at definition time.
from collections.abc import Iterable
from typing import Any

import dagster as dg

from platform_assets.streams.card_holds import CARD_HOLDS
from platform_assets.streams.fraud_alerts import FRAUD_ALERTS
from platform_assets.tables.fraud import CARD_RELEASES
from platform_assets.topics.fraud_reports import FRAUD_REPORTS
from platform_assets.topics.transactions import TRANSACTIONS

ALERTS_PAGE_KEY = dg.AssetKey(["reports", "fraud_alerts_page"])

# Of two runs at once the one that has read first may write last.
ALERTS_PAGE_POOL = "fraud_alerts_page"

_SOURCES = (FRAUD_ALERTS, TRANSACTIONS, FRAUD_REPORTS, CARD_HOLDS, CARD_RELEASES)


def has_alerts(group_names: Iterable[str]) -> bool:
    """Whether these groups score payments, and bring the alerts into a table."""
    return {"payments", "fraud"} <= set(group_names)


def build_page_asset() -> dg.AssetsDefinition:
    """The page. Needs the resources `lakehouse` and `duckdb`."""

    @dg.asset(
        key=ALERTS_PAGE_KEY,
        deps=[list(table.asset_path) for table in _SOURCES],
        description="The newest alerts as one HTML file without further parts, next to the tables: the payment, its "
        "reasons, the card's last day, whether it is held, and what was reported since.",
        group_name="fraud",
        owners=["team:data-platform"],
        kinds={"html"},
        pool=ALERTS_PAGE_POOL,
        required_resource_keys={"lakehouse", "duckdb"},
    )
    def fraud_alerts_page(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        from platform_assets.fraud.alerts_page import count_alerts, render_alerts, write_alerts_page
        from platform_assets.fraud.shown_alerts import read_alerts

        lakehouse = context.resources.lakehouse
        with context.resources.duckdb.connected() as connection:
            alerts = read_alerts(lakehouse, connection)
        metadata: dict[str, Any] = {
            "page": dg.MetadataValue.path(write_alerts_page(lakehouse, alerts)),
            "preview": dg.MetadataValue.md(render_alerts(alerts)),
        }
        metadata |= {f"fraud/{name.replace(' ', '_')}": count for name, count in count_alerts(alerts).items()}
        return dg.MaterializeResult(metadata=metadata)

    return fraud_alerts_page
