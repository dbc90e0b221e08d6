"""gold.merchant_category_report: against plain Python, by both engines, and its checks."""

from __future__ import annotations

import json
import shutil
import statistics
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import dagster as dg
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import given

from platform_assets.checks.freshness import build_report_freshness_checks
from platform_assets.checks.report_consistency import build_report_consistency_checks
from platform_assets.checks.schema_contract import build_schema_contract_checks
from platform_assets.reports import assets
from platform_assets.reports.day_states import REPORT_DAYS
from platform_assets.reports.merchant_category_report import (
    MERCHANT_CATEGORY_REPORT,
    MERCHANT_CATEGORY_REPORT_TABLE,
)
from platform_assets.reports.report_engine import EngineName
from platform_assets.reports.report_sources import CARDS, SHOP
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.tables.platform import COMPLETE_UNTIL, LATE_EVENTS
from platform_assets.tables.spec import Column
from platform_assets.topics.transactions import TRANSACTIONS
from resources.lakehouse import LakehouseResource
from tests.generated_cases import examples
from tests.spark.card_cases import MINUTE, Transaction, cards, transaction, transactions_table
from tests.spark.report_cases import PARTITIONS, compute_by_both_engines, read_rows, rounded, run_reports

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SPEC = MERCHANT_CATEGORY_REPORT_TABLE
NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
MIDNIGHT = datetime(2024, 3, 1, tzinfo=UTC)
ASSETS = {
    engine: assets.build_report_assets([MERCHANT_CATEGORY_REPORT], PARTITIONS, engine)
    for engine in get_args(EngineName)
}
PAID = [
    transaction(f"c{n % 5}", NOON + n * MINUTE, f"{n}.{n:02}", kind, f"m{n % 3}", country, currency, category)
    for n in range(40)
    for kind, country, currency, category in [
        ("refund" if n % 7 == 6 else "reversal" if n % 11 == 10 else "payment", "FR" if n % 4 else None,
         "JPY" if n % 5 == 4 else "EUR", "travel" if n % 3 == 2 else "grocery")
    ]
]  # fmt: skip


def write(lakehouse: LakehouseResource, transactions: Sequence[Transaction], first_offset: int = 0) -> None:
    table = create_table(lakehouse.table_uri(TRANSACTIONS.name), TRANSACTIONS)
    write_deltalake(table, transactions_table(transactions, first_offset), mode="append")


def complete(lakehouse: LakehouseResource, until: datetime, queries: Sequence[str]) -> None:
    rows = [{"query": query, "complete_until": until, "written_at": until} for query in queries]
    table = create_table(lakehouse.table_uri(COMPLETE_UNTIL.name), COMPLETE_UNTIL)
    write_deltalake(table, pa.Table.from_pylist(rows, build_arrow_schema(COMPLETE_UNTIL)), mode="overwrite")


def run(lakehouse: LakehouseResource, spark: SparkSession | None = None, **options: Any) -> dg.ExecuteInProcessResult:
    return run_reports(lakehouse, "2024-02-29", assets=ASSETS, spark=spark, **options)


def read_state(lakehouse: LakehouseResource) -> tuple[str, str | None]:
    (row,) = (row for row in read_rows(lakehouse, REPORT_DAYS.name) if row["report_date"] == NOON.date())
    return row["state"], row["exceptions"]


def ask_python(transactions: Sequence[Transaction]) -> list[dict[str, Any]]:
    """The oracle: one group after the other."""
    groups: dict[tuple[date, str, str], list[Transaction]] = defaultdict(list)
    for each in transactions:
        groups[each["event_time"].date(), each["merchant_category"], each["currency"]].append(each)
    found = []
    for key, own in groups.items():
        of = {kind: [t for t in own if t["kind"] == kind] for kind in ("payment", "refund", "reversal")}
        paid, sums = of["payment"], {kind: sum((t["amount"] for t in rows), Decimal(0)) for kind, rows in of.items()}
        amounts = [float(t["amount"]) for t in paid]
        # One value has no tenths; twice the same value has those.
        several = amounts if len(amounts) > 1 else [*amounts, *amounts, 0, 0][:2]
        tenths = statistics.quantiles(several, n=10, method="inclusive")
        found.append(
            {
                **dict(zip(SPEC.key, key, strict=True)),
                "payments": len(paid),
                "customers": len({t["customer_id"] for t in paid}),
                "cards": len({t["card_id"] for t in paid}),
                "merchants": len({t["merchant_id"] for t in paid}),
                "countries": len({t["country"] for t in paid} - {None}),
                "total_amount": sums["payment"],
                "avg_amount": float(sums["payment"]) / len(paid) if paid else None,
                "p50_amount": statistics.median(amounts) if paid else None,
                "p90_amount": tenths[8] if paid else None,
                "refunds": len(of["refund"]),
                "refunded_amount": sums["refund"],
                "refund_share": len(of["refund"]) / len(paid) if paid else None,
                "reversals": len(of["reversal"]),
                "reversed_amount": sums["reversal"],
            }
        )
    return found


@examples(3)
@given(cards())
def test_the_report_equals_plain_python_by_both_engines(spark: SparkSession, transactions: list[Transaction]) -> None:
    rows = transactions_table(transactions)
    report = compute_by_both_engines(spark, MERCHANT_CATEGORY_REPORT.sql, transactions=rows)
    assert report.column_names == [column.name for column in SPEC.columns]

    def in_order(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return sorted(found, key=lambda row: str([row[name] for name in SPEC.key]))

    actual, expected = in_order(report.to_pylist()), in_order(ask_python(transactions))
    assert len(actual) == len(expected)
    for got, wanted in zip(actual, expected, strict=True):
        for name, value in wanted.items():
            assert got[name] == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value), name


