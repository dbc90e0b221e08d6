"""What the recomputation of reports is made of, against plain Python."""

from __future__ import annotations

import json
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import example, given
from hypothesis import strategies as st

from platform_assets.checks.recomputed.json_objects import (
    explode_counts,
    explode_objects,
    is_same_json,
    list_of,
    object_of,
)
from platform_assets.checks.recomputed.money import add_money, exact_amount, exact_sum, read_amounts
from platform_assets.checks.recomputed.percentiles import exact_percentiles
from platform_assets.checks.recomputed.snapshots import Portion, Snapshot, collect
from platform_assets.delta_reader import ArrowReadTable
from tests.money_oracle import add_up

CENT = Decimal("0.01")

AMOUNTS = st.one_of(
    st.floats(),
    st.decimals(-(10**6), 10**6, places=3).map(float),  # half cents
    st.integers(-(10**17), 10**17).map(float),
    st.none(),
)


def cents_of(amount: float | None, limit: float) -> Decimal | None:
    if amount is None or not abs(amount) < limit:
        return None
    return Decimal(repr(amount)).quantize(CENT, ROUND_HALF_UP)


@given(amounts=st.lists(AMOUNTS))
@example(amounts=[1.005, -1.005, 0.005, 2.675, 9999999999999998.0, 1e16, float("nan"), float("inf")])
def test_money_becomes_decimal_by_its_text_and_half_up(amounts: list[float | None]) -> None:
    frame = pl.LazyFrame({"amount": amounts}, schema={"amount": pl.Float64})
    expected = [cents_of(amount, 1e16) for amount in amounts]
    rows = collect(frame.select(cents=exact_amount("amount")))
    assert rows["cents"].to_list() == expected


@given(amounts=st.lists(st.floats(-1e25, 1e25), min_size=1))
def test_sums_of_money_may_be_larger(amounts: list[float]) -> None:
    rows = collect(pl.LazyFrame({"amount": amounts}).select(exact_sum("amount").alias("cents")))
    assert rows["cents"].to_list() == [cents_of(amount, 1e26) for amount in amounts]


PURCHASES = st.fixed_dictionaries(
    {
        "group": st.sampled_from(["a", "b", None]),
        "currency": st.sampled_from(["EUR", "JPY", None]),
        "revenue": st.one_of(st.none(), st.sampled_from([0.0, 0.004, 1.005, 1e17]), st.floats(0, 1e10)),
    }
)


@given(purchases=st.lists(PURCHASES))
def test_money_is_summed_by_currency_and_sums_of_sums_are_the_same(purchases: list[dict[str, Any]]) -> None:
    schema = {"group": pl.String, "currency": pl.String, "revenue": pl.Float64}
    frame = pl.LazyFrame(purchases, schema=schema)
    unknown = exact_amount("revenue").null_count().cast(pl.Int64)
    groups = collect(frame.group_by("group").agg(purchases_without_amount=unknown)).lazy()
    amounts = frame.select("group", "currency", cents=exact_amount("revenue"))
    rows = collect(add_money(groups, amounts, ["group"], "purchases_without_amount"))
    again = collect(add_money(groups, read_amounts(rows.lazy(), ["group"]), ["group"], "purchases_without_amount"))
    columns = ["total_revenue", "currency", "revenue_by_currency", "purchases_without_amount"]
    expected = {key: add_up(p for p in purchases if p["group"] == key) for key in {p["group"] for p in purchases}}
    for found in (rows, again):
        assert {row["group"]: tuple(row[name] for name in columns) for row in found.iter_rows(named=True)} == expected


def test_a_row_of_older_code_has_one_sum_of_no_known_currency() -> None:
    rows = pl.LazyFrame(
        {"group": ["a"] * 3, "total_revenue": [1.5, 0.0, None], "revenue_by_currency": [None, None, '{"EUR":"2.00"}']}
    )
    found = collect(read_amounts(rows, ["group"])).filter(pl.col("cents") != 0).sort("currency").rows()
    assert found == [("a", "", Decimal("1.50")), ("a", "EUR", Decimal("2.00"))]


VALUES = st.one_of(st.sampled_from([0.0, 1.0, 2.5]), st.floats(0, 1e5))


@given(groups=st.dictionaries(st.sampled_from(["a", "b", None]), st.lists(VALUES, min_size=1)))
def test_percentiles_are_those_of_numpy(groups: dict[str | None, list[float]]) -> None:
    rows = [(key, value) for key, values in groups.items() for value in values]
    frame = pl.LazyFrame(rows, schema={"key": pl.String, "value": pl.Float64}, orient="row")
    found = exact_percentiles(frame, ["key"], "value", {"p50": 0.5, "p90": 0.9})
    by_key = {key: (p50, p90) for key, p50, p90 in found.iter_rows()}
    assert by_key.keys() == groups.keys()
    for key, values in groups.items():
        # Below the smallest normal number the two round in ways of their own.
        assert by_key[key] == pytest.approx(tuple(np.percentile(values, [50, 90])), rel=1e-9, abs=1e-300)


