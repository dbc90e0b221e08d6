"""Tables that are computed whole, each night, from a window of the accepted records: recommendations and graphs."""

from __future__ import annotations

from collections.abc import Collection

from platform_assets.reports.whole.product_communities import PRODUCT_COMMUNITIES
from platform_assets.reports.whole.product_neighbours import PRODUCT_NEIGHBOURS
from platform_assets.reports.whole.product_recommendations import PRODUCT_RECOMMENDATIONS
from platform_assets.reports.whole.shared_cards import SHARED_CARDS
from platform_assets.reports.whole.whole_table import WholeTable
from platform_assets.tables.spec import TableSpec

# In the order in which they are computed: what another one reads comes first.
ALL_WHOLE_TABLES = (PRODUCT_NEIGHBOURS, PRODUCT_RECOMMENDATIONS, PRODUCT_COMMUNITIES, SHARED_CARDS)


def select_whole_tables(tables: Collection[TableSpec]) -> tuple[WholeTable, ...]:
    """The tables of the topics whose tables of accepted records are among these."""
    return tuple(whole for whole in ALL_WHOLE_TABLES if whole.source.table in tables)
