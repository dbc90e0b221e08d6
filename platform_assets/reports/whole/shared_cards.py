"""gold.shared_cards: cards, customers and devices that belong together, for who looks into fraud.

Two cards belong together when one customer has both, or one device has paid by both, and so do all that are linked over
others: connected components.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from platform_assets.reports.daily_report import InputRows
from platform_assets.reports.report_engine import ReportEngine
from platform_assets.reports.report_sources import CARDS
from platform_assets.reports.whole.whole_table import Computed, WholeInput, WholeTable
from platform_assets.tables.spec import Column, EventRoles, TableSpec
from platform_assets.topics.transactions import TRANSACTIONS

if TYPE_CHECKING:
    import pyarrow as pa

# A phone is sold, a browser is left behind: links of a year ago are of other people.
HISTORY_DAYS = 90
# A device or a customer of more cards stands for many people: a call centre's browser, a marketplace's account. It
# would glue all their cards into one component that says nothing. A family has fewer.
MAX_CARDS_OF_ONE = 20

SHARED_CARDS_TABLE = TableSpec(
    name="gold.shared_cards",
    description="Cards that belong together over customers and devices, with these: components of at least two cards.",
    grain="one card, customer or device of a component",
    key=("component_id", "kind", "member_id"),
    columns=(
        Column("component_id", "string", "The component: the first of its card_ids", nullable=False),
        Column("kind", "string", "card, customer or device", nullable=False),
        Column("member_id", "string", "Its id", nullable=False),
        Column("cards", "bigint", "Cards of the component", nullable=False),
        Column("customers", "bigint", "Customers of the component", nullable=False),
        Column("devices", "bigint", "Devices of the component", nullable=False),
        Column("computed_at", "timestamp", "When it was computed", nullable=False),
    ),
    statistics_columns=("computed_at",),
    # Its customers are users; `forget-user` takes them out.
    roles=EventRoles(user_id="member_id"),
)

# A terminal in a shop is the shop's: of devices only those that customers have at home say who belongs to whom.
LINKS_SQL = f"""
WITH links AS (
  SELECT DISTINCT card_id, 'customer' AS kind, customer_id AS member_id FROM transactions
  WHERE is_anonymous IS NOT TRUE
  UNION ALL
  SELECT DISTINCT card_id, 'device' AS kind, device AS member_id FROM transactions
  WHERE device IS NOT NULL AND channel IN ('online', 'recurring')
)
SELECT card_id, kind, member_id FROM links
QUALIFY count(*) OVER (PARTITION BY kind, member_id) <= {MAX_CARDS_OF_ONE}
"""


def compute_shared_cards(engine: ReportEngine, inputs: Sequence[InputRows], now: datetime) -> Computed:
    """Implements `WholeTable.compute`."""
    return Computed(find_components(engine.fetch(LINKS_SQL, inputs), now))


def find_components(links: pa.Table, now: datetime) -> pa.Table:
    """Rows of the table, from links of `card_id` with a `member_id` of a `kind`."""
    import numpy as np
    import pyarrow as pa
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    cards, card = np.unique(_texts(links["card_id"]), return_inverse=True)
    # A customer and a device may have one id, and are two.
    pairs = zip(links["kind"].to_pylist(), links["member_id"].to_pylist(), strict=True)
    members, member = np.unique(np.array([f"{kind} {name}" for kind, name in pairs], object), return_inverse=True)
    size = len(cards) + len(members)
    graph = sparse.coo_matrix((np.ones(len(card), dtype=np.int8), (card, member + len(cards))), shape=(size, size))
    count, component = connected_components(graph, directed=False)
    kinds = np.array(["card"] * len(cards) + [name.split(" ", 1)[0] for name in members], dtype=object)
    ids = np.array([*cards, *(name.split(" ", 1)[1] for name in members)], dtype=object)
    sizes = {kind: np.bincount(component[kinds == kind], minlength=count) for kind in ("card", "customer", "device")}
    # Cards are in the order of their ids: the first one of a component is its name.
    first = np.zeros(count, dtype=np.int64)
    first[component[: len(cards)][::-1]] = np.arange(len(cards))[::-1]
    kept = np.flatnonzero(sizes["card"][component] >= 2) if size else np.empty(0, np.int64)
    own = component[kept]
    order = np.lexsort((ids[kept].astype(str), kinds[kept].astype(str), first[own]))
    kept, own = kept[order], own[order]
    columns = {
        "component_id": cards[first[own]], "kind": kinds[kept], "member_id": ids[kept], "cards": sizes["card"][own],
        "customers": sizes["customer"][own], "devices": sizes["device"][own], "computed_at": [now] * len(kept),
    }  # fmt: skip
    types = {"component_id": pa.string(), "kind": pa.string(), "member_id": pa.string()}
    return pa.table({name: pa.array(values, types.get(name)) for name, values in columns.items()})


def _texts(column: pa.ChunkedArray) -> Any:
    import numpy as np

    return np.array(column.to_pylist(), dtype=object)


SHARED_CARDS = WholeTable(
    table=SHARED_CARDS_TABLE,
    inputs=(WholeInput(TRANSACTIONS, "event_date", HISTORY_DAYS),),
    compute=compute_shared_cards,
    source=CARDS,
)