def test_an_anonymous_customer_is_no_customer_and_its_card_is_one(spark: SparkSession) -> None:
    rows = transactions_table([transaction("c", NOON), transaction("d", NOON)]).to_pylist()
    rows[1]["is_anonymous"] = True
    table = pa.Table.from_pylist(rows, build_arrow_schema(TRANSACTIONS))
    (row,) = compute_by_both_engines(spark, MERCHANT_CATEGORY_REPORT.sql, transactions=table).to_pylist()
    assert (row["customers"], row["cards"]) == (1, 2)


def test_spark_as_the_engine_writes_the_same_day(spark: SparkSession, tmp_path: Path) -> None:
    both = {name: LakehouseResource(root=str(tmp_path / name / "lakehouse")) for name in get_args(EngineName)}
    for engine, lakehouse in both.items():
        write(lakehouse, PAID)
        assert run(lakehouse, spark if engine == "spark" else None).success
    by_duckdb, by_spark = (rounded(lakehouse.delta_table(SPEC.name).to_pyarrow_table()) for lakehouse in both.values())
    assert by_duckdb
    assert by_duckdb == by_spark


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lakehouse with the report of one day, of which all checks have passed."""
    root = tmp_path_factory.mktemp("cards")
    lakehouse = LakehouseResource(root=str(root / "lakehouse"))
    write(lakehouse, PAID)
    checks = [
        *build_report_consistency_checks([SPEC]),
        *build_schema_contract_checks([SPEC]),
        *build_report_freshness_checks([SPEC]),
    ]
    verdicts = run(lakehouse, checks=checks).get_asset_check_evaluations()
    assert [(v.check_name, v.description) for v in verdicts if not v.passed] == []
    assert len(verdicts) == 3
    assert len(read_rows(lakehouse, SPEC.name)) == 4
    return root


def judge(lakehouse: LakehouseResource) -> dg.AssetCheckResult:
    (check,) = build_report_consistency_checks([SPEC])
    verdict = check(dg.build_asset_check_context(resources={"lakehouse": lakehouse}))
    assert isinstance(verdict, dg.AssetCheckResult)
    return verdict


@pytest.mark.parametrize("column", SPEC.columns[1:], ids=lambda column: column.name)
def test_the_consistency_check_finds_one_wrong_value_in_any_column(
    written: Path, tmp_path: Path, column: Column
) -> None:
    shutil.copytree(written / "lakehouse", tmp_path / "lakehouse")
    lakehouse = LakehouseResource(root=str(tmp_path / "lakehouse"))
    wrong = {
        "bigint": f"{column.name} + 1", "double": f"coalesce({column.name} * 1.000001, 0.0) + 0.000001",
        "string": f"concat({column.name}, 'x')", "decimal(28,2)": f"{column.name} + 0.01",
    }[column.type]  # fmt: skip
    predicate = "merchant_category = 'grocery' and currency = 'EUR'"
    changed = lakehouse.delta_table(SPEC.name).update({column.name: wrong}, predicate=predicate)
    assert changed["num_updated_rows"] == 1
    verdict = judge(lakehouse)
    assert not verdict.passed
    assert "2 differing rows" in str(verdict.description)
    assert column.name in str(verdict.description)


def test_a_day_is_final_by_the_streams_over_cards_alone_and_names_the_late_ones(tmp_path: Path) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path / "lakehouse"))
    write(lakehouse, PAID)
    complete(lakehouse, MIDNIGHT + timedelta(days=1), SHOP.queries)
    assert run(lakehouse).success
    assert read_state(lakehouse) == ("provisional", None)
    complete(lakehouse, MIDNIGHT, CARDS.queries)
    assert run(lakehouse).success
    assert read_state(lakehouse) == ("final", None)
    late = [{"query": "velocity", "event_time": NOON, "topic": "t", "kafka_partition": 0, "kafka_offset": 3}]
    schema = build_arrow_schema(LATE_EVENTS)
    table = create_table(lakehouse.table_uri(LATE_EVENTS.name), LATE_EVENTS)
    write_deltalake(table, pa.Table.from_pylist(late, schema), mode="append")
    assert run(lakehouse).success
    state, lacking = read_state(lakehouse)
    assert (state, json.loads(lacking or "{}")) == ("final", {"late_events": 1})


def test_a_day_is_computed_again_when_a_transaction_of_it_comes_and_not_before(tmp_path: Path) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path / "lakehouse"))
    write(lakehouse, PAID)
    run(lakehouse)
    version = lakehouse.delta_table(SPEC.name).version()
    run(lakehouse)
    assert lakehouse.delta_table(SPEC.name).version() == version
    write(lakehouse, [transaction("c", NOON, merchant_category="fuel")], first_offset=len(PAID))
    run(lakehouse)
    assert {row["merchant_category"] for row in read_rows(lakehouse, SPEC.name)} == {"grocery", "travel", "fuel"}


def test_the_day_has_a_page_with_the_cards_alone(written: Path) -> None:
    page = (written / "lakehouse" / "_reports" / "2024-02-29.html").read_text(encoding="utf-8")
    rows = read_rows(LakehouseResource(root=str(written / "lakehouse")), SPEC.name)
    assert "What cards paid" in page and "Where sessions come from" not in page and 'id="sessions"' not in page
    for row in rows:
        assert f">{row['total_amount']:,.2f}</td>" in page
    assert page.count('<td class="text">travel</td>') == sum(row["merchant_category"] == "travel" for row in rows)
