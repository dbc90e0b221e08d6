"""How good the recommendations are: recall@10 and coverage over the newest days, learnt from the days before them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from platform_assets.reports.daily_report import InputRows
from platform_assets.reports.report_engine import ReportEngine
from platform_assets.reports.whole.interactions import Interactions, write_weights_sql

# What a page shows.
SHOWN = 10
# Of a week shops know how it repeats; a shop with less history is measured by its last quarter.
_TEST_DAYS = 7.0
# The sampling error of this many users' recall is under half a percentage point.
_MOST_USERS = 5_000


def measure(engine: ReportEngine, inputs: Sequence[InputRows], now: datetime) -> Mapping[str, float]:
    """Recall and coverage of the model and of what is most popular, by name; empty without users to measure by.

    With the number of users, and of days that were measured.

    Only products that a user had not dealt with before count, for him: what he knows is recommended by nobody.
    """
    span = engine.fetch("SELECT min(event_time) AS first, max(event_time) AS last FROM events", inputs).to_pylist()[0]
    if span["first"] is None:
        return {}
    last = min(span["last"], now)
    split = last - min(timedelta(days=_TEST_DAYS), (last - span["first"]) / 4)
    known = Interactions.of_rows(engine.fetch(write_weights_sql(split), inputs))
    tested = f"(SELECT * FROM events WHERE event_time >= TIMESTAMPTZ '{split.isoformat()}') AS tested"
    later = engine.fetch(write_weights_sql(now, tested), inputs)
    measured = compare(known, list(zip(later["user_id"].to_pylist(), later["product_id"].to_pylist(), strict=True)))
    return {**measured, "days": (last - split) / timedelta(days=1)} if measured else {}


def compare(known: Interactions, later: Sequence[tuple[str, str]]) -> Mapping[str, float]:
    """The same for what is known, and the users and products that came later."""
    import numpy as np

    from platform_assets.reports.whole.item_similarity import find_neighbours, recommend
    from platform_assets.reports.whole.product_neighbours import MOST_NEIGHBOURS

    wanted = find_wanted(known, later)
    if not wanted:
        return {}
    count = len(known.products)
    similar = find_neighbours(known.user, known.product, known.weight, count, MOST_NEIGHBOURS).as_matrix(count)
    is_tested = np.isin(known.user, list(wanted))
    found = recommend(known.user[is_tested], known.product[is_tested], known.weight[is_tested], similar, SHOWN)
    by_model: dict[int, list[int]] = {}
    for user, product in zip(found.user.tolist(), found.product.tolist(), strict=True):
        by_model.setdefault(user, []).append(product)
    popular = rank_popular(known, list(wanted))
    # As a look-up does: what the model leaves open is filled with what is popular.
    filled = {user: list(dict.fromkeys([*by_model.get(user, []), *popular[user]]))[:SHOWN] for user in wanted}
    ours, theirs = score(filled, wanted, count), score(popular, wanted, count)
    return {
        "recall_at_10": ours[0], "coverage": ours[1], "popular_recall_at_10": theirs[0], "popular_coverage": theirs[1],
        "users": float(len(wanted)),
    }  # fmt: skip


def find_wanted(known: Interactions, later: Sequence[tuple[str, str]]) -> dict[int, set[int]]:
    """Finds the products that are new to each user, of those that are known; of too many users every n-th."""
    users = {name: number for number, name in enumerate(known.users)}
    products = {name: number for number, name in enumerate(known.products)}
    had = set(zip(known.user.tolist(), known.product.tolist(), strict=True))
    wanted: dict[int, set[int]] = {}
    for user, product in later:
        pair = users.get(user, -1), products.get(product, -1)
        if min(pair) >= 0 and pair not in had:
            wanted.setdefault(pair[0], set()).add(pair[1])
    step = -(-len(wanted) // _MOST_USERS) or 1
    return {user: wanted[user] for user in sorted(wanted)[::step]}


def rank_popular(known: Interactions, users: Sequence[int]) -> dict[int, list[int]]:
    """The most popular products that each user has not dealt with."""
    import numpy as np

    sums = np.bincount(known.product, np.log1p(known.weight), minlength=len(known.products))
    order = np.argsort(-sums, kind="stable").tolist()
    had: dict[int, set[int]] = {user: set() for user in users}
    for user, product in zip(known.user.tolist(), known.product.tolist(), strict=True):
        if user in had:
            had[user].add(product)
    found = {}
    for user, own in had.items():
        new = (product for product in order if product not in own)
        found[user] = [product for product, _ in zip(new, range(SHOWN), strict=False)]
    return found


def score(recommended: Mapping[int, list[int]], wanted: Mapping[int, set[int]], products: int) -> tuple[float, float]:
    """Recall@10 (of at most ten that could be shown) and coverage: the share of all products that somebody is shown."""
    hits = [len(set(recommended[user][:SHOWN]) & new) / min(SHOWN, len(new)) for user, new in wanted.items()]
    shown = {product for user in wanted for product in recommended[user][:SHOWN]}
    return sum(hits) / len(hits), len(shown) / products
