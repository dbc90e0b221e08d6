"""The newest alerts as one HTML file, `<root>/_reports/fraud_alerts.html`, for those who look into them.

One file without scripts and without anything to load. Made of the tables' rows, so it says what the tables say. Text
from records is escaped. Erasing a user removes it: the next one is made of what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from platform_assets.fraud.shown_alerts import MOST_ALERTS, ShownAlert
from platform_assets.reports.html_pages import load_template
from platform_assets.reports.presentation import PREVIEW_ROWS, render_table

if TYPE_CHECKING:
    from resources.lakehouse import LakehouseResource

ALERTS_PAGE = "_reports/fraud_alerts.html"

_PREVIEW = ("happened", "score", "amount", "currency", "strongest reason", "card is held", "reported")


def write_alerts_page(lakehouse: LakehouseResource, alerts: Sequence[ShownAlert]) -> str:
    """Writes the page, also of no alerts, and returns where. A reader sees it as it was or as it is."""
    page = load_template(__package__, "alerts_page.html").render(
        alerts=alerts,
        figures=count_alerts(alerts),
        most=MOST_ALERTS,
        written_at=datetime.now(UTC),
    )
    # A record may hold half of a surrogate pair, which no encoding takes.
    return lakehouse.folder.write_file(ALERTS_PAGE, page.encode("utf-8", "replace"))


def count_alerts(alerts: Sequence[ShownAlert]) -> dict[str, int]:
    """The numbers at the page's top."""
    return {
        "alerts": len(alerts),
        "cards": len({each.alert["card_id"] for each in alerts}),
        "cards held": len({each.alert["card_id"] for each in alerts if each.held_since is not None}),
        "reported as fraud": sum(each.verdict == "fraud" for each in alerts),
        "not fraud after all": sum(each.verdict == "no_fraud" for each in alerts),
    }


def render_alerts(alerts: Sequence[ShownAlert]) -> str:
    """The first alerts as Markdown, without whose they are: what Dagster is told no erasure reaches."""
    rows: list[dict[str, Any]] = [
        dict(
            zip(
                _PREVIEW,
                (
                    each.alert["event_time"], each.alert["score"], each.alert["amount"], each.alert["currency"],
                    (each.alert["reasons"] or [None])[0], "yes" if each.held_since else "no", each.verdict,
                ),
                strict=True,
            )
        )
        for each in alerts[:PREVIEW_ROWS]
    ]  # fmt: skip
    return render_table(_PREVIEW, rows)
