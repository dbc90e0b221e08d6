"""Implicit feedback: what users do with products, as one weight for each user and product that fades with time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

# A purchase says more than a cart, and a cart more than a look; of these three the ratio matters, not the unit.
# Taking out of the cart says nothing: it is as often a choice between two that are both liked.
WEIGHTS = {"page_view": 1.0, "add_to_cart": 3.0, "purchase": 5.0}
# After a month half is left: long enough for who comes once a fortnight, short enough for a season.
HALF_LIFE_DAYS = 30.0
# Three half-lives. What is older would weigh an eighth at most, and cost as much to read.
HISTORY_DAYS = 90
# A user of more products is a reseller or a crawler: of his products the heaviest say what there is to say, and all
# pairs of thousands would be most of the work.
MOST_PRODUCTS_OF_ONE_USER = 200


@dataclass(frozen=True)
class Interactions:
    """Weights in numbers: `users[user[i]]` has `weight[i]` for `products[product[i]]`. Names are in order."""

    users: list[str]
    products: list[str]
    user: NDArray[np.int64]
    product: NDArray[np.int64]
    weight: NDArray[np.float64]

    @classmethod
    def of_rows(cls, rows: pa.Table) -> Interactions:
        """Numbers the names in rows of `user_id`, `product_id` and `weight`, one a user and product."""
        import numpy as np

        users, user = np.unique(np.array(rows["user_id"].to_pylist(), dtype=object), return_inverse=True)
        products, product = np.unique(np.array(rows["product_id"].to_pylist(), dtype=object), return_inverse=True)
        weight = rows["weight"].to_numpy().astype(np.float64)
        return cls(users.tolist(), products.tolist(), user.astype("i8"), product.astype("i8"), weight)


def write_weights_sql(until: datetime, relation: str = "events", half_life_days: float = HALF_LIFE_DAYS) -> str:
    """SQL (DuckDB): the weight of each known user and product at `until`, from what has happened before it."""
    at = f"TIMESTAMPTZ '{until.isoformat()}'"
    cases = " ".join(f"WHEN '{kind}' THEN {weight}" for kind, weight in WEIGHTS.items())
    kinds = ", ".join(f"'{kind}'" for kind in WEIGHTS)
    age = f"(epoch_us({at}) - epoch_us(event_time)) / 86400e6"
    return f"""
  SELECT user_id, product_id, sum(CASE event_type {cases} END * pow(2, -{age} / {half_life_days})) AS weight
  FROM {relation}
  WHERE event_time < {at} AND event_type IN ({kinds}) AND product_id IS NOT NULL AND is_anonymous IS NOT TRUE
  GROUP BY user_id, product_id
  QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY weight DESC, product_id) <= {MOST_PRODUCTS_OF_ONE_USER}
"""


def write_popular_sql(until: datetime, most: int) -> str:
    """SQL (DuckDB): the `most` popular products of each country, and of all (country null), with score and rank.

    A score is the sum over users of the logarithm of their weight: one who looks a hundred times is not a hundred.
    """
    at = f"TIMESTAMPTZ '{until.isoformat()}'"
    return f"""
WITH weights AS ({write_weights_sql(until)}), homes AS (
  SELECT user_id, max_by(country, event_time) AS country FROM events
  WHERE country IS NOT NULL AND is_anonymous IS NOT TRUE AND event_time < {at} GROUP BY user_id
), counted AS (
  SELECT country, product_id, round(sum(ln(1 + weight)), 9) AS score
  FROM weights JOIN homes ON homes.user_id = weights.user_id GROUP BY ALL
  UNION ALL
  SELECT NULL AS country, product_id, round(sum(ln(1 + weight)), 9) AS score FROM weights GROUP BY ALL
)
SELECT country, product_id, score,
       row_number() OVER (PARTITION BY country ORDER BY score DESC, product_id) AS rank
FROM counted
QUALIFY row_number() OVER (PARTITION BY country ORDER BY score DESC, product_id) <= {most}
"""
