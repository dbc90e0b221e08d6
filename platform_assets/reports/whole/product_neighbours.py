"""gold.product_neighbours: which products a product leads to, by what the same users deal with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from platform_assets.reports.daily_report import InputRows
from platform_assets.reports.report_engine import ReportEngine
from platform_assets.reports.report_sources import SHOP
from platform_assets.reports.whole.interactions import HISTORY_DAYS, Interactions, write_weights_sql
from platform_assets.reports.whole.recommendation_tables import PRODUCT_NEIGHBOURS_TABLE
from platform_assets.reports.whole.whole_table import Computed, WholeInput, WholeTable
from platform_assets.topics.events import EVENTS

# A shop's page shows ten; what is left out by a user's own products and by stock must leave ten.
MOST_NEIGHBOURS = 50


def compute_neighbours(engine: ReportEngine, inputs: Sequence[InputRows], now: datetime) -> Computed:
    """Implements `WholeTable.compute`."""
    import numpy as np
    import pyarrow as pa

    from platform_assets.reports.whole.item_similarity import find_neighbours

    known = Interactions.of_rows(engine.fetch(write_weights_sql(now), inputs))
    found = find_neighbours(known.user, known.product, known.weight, len(known.products), MOST_NEIGHBOURS)
    names = np.array(known.products, dtype=object)
    rows = {
        "product_id": names[found.product], "rank": found.rank, "other_product_id": names[found.other],
        "score": found.score, "computed_at": [now] * len(found.rank),
    }  # fmt: skip
    return Computed(pa.table({name: pa.array(values) for name, values in rows.items()}))


PRODUCT_NEIGHBOURS = WholeTable(
    table=PRODUCT_NEIGHBOURS_TABLE,
    inputs=(WholeInput(EVENTS, "event_date", HISTORY_DAYS),),
    compute=compute_neighbours,
    source=SHOP,
)
