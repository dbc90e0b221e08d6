"""gold.product_recommendations: what to show to whom. Users by what they deal with, others by what is popular there.

Rows are of three kinds (`basis`, the partition). `history` and `country` are written each night; `session` by the
stream group each minute (`session_update`), for users who are in the shop.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from platform_assets.reports.daily_report import InputRows
from platform_assets.reports.report_engine import ReportEngine
from platform_assets.reports.report_sources import SHOP
from platform_assets.reports.whole.interactions import (
    HISTORY_DAYS,
    Interactions,
    write_popular_sql,
    write_weights_sql,
)
from platform_assets.reports.whole.measured_recall import measure
from platform_assets.reports.whole.recommendation_tables import (
    MOST_RECOMMENDED,
    PRODUCT_NEIGHBOURS_TABLE,
    PRODUCT_RECOMMENDATIONS_TABLE,
)
from platform_assets.reports.whole.whole_table import Computed, WholeInput, WholeTable
from platform_assets.topics.events import EVENTS

if TYPE_CHECKING:
    import pyarrow as pa

    from platform_assets.reports.whole.item_similarity import Recommended

# What the stream group writes stays as it is.
BY_NIGHT = "basis IN ('history', 'country')"


def compute_recommendations(engine: ReportEngine, inputs: Sequence[InputRows], now: datetime) -> Computed:
    """Implements `WholeTable.compute`."""
    import pyarrow as pa

    from platform_assets.reports.whole.item_similarity import recommend

    known = Interactions.of_rows(engine.fetch(write_weights_sql(now), inputs))
    similar = read_similar(engine.fetch("SELECT * FROM product_neighbours", inputs), known.products)
    found = recommend(known.user, known.product, known.weight, similar, MOST_RECOMMENDED)
    by_user = describe_users(found, known.users, known.products, "history", now)
    popular = engine.fetch(write_popular_sql(now, MOST_RECOMMENDED), inputs)
    by_country = [
        {**row, "basis": "country", "user_id": None, "computed_at": now,
         "reason": f"popular in {row['country']}" if row["country"] else "popular"}
        for row in popular.to_pylist()
    ]  # fmt: skip
    rows = pa.concat_tables([by_user, pa.Table.from_pylist(by_country, by_user.schema)])
    return Computed(rows, measure(engine, [rows for rows in inputs if rows.name == "events"], now))


def read_similar(neighbours: pa.Table, products: Sequence[str]) -> object:
    """The neighbours among these products as a matrix, for `recommend`."""
    import numpy as np
    from scipy import sparse

    numbers = {name: number for number, name in enumerate(products)}
    row = np.array([numbers.get(name, -1) for name in neighbours["product_id"].to_pylist()], dtype=np.int64)
    column = np.array([numbers.get(name, -1) for name in neighbours["other_product_id"].to_pylist()], dtype=np.int64)
    kept = (row >= 0) & (column >= 0)
    scores = neighbours["score"].to_numpy()[kept]
    return sparse.csr_matrix((scores, (row[kept], column[kept])), shape=(len(products), len(products)))


def describe_users(
    found: Recommended, users: Sequence[str], products: Sequence[str], basis: str, now: datetime
) -> pa.Table:
    """Rows of the table for users, in the order of users and ranks."""
    import numpy as np
    import pyarrow as pa

    from platform_assets.streaming.delta.delta_tables import build_arrow_schema

    user_names, names = np.array(users, dtype=object), np.array(products, dtype=object)
    columns = {
        "basis": [basis] * len(found.rank), "user_id": user_names[found.user], "country": [None] * len(found.rank),
        "rank": found.rank.astype("i4"), "product_id": names[found.product], "score": found.score,
        "reason": "like " + names[found.because], "computed_at": [now] * len(found.rank),
    }  # fmt: skip
    return pa.table(columns, build_arrow_schema(PRODUCT_RECOMMENDATIONS_TABLE))


PRODUCT_RECOMMENDATIONS = WholeTable(
    table=PRODUCT_RECOMMENDATIONS_TABLE,
    inputs=(WholeInput(EVENTS, "event_date", HISTORY_DAYS), WholeInput(PRODUCT_NEIGHBOURS_TABLE)),
    compute=compute_recommendations,
    source=SHOP,
    part=BY_NIGHT,
)