NAMES = st.text(st.one_of(st.sampled_from('"\\{}:,[]1 '), st.characters(exclude_categories=["Cs"])))


@given(counts=st.lists(st.dictionaries(NAMES, st.integers(-(2**63), 2**63 - 1))), ascii_only=st.booleans())
def test_counts_are_read_from_json_and_written(counts: list[dict[str, int]], ascii_only: bool) -> None:
    texts = [json.dumps(one, ensure_ascii=ascii_only) for one in counts]
    frame = pl.LazyFrame({"row": range(len(texts)), "text": texts}, schema={"row": pl.Int64, "text": pl.String})
    entries = collect(explode_counts(frame, "text"))
    expected = [(number, key, n) for number, one in enumerate(counts) for key, n in one.items()]
    assert sorted(entries.iter_rows()) == sorted(expected)
    written = (
        entries.lazy().group_by("row").agg(all=object_of("key", pl.col("n").cast(pl.String)), names=list_of("key"))
    )
    for number, text, names in collect(written).iter_rows():
        assert is_same_json(text, texts[number])
        assert list(json.loads(text)) == json.loads(names) == sorted(counts[number])


@example(actions=[{"a": (1, True), ":{": (2, False), "},": (3, True), ": {}": (4, False)}])
@given(actions=st.lists(st.dictionaries(NAMES, st.tuples(st.integers(0, 2**62), st.booleans()))))
def test_objects_are_read_from_json(actions: list[dict[str, tuple[int, bool]]]) -> None:
    texts = [json.dumps({key: {"at": at, "open": is_open} for key, (at, is_open) in one.items()}) for one in actions]
    frame = pl.LazyFrame({"row": range(len(texts)), "text": texts}, schema={"row": pl.Int64, "text": pl.String})
    entries = collect(explode_objects(frame, "text", {"at": pl.Int64, "open": pl.Boolean}))
    expected = [(number, key, *action) for number, one in enumerate(actions) for key, action in one.items()]
    assert sorted(entries.iter_rows()) == sorted(expected)


def test_json_is_compared_by_what_it_says() -> None:
    assert is_same_json('{"b":1, "\\u00fc": {"y":1,"x":true}}', '{"ü":{"x":true,"y":1},"b":1}')
    for other in ('{"a":true}', '{"a":1.0}', '{"a":1,"a":1}', '{"a":1', "", None):
        assert not is_same_json('{"a":1}', other)


def test_every_row_is_in_one_portion_and_equal_keys_are_in_the_same() -> None:
    keys = pl.DataFrame({"key": [None, *(f"u{n % 1000}" for n in range(5000))]})
    portions = [keys.filter(Portion(number, 7).holds("key")) for number in range(7)]
    assert sum(len(portion) for portion in portions) == len(keys)
    assert sum(portion["key"].n_unique() for portion in portions) == keys["key"].n_unique()


def test_a_snapshot_reads_its_version_with_columns_that_came_later(tmp_path: Path) -> None:
    place = tmp_path / "my lake (ü) *?"
    first, second = date(2024, 2, 28), date(2024, 2, 29)
    rows = pa.table({"day": [first, first, second], "x": [1, 2, 3]})
    write_deltalake(place, rows, partition_by=["day"])
    more = pa.table({"day": [second, second], "x": [4, None], "is_late": [True, False]})
    write_deltalake(place, more, mode="append", schema_mode="merge", partition_by=["day"])

    newest = Snapshot(ArrowReadTable(str(place)))
    assert (newest.count_of_day(first), newest.count_of_day(second), newest.count_all()) == (2, 3, 5)
    assert sorted(collect(newest.of_day(second)).select("x", "day").rows(), key=str) == [
        (3, second), (4, second), (None, second)
    ]  # fmt: skip
    assert collect(newest.all_rows().filter("is_late"))["x"].to_list() == [4]
    assert len(collect(newest.all_rows().filter(pl.col("is_late").is_null()))) == 3
    assert collect(newest.of_day(date(2024, 3, 1))).is_empty()
    assert Snapshot(ArrowReadTable(str(place), version=0)).count_all() == 3

    write_deltalake(tmp_path / "empty", rows.slice(0, 0), partition_by=["day"])
    empty = Snapshot(ArrowReadTable(str(tmp_path / "empty")))
    assert (empty.count_all(), empty.count_of_day(first)) == (0, 0)
    assert collect(empty.of_day(first)).schema == {"x": pl.Int64, "day": pl.Date}
