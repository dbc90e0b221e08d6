"""Compares a report's rows with those computed once more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import polars as pl

from platform_assets.checks.recomputed.bandwidth_forecast import recompute_forecast
from platform_assets.checks.recomputed.conversions import bounds_of_pairs, recompute_correlations, recompute_devices
from platform_assets.checks.recomputed.customer_360 import recompute_customers
from platform_assets.checks.recomputed.customer_days import recompute_customer_days
from platform_assets.checks.recomputed.early_warning_scores import recompute_scores
from platform_assets.checks.recomputed.json_objects import is_same_json
from platform_assets.checks.recomputed.merchant_category_report import recompute_merchant_categories
from platform_assets.checks.recomputed.network_threats import recompute_threats
from platform_assets.checks.recomputed.product_affinity import recompute_affinity
from platform_assets.checks.recomputed.session_report import recompute_session_report
from platform_assets.checks.recomputed.snapshots import Portion, Snapshot, collect, split_rows
from platform_assets.checks.recomputed.telemetry_anomalies import recompute_anomalies
from platform_assets.reports.customer_days import CUSTOMER_DAYS_TABLE
from platform_assets.streams.view_to_purchase import VIEW_TO_PURCHASE
from platform_assets.tables.spec import TableSpec
from platform_assets.topics.access_logs import ACCESS_LOGS
from platform_assets.topics.events import EVENTS
from platform_assets.topics.telemetry import TELEMETRY

# Differences shown: the first ones tell what is wrong, all of them would be stored with every evaluation.
SHOWN = 10
_SHOWN_CHARACTERS = 200

# Doubles that come of more than one operation differ in their last bits between engines.
_RELATIVE_ROUNDING = 1e-9

# A double holds no more cents than these exactly: beyond them the last bit depends on how a decimal becomes a double.
_EXACT_MONEY = 2**53 / 100
_MONEY_ROUNDING = 1e-15

# What a portion takes is some 500 bytes a row, whatever the size of the table.
ROWS_OF_ONE_PORTION = 1_000_000

_OTHER = "_expected"


@dataclass(frozen=True)
class Recomputation:
    """How a report is computed once more, and which of its columns are compared otherwise than bit by bit.

    `rows` gives at least the table's columns, for one day (None: the report is not by day) and one portion by
    `portion_key`; of the inputs in `held` a portion keeps something of every row in memory. `rounded` columns may
    differ by `_RELATIVE_ROUNDING`, `money` beyond `_EXACT_MONEY` by `_MONEY_ROUNDING`; of `json` columns the parsed
    values are compared.
    """

    rows: Callable[[Mapping[str, Snapshot], Any, Portion], pl.LazyFrame]
    portion_key: str
    held: tuple[str, ...] = ()
    rounded: tuple[str, ...] = ()
    money: tuple[str, ...] = ()
    json: tuple[str, ...] = ()


RECOMPUTATIONS: Mapping[str, Recomputation] = {
    "gold.session_report": Recomputation(
        recompute_session_report,
        "country",
        rounded=("avg_duration_seconds", "p50_duration_seconds", "p90_duration_seconds"),
        money=("total_revenue",),
        json=("revenue_by_currency",),
    ),
    "gold.purchase_correlations": Recomputation(
        recompute_correlations,
        "product_id",
        held=(VIEW_TO_PURCHASE.name,),
        rounded=("p50_lag_seconds", "p90_lag_seconds", "lift"),
        money=("attributed_revenue",),
        json=("attributed_revenue_by_currency",),
    ),
    "gold.purchase_devices": Recomputation(
        recompute_devices,
        "product_id",
        held=(VIEW_TO_PURCHASE.name,),
        rounded=("p50_lag_seconds",),
        money=("attributed_revenue",),
        json=("attributed_revenue_by_currency",),
    ),
    "gold.product_affinity": Recomputation(recompute_affinity, "product_id"),
    "gold.customer_days": Recomputation(
        recompute_customer_days,
        "user_id",
        held=(EVENTS.name,),
        money=("total_revenue",),
        json=("category_events", "device_events", "cart_actions", "revenue_by_currency"),
    ),
    "gold.merchant_category_report": Recomputation(
        recompute_merchant_categories, "merchant_category", rounded=("avg_amount", "p50_amount", "p90_amount")
    ),
    # Of each sensor eight days are held: a day's rows are of more readings than it has.
    "gold.telemetry_anomalies": Recomputation(recompute_anomalies, "sensor", held=(TELEMETRY.name,)),
    "gold.early_warning_scores": Recomputation(recompute_scores, "sensor"),
    "gold.network_threats": Recomputation(recompute_threats, "network", held=(ACCESS_LOGS.name,)),
    "gold.bandwidth_forecast": Recomputation(
        recompute_forecast,
        "host",
        rounded=("expected_bytes", "mean_error_bytes", "naive_error_bytes", "mean_bytes"),
    ),
    "gold.customer_360": Recomputation(
        recompute_customers,
        "user_id",
        held=(CUSTOMER_DAYS_TABLE.name,),
        rounded=("avg_order_value",),
        money=("total_revenue",),
        json=("open_cart", "category_events", "device_events", "cart_actions", "revenue_by_currency"),
    ),
}


@dataclass
class Differences:
    """Rows that differ: how many, and the first `SHOWN` of them. A row with another value counts on both sides."""

    count: int = 0
    first: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: dict[str, Any]) -> None:
        """Takes down one row."""
        self.count += 1
        if len(self.first) < SHOWN:
            cut = {k: v[:_SHOWN_CHARACTERS] if isinstance(v, str) else v for k, v in row.items()}
            self.first.append(cut)

    def extend(self, other: Differences) -> None:
        """Takes down what was found elsewhere."""
        self.count += other.count
        self.first = (self.first + other.first)[:SHOWN]


def find_differences(
    spec: TableSpec, report: Snapshot, sources: Mapping[str, Snapshot], days: Sequence[date] | None
) -> Differences:
    """What differs between the report's rows of these days (None: all) and those computed once more.

    `sources` by name. Rows are matched by the table's key, null being equal to null; all columns of the spec are
    compared. Each day by itself, and in portions of about `ROWS_OF_ONE_PORTION` rows of it: no more is in memory.
    Raises `FileNotFoundError` where a file of a snapshot is not there any more.
    """
    found, how = Differences(), RECOMPUTATIONS[spec.name]
    for day in [None] if days is None else days:
        rows = [_count(spec.name, report, day), *(_count(name, sources[name], day) for name in how.held)]
        for portion in split_rows(max(rows), ROWS_OF_ONE_PORTION):
            _compare(spec, report, sources, day, portion, found)
    return found


def _count(name: str, snapshot: Snapshot, day: date | None) -> int:
    if day is None:
        return snapshot.count_all()
    if name == VIEW_TO_PURCHASE.name:
        return snapshot.count_between("view_time", *bounds_of_pairs(day))
    return snapshot.count_of_day(day)


def _compare(
    spec: TableSpec,
    report: Snapshot,
    sources: Mapping[str, Snapshot],
    day: date | None,
    portion: Portion,
    found: Differences,
) -> None:
    how = RECOMPUTATIONS[spec.name]
    key, names = list(spec.key), [column.name for column in spec.columns]
    rows = report.all_rows() if day is None else report.of_day(day)
    actual = rows.filter(portion.holds(how.portion_key)).select(*names, pl.lit(True).alias("_is_there"))
    expected = how.rows(sources, day, portion).select(*names, pl.lit(True).alias("_is_there"))
    for row in collect(actual.group_by(key).len().filter(pl.col("len") > 1)).iter_rows(named=True):
        found.add({"breach": "in the report more than once", **row})
    both = actual.join(expected, on=key, how="full", nulls_equal=True, suffix=_OTHER)
    values = [name for name in names if name not in key]
    differs = [_differs(how, name).alias(f"_differs_{name}") for name in values]
    one_sided = pl.col("_is_there").is_null() | pl.col(f"_is_there{_OTHER}").is_null()
    differing = both.with_columns(differs).filter(one_sided | pl.any_horizontal(pl.col("^_differs_.*$")))
    for row in collect(differing).iter_rows(named=True):
        _add_row(found, row, key, values, how)


def _add_row(found: Differences, row: dict[str, Any], key: list[str], values: list[str], how: Recomputation) -> None:
    in_report, in_inputs = row["_is_there"], row[f"_is_there{_OTHER}"]
    shown = values
    if in_report and in_inputs:
        shown = [
            name
            for name in values
            if row[f"_differs_{name}"] and not (name in how.json and is_same_json(row[name], row[f"{name}{_OTHER}"]))
        ]
    if not shown:
        return
    if in_report:
        found.add({"breach": "in the report only"} | {name: row[name] for name in [*key, *shown]})
    if in_inputs:
        found.add({"breach": "in its inputs only"} | {name: row[f"{name}{_OTHER}"] for name in [*key, *shown]})


def _differs(how: Recomputation, name: str) -> pl.Expr:
    actual, expected = pl.col(name), pl.col(f"{name}{_OTHER}")
    size = expected.abs()
    if name in how.rounded:
        allowed = size * _RELATIVE_ROUNDING
    elif name in how.money:
        allowed = pl.when(size < _EXACT_MONEY).then(0.0).otherwise(size * _MONEY_ROUNDING)
    else:
        return actual.ne_missing(expected)
    return actual.ne_missing(expected) & ((actual - expected).abs() <= allowed).fill_null(False).not_()
