"""Graphs of products and of cards: against a union-find in plain Python and counts by Polars, and at their borders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_assets.checks.schema_contract import find_contract_breaches
from platform_assets.reports.duckdb_engine import DuckDBEngine
from platform_assets.reports.report_engine import Engines
from platform_assets.reports.whole.assets import compute_whole
from platform_assets.reports.whole.product_communities import PAIRS_SQL, PRODUCT_COMMUNITIES, find_communities
from platform_assets.reports.whole.shared_cards import LINKS_SQL, MAX_CARDS_OF_ONE, SHARED_CARDS, find_components
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.topics.transactions import TRANSACTIONS
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.spark.report_cases import append_events, event, events_table, read_rows

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
Payment = dict[str, Any]


def payment(
    card: str, customer: str, device: str | None = None, channel: str | None = "online", **more: Any
) -> Payment:
    return {"card_id": card, "customer_id": customer, "device": device, "channel": channel, **more}


def transactions_table(payments: Sequence[Payment]) -> pa.Table:
    rows = [
        {
            **p, "transaction_id": f"t{n}", "kind": "payment", "event_time": NOW, "event_date": NOW.date(),
            "merchant_id": "m", "merchant_category": "food", "amount": 1, "currency": "EUR", "topic": "t",
            "kafka_partition": 0, "kafka_offset": n, "kafka_timestamp": NOW, "ingested_at": NOW,
        }
        for n, p in enumerate(payments)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, build_arrow_schema(TRANSACTIONS))


def components_of(payments: Sequence[Payment]) -> set[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        connection.register("transactions", transactions_table(payments))
        found = find_components(connection.sql(LINKS_SQL).to_arrow_table(), NOW)
    return {tuple(row.values())[:-1] for row in found.to_pylist()}


def join_by_hand(payments: Sequence[Payment]) -> set[tuple[Any, ...]]:
    """The oracle: a union-find over names."""
    links = defaultdict(set)
    for p in payments:
        if not p.get("is_anonymous"):
            links["customer", p["customer_id"]].add(("card", p["card_id"]))
        if p["device"] is not None and p["channel"] in ("online", "recurring"):
            links["device", p["device"]].add(("card", p["card_id"]))
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def find(name: tuple[str, str]) -> tuple[str, str]:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for member, cards in links.items():
        if len(cards) <= MAX_CARDS_OF_ONE:
            for card in cards:
                parent[find(card)] = find(member)
    groups = defaultdict(set)
    for name in parent:
        groups[find(name)].add(name)
    rows = set()
    for members in groups.values():
        counts = [sum(kind == wanted for kind, _ in members) for wanted in ("card", "customer", "device")]
        if counts[0] >= 2:
            first = min(name for kind, name in members if kind == "card")
            rows |= {(first, kind, name, *counts) for kind, name in members}
    return rows


ids = st.sampled_from(["1", "2", "3", "4", "5", "6", "7", "8"])
payments = st.builds(
    payment, ids, ids, st.none() | ids, st.sampled_from(["online", "recurring", "chip", "contactless", None]),
    is_anonymous=st.sampled_from([None, False, True]),
)  # fmt: skip


@given(st.lists(payments, max_size=14), st.randoms())
@settings(max_examples=80, deadline=None)
def test_components_are_those_of_a_union_find(drawn: list[Payment], random: Any) -> None:
    expected = join_by_hand(drawn)
    assert components_of(drawn) == expected
    random.shuffle(drawn)
    assert components_of(drawn) == expected


def test_a_terminal_and_a_device_of_many_cards_join_nobody() -> None:
    terminal = [payment(f"c{n}", f"k{n}", "terminal", "chip") for n in range(3)]
    assert components_of(terminal) == set()
    few, many = ([payment(f"c{n:02}", f"k{n}", "d") for n in range(count)] for count in (20, 21))
    assert len(components_of(few)) == 41 and components_of(many) == set()


def test_a_card_that_is_linked_later_keeps_the_name_of_its_component() -> None:
    before = components_of([payment("b", "k1", "d1"), payment("c", "k2", "d1")])
    after = components_of([payment("b", "k1", "d1"), payment("c", "k2", "d1"), payment("d", "k2", "d2")])
    assert {row[0] for row in before} == {row[0] for row in after} == {"b"}


def compute(lakehouse: LakehouseResource, whole: Any, home: Path) -> dict[str, Any]:
    with DuckDBResource.from_settings(Settings(home=home)).connected() as connection:
        engine = DuckDBEngine(connection, lakehouse)
        return compute_whole(whole, Engines(engine, engine), lakehouse, NOW)


def test_shared_cards_are_written_and_a_preview_names_nobody(tmp_path: Path) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path / "lake"))
    table = create_table(lakehouse.table_uri(TRANSACTIONS.name), TRANSACTIONS)
    write_deltalake(table, transactions_table([payment("b", "ann-7", "d"), payment("c", "bob-8", "d")]), mode="append")
    metadata = compute(lakehouse, SHARED_CARDS, tmp_path)
    rows = read_rows(lakehouse, "gold.shared_cards")
    assert {row["member_id"] for row in rows} == {"b", "c", "ann-7", "bob-8", "d"}
    assert {(row["component_id"], row["cards"], row["customers"], row["devices"]) for row in rows} == {("b", 2, 2, 1)}
    assert "ann-7" not in str(metadata["preview"])
    assert find_contract_breaches(lakehouse.delta_table("gold.shared_cards"), SHARED_CARDS.table) == []


baskets = st.lists(
    st.tuples(
        st.sampled_from("uvwxyz"), st.integers(0, 2), st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4)
    ),
    max_size=25,
)


def buy(drawn: Sequence[tuple[str, int, Sequence[str]]]) -> list[dict[str, Any]]:
    return [
        event(user, NOW - timedelta(days=day), "purchase", product) for user, day, products in drawn
        for product in products
    ]  # fmt: skip


@given(baskets)
@settings(max_examples=60, deadline=None)
def test_pairs_are_those_that_polars_counts(drawn: list[tuple[str, int, list[str]]]) -> None:
    events = [*buy(drawn), event("v", NOW, "page_view", "a"), event("v", NOW, "page_view", "b")]
    with duckdb.connect() as connection:
        connection.register("events", events_table(events))
        found = {(r["product_id"], r["other_product_id"]): r["shared_baskets"]
                 for r in connection.sql(PAIRS_SQL).to_arrow_table().to_pylist()}  # fmt: skip
    rows = pl.DataFrame(events).filter(pl.col("event_type") == "purchase")
    sets = rows.with_columns(pl.col("event_time").dt.date()).select("event_time", "user_id", "product_id").unique()
    both = sets.join(sets, on=["event_time", "user_id"], suffix="_2")
    pairs = both.filter(pl.col("product_id") < pl.col("product_id_2")).group_by("product_id", "product_id_2").len()
    counted = pairs.filter(pl.col("len") >= 2)
    assert found == {(one, other): count for one, other, count in counted.iter_rows()}


def test_products_that_are_bought_together_are_one_community(tmp_path: Path) -> None:
    groups = [("a", "b", "c"), ("x", "y", "z")]
    alike = [(f"u{n}", 0, groups[n % 2]) for n in range(12)]
    drawn = [*alike, ("m", 0, ("a", "x")), ("n", 0, ("a", "x")), ("s", 0, ("q",))]
    lakehouse = LakehouseResource(root=str(tmp_path / "lake"))
    append_events(lakehouse, buy(drawn))
    compute(lakehouse, PRODUCT_COMMUNITIES, tmp_path)
    rows = {row["product_id"]: row for row in read_rows(lakehouse, "gold.product_communities")}
    expected = {**dict.fromkeys("abc", "a"), **dict.fromkeys("xyz", "x")}
    assert {product: row["community_id"] for product, row in rows.items()} == expected
    assert rows["a"]["shared_baskets"] == 12 and rows["a"]["share_within"] == pytest.approx(12 / 14)
    assert {row["products"] for row in rows.values()} == {3} and rows["b"]["share_within"] == 1.0
    table = lakehouse.delta_table("gold.product_communities")
    assert find_contract_breaches(table, PRODUCT_COMMUNITIES.table) == []


@given(st.randoms())
@settings(max_examples=20, deadline=None)
def test_communities_do_not_depend_on_the_order_of_pairs(random: Any) -> None:
    pairs = [(a, b, 2 + (ord(a) * ord(b)) % 5) for a, b in combinations("abcdefghij", 2) if (ord(a) + ord(b)) % 3]
    expected = find_communities(pairs)
    random.shuffle(pairs)
    assert find_communities(pairs) == expected
    assert sorted(product for members in expected for product in members) == list("abcdefghij")


def test_no_pairs_make_no_communities() -> None:
    assert find_communities([]) == []
