"""gold.product_communities: groups of products that are bought together more than chance would have it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from platform_assets.reports.daily_report import InputRows
from platform_assets.reports.product_affinity import MAX_PRODUCTS_OF_ONE_BASKET
from platform_assets.reports.report_engine import ReportEngine
from platform_assets.reports.report_sources import SHOP
from platform_assets.reports.whole.interactions import HISTORY_DAYS
from platform_assets.reports.whole.whole_table import Computed, WholeInput, WholeTable
from platform_assets.tables.spec import Column, TableSpec
from platform_assets.topics.events import EVENTS

# One basket with both may be chance, and of a large shop such pairs are most of all pairs.
MIN_SHARED_BASKETS = 2
# Louvain is plain Python, about 100,000 pairs in ten seconds: more of each product would say little and cost a night.
_PAIRS_OF_ONE_PRODUCT = 30
# Louvain visits products in an order that it draws: with another number equally good groups may come out.
_SEED = 7

PRODUCT_COMMUNITIES_TABLE = TableSpec(
    name="gold.product_communities",
    description="Groups of products that the same customers buy on the same day, by Louvain's method.",
    grain="one product that was bought together with another one at least twice",
    key=("product_id",),
    columns=(
        Column("community_id", "string", "The group: the first of its product_ids", nullable=False),
        Column("product_id", "string", "Product", nullable=False),
        Column("products", "bigint", "Products of the group", nullable=False),
        Column("shared_baskets", "bigint", "Pairs of the product and another one of the group, in baskets"),
        Column("share_within", "double", "The same of all its pairs: 0 to 1", nullable=False),
        Column("computed_at", "timestamp", "When it was computed", nullable=False),
    ),
)

# Baskets as in gold.product_affinity: what a known user bought on one UTC day. Each pair once, in the order of names.
PAIRS_SQL = f"""
WITH bought AS (
  SELECT DISTINCT event_date, user_id, product_id FROM events
  WHERE event_type = 'purchase' AND product_id IS NOT NULL AND is_anonymous IS NOT TRUE
), baskets AS (
  SELECT event_date, user_id, array_agg(product_id) AS products FROM bought
  GROUP BY event_date, user_id HAVING count(*) BETWEEN 2 AND {MAX_PRODUCTS_OF_ONE_BASKET}
), singles AS (
  SELECT products, unnest(products) AS product_id FROM baskets
), doubles AS (
  SELECT product_id, unnest(products) AS other_product_id FROM singles
), pairs AS (
  SELECT product_id, other_product_id, count(*) AS shared_baskets FROM doubles
  WHERE product_id <> other_product_id GROUP BY ALL HAVING count(*) >= {MIN_SHARED_BASKETS}
), strongest AS (
  SELECT * FROM pairs QUALIFY row_number() OVER
    (PARTITION BY product_id ORDER BY shared_baskets DESC, other_product_id) <= {_PAIRS_OF_ONE_PRODUCT}
)
SELECT DISTINCT least(product_id, other_product_id) AS product_id,
       greatest(product_id, other_product_id) AS other_product_id, shared_baskets
FROM strongest ORDER BY product_id, other_product_id
"""


def compute_communities(engine: ReportEngine, inputs: Sequence[InputRows], now: datetime) -> Computed:
    """Implements `WholeTable.compute`."""
    import pyarrow as pa

    from platform_assets.streaming.delta.delta_tables import build_arrow_schema

    pairs = [
        (row["product_id"], row["other_product_id"], row["shared_baskets"])
        for row in engine.fetch(PAIRS_SQL, inputs).to_pylist()
    ]
    communities = find_communities(pairs)
    of_product = {product: min(members) for members in communities for product in members}
    inside, all_pairs = dict.fromkeys(of_product, 0), dict.fromkeys(of_product, 0)
    for one, other, baskets in pairs:
        for product in (one, other):
            all_pairs[product] += baskets
            inside[product] += baskets if of_product[one] == of_product[other] else 0
    rows = [
        {
            "community_id": min(members), "product_id": product, "products": len(members),
            "shared_baskets": inside[product], "share_within": inside[product] / all_pairs[product], "computed_at": now,
        }
        for members in communities for product in sorted(members)
    ]  # fmt: skip
    return Computed(pa.Table.from_pylist(rows, build_arrow_schema(PRODUCT_COMMUNITIES_TABLE)))


def find_communities(pairs: Sequence[tuple[str, str, int]]) -> list[set[str]]:
    """The products in groups, by Louvain's method; the same for the same pairs, in whatever order they come."""
    import networkx as nx

    graph = nx.Graph()
    # Louvain goes by the order in which a graph was built.
    graph.add_nodes_from(sorted({product for pair in pairs for product in pair[:2]}))
    graph.add_weighted_edges_from(sorted(pairs))
    if not graph:
        return []
    return sorted(nx.community.louvain_communities(graph, weight="weight", seed=_SEED), key=min)


PRODUCT_COMMUNITIES = WholeTable(
    table=PRODUCT_COMMUNITIES_TABLE,
    inputs=(WholeInput(EVENTS, "event_date", HISTORY_DAYS),),
    compute=compute_communities,
    source=SHOP,
)
