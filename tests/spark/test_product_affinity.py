"""gold.product_affinity: against plain Python over all pairs of a basket, and at its borders."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.reports.product_affinity import (
    MAX_PRODUCTS_OF_ONE_BASKET,
    PRODUCT_AFFINITY,
    PRODUCT_AFFINITY_TABLE,
)
from resources.lakehouse import LakehouseResource
from tests.generated_cases import examples
from tests.spark.report_cases import (
    Event,
    append_events,
    compute_by_both_engines,
    event,
    events_table,
    read_rows,
    run_reports,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOON = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)

Pair = tuple[date, str, str]


def relate(events: Sequence[Event]) -> dict[Pair, dict[str, Any]]:
    """The oracle: every basket, every two products of it."""
    baskets: dict[tuple[date, str], set[str]] = defaultdict(set)
    for e in events:
        if e["event_type"] == "purchase" and e["product_id"] is not None:
            baskets[e["event_time"].date(), e["user_id"]].add(e["product_id"])
    kept = {key: basket for key, basket in baskets.items() if len(basket) <= MAX_PRODUCTS_OF_ONE_BASKET}
    per_day = Counter(day for day, _ in kept)
    per_product = Counter((day, product) for (day, _), basket in kept.items() for product in basket)
    shared = Counter((day, *pair) for (day, _), basket in kept.items() for pair in permutations(basket, 2))
    return {
        (day, one, other): {
            "baskets": per_day[day],
            "product_baskets": per_product[day, one],
            "other_baskets": per_product[day, other],
            "shared_baskets": n,
            "support": n / per_day[day],
            "confidence": n / per_product[day, one],
            "lift": n * per_day[day] / (per_product[day, one] * per_product[day, other]),
        }
        for (day, one, other), n in shared.items()
    }


def compute(spark: SparkSession, events: Sequence[Event]) -> dict[Pair, dict[str, Any]]:
    rows = compute_by_both_engines(spark, PRODUCT_AFFINITY.sql, events=events_table(events)).to_pylist()
    found = {(row.pop("report_date"), row.pop("product_id"), row.pop("other_product_id")): row for row in rows}
    assert len(found) == len(rows)
    return found


PURCHASES = st.builds(
    lambda user, minutes, kind, product: event(f"u{user}", NOON + timedelta(minutes=minutes), kind, product),
    st.integers(0, 8),
    st.sampled_from([0, 1, 600, 719, 720, 721, 1440]),
    st.sampled_from(["purchase", "purchase", "purchase", "page_view"]),
    st.sampled_from(["p1", "p2", "p3", "p4", "", None]),
)


@examples(4)
@given(st.lists(PURCHASES, min_size=30, max_size=120))
def test_every_pair_of_every_basket_counts(spark: SparkSession, events: list[Event]) -> None:
    assert compute(spark, events) == relate(events)


def test_a_product_bought_twice_is_once_in_the_basket_and_a_day_ends_it(spark: SparkSession) -> None:
    events = [event("u", NOON, "purchase", product) for product in ("p1", "p1", "p2")]
    events.append(event("u", NOON + timedelta(days=1), "purchase", "p3"))
    found = compute(spark, events)
    assert set(found) == {(NOON.date(), "p1", "p2"), (NOON.date(), "p2", "p1")}
    assert found[NOON.date(), "p1", "p2"]["shared_baskets"] == 1


@pytest.mark.parametrize(("products", "pairs"), [(MAX_PRODUCTS_OF_ONE_BASKET, 9900), (101, 0)])
def test_a_basket_beyond_the_limit_counts_in_nothing(spark: SparkSession, products: int, pairs: int) -> None:
    events = [event("reseller", NOON, "purchase", f"p{n}") for n in range(products)]
    events += [event("u", NOON, "purchase", product) for product in ("a", "b")]
    found = compute(spark, events)
    assert len(found) == pairs + 2
    assert found[NOON.date(), "a", "b"]["baskets"] == (2 if pairs else 1)


def test_a_run_replaces_its_day_and_no_other(lakehouse: LakehouseResource) -> None:
    only = [PRODUCT_AFFINITY_TABLE]
    today = [event("u1", NOON, "purchase", product) for product in ("p1", "p2")]
    later = [event("u1", NOON + timedelta(days=1), "purchase", product) for product in ("p1", "p3")]
    append_events(lakehouse, [*today, *later])
    run_reports(lakehouse, "2024-02-29", "2024-03-01", only=only)
    append_events(lakehouse, [event("u2", NOON, "purchase", p) for p in ("p1", "p2")], first_offset=10)
    run_reports(lakehouse, "2024-02-29", only=only)
    rows = read_rows(lakehouse, "gold.product_affinity")
    assert [(str(row["report_date"]), row["other_product_id"], row["shared_baskets"]) for row in rows] == [
        ("2024-02-29", "p2", 2),
        ("2024-02-29", "p1", 2),
        ("2024-03-01", "p3", 1),
        ("2024-03-01", "p1", 1),
    ]
