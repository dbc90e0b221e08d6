"""Money of several currencies, and money that was not sent: through a broker into every table, and over an upgrade."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from jobs.operations.recompute import recompute_stream
from jobs.simulator.profile import ShopProfile
from jobs.simulator.shop import Shop
from platform_assets.checks.parity import build_parity_checks
from platform_assets.checks.report_consistency import build_report_consistency_checks
from platform_assets.errors import PlanChangedError
from platform_assets.reports import REPORT_TABLES
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.stream_spec import Stream, StreamGroup, TableStream, select_derived
from platform_assets.streams import load_streams
from platform_assets.streams.sessions import build_sessions
from resources.duckdb import DuckDBResource
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.bounded_run import run_to_end
from tests.integration.streams_under_test import StreamsUnderTest
from tests.money_oracle import add_up
from tests.spark.report_cases import run_reports

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

AT = datetime(2026, 3, 1, 12, 0, 10, tzinfo=UTC)
STREAMS = {stream.name: stream for stream in load_streams()}
DERIVED = select_derived(load_streams())


def shop_event(event_id: str, seconds: int = 0, event_type: str = "purchase", **fields: Any) -> bytes:
    moment = (AT + timedelta(seconds=seconds)).isoformat()
    event = {"event_id": event_id, "event_type": event_type, "timestamp": moment, "user_id": "u1", "category": "toys"}
    return json.dumps({**event, "product_id": "p1", **fields}).encode()


# A view that leads to all purchases; then one in euro, one in yen, and one whose amount was not sent.
SENT = [
    shop_event("view", -5, "page_view"),
    shop_event("euro", revenue=100, currency="EUR"),
    shop_event("yen", 1, revenue=12_000, currency=" jpy "),
    shop_event("unknown", 2, price=20.0, quantity=3, currency="EUR"),
    shop_event("bare", 3, revenue=60),
    # Long after, so that all before it is over.
    shop_event("later", 6 * 3600, "page_view", user_id="u2"),
]


@pytest.fixture
def streams(
    spark: Any, kafka: KafkaResource, lakehouse: LakehouseResource, settings: Settings, topic: Callable[..., str]
) -> StreamsUnderTest:
    return StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic(1))


def test_no_table_adds_up_currencies_and_an_amount_that_was_not_sent_is_missing(
    streams: StreamsUnderTest, lakehouse: LakehouseResource
) -> None:
    streams.send(SENT)
    streams.drain()
    events = streams.rows("silver.events", "select event_id, revenue, currency from t where event_type = 'purchase'")
    assert {row["event_id"]: (row["revenue"], row["currency"]) for row in events} == {
        "euro": (100.0, "EUR"), "yen": (12_000.0, "JPY"), "unknown": (None, "EUR"), "bare": (60.0, None)
    }  # fmt: skip

    columns = "currency, total_revenue, purchase_count, purchases_without_amount, avg_order_value"
    windows = streams.rows("gold.revenue_by_category", f"select distinct {columns} from t order by currency")
    assert [tuple(row.values()) for row in windows] == [
        ("EUR", 100.0, 2, 1, 100.0), ("JPY", 12_000.0, 1, 0, 12_000.0), (None, 60.0, 1, 0, 60.0)
    ]  # fmt: skip
    # 100 of a currency are not more than 100; 12,000 are, of theirs.
    spent = streams.rows("gold.high_value_users", "select distinct user_id, currency, total_spent from t")
    assert spent == [{"user_id": "u1", "currency": "JPY", "total_spent": 12_000.0}]

    sums = '{"":"60.00","EUR":"100.00","JPY":"12000.00"}'
    (session,) = streams.rows("gold.sessions", "from t where user_id = 'u1'")
    assert (session["total_revenue"], session["currency"], session["revenue_by_currency"]) == (None, None, sums)
    assert session["purchases_without_amount"] == 1

    pages = run_reports(lakehouse, "2026-03-01", checks=build_report_consistency_checks(REPORT_TABLES))
    assert [(v.asset_key, v.description) for v in pages.get_asset_check_evaluations() if not v.passed] == []
    for name in ("session_report", "customer_days", "customer_360"):
        (row,) = streams.rows(f"gold.{name}", "from t where purchases_without_amount > 0")
        assert (row["total_revenue"], row["revenue_by_currency"]) == (None, sums), name
    for name in ("purchase_correlations", "purchase_devices"):
        (row,) = streams.rows(f"gold.{name}", "from t where attributed_without_amount > 0")
        assert (row["attributed_revenue"], row["attributed_revenue_by_currency"]) == (None, sums), name
    page = Path(lakehouse.root_uri, "_reports", "2026-03-01.html").read_text()
    assert "60.00, 100.00 EUR, 12,000.00 JPY" in page and "of 1 purchases no amount is known" in page
    assert check_parity(streams, lakehouse, DERIVED) == []


@pytest.mark.long
def test_a_simulated_shop_of_two_currencies_comes_to_the_same_everywhere(
    streams: StreamsUnderTest, lakehouse: LakehouseResource
) -> None:
    profile = ShopProfile(users=300, second_currency=0.4, without_revenue=0.2)
    begin = round(AT.timestamp() * 1e6)
    streams.send(value for _, _, value in Shop(profile, 7).history(begin, begin + 2 * 3_600_000_000, 1.0))
    streams.send([shop_event("later", 6 * 3600, "page_view")])
    streams.drain()
    reports = run_reports(lakehouse, "2026-03-01", checks=build_report_consistency_checks(REPORT_TABLES))
    assert [(v.asset_key, v.description) for v in reports.get_asset_check_evaluations() if not v.passed] == []
    assert check_parity(streams, lakehouse, DERIVED) == []

    bought = add_up(streams.rows("silver.events", "select revenue, currency from t where event_type = 'purchase'"))
    assert json.loads(bought.by_currency).keys() == {"EUR", "JPY"} and bought.without_amount > 0
    whole = "time_bucket(interval '1 minute', window_start) = window_start"
    sums = "sum(total_revenue::decimal(28, 2)) as revenue, sum(purchases_without_amount)::int as unknown"
    windows = streams.rows("gold.revenue_by_category", f"select currency, {sums} from t where {whole} group by all")
    by_currency = {row["currency"]: str(row["revenue"]) for row in windows}
    assert (by_currency, sum(row["unknown"] for row in windows)) == (json.loads(bought.by_currency), bought[-1])
    for name in ("gold.sessions", "gold.session_report", "gold.customer_days", "gold.customer_360"):
        rows = streams.rows(name)
        assert any(row["total_revenue"] is None for row in rows), name
        sold = [(code, sum_) for row in rows for code, sum_ in json.loads(row["revenue_by_currency"]).items()]
        known = add_up({"currency": code, "revenue": float(sum_)} for code, sum_ in sold)
        assert known.by_currency == bought.by_currency, name
        assert sum(row["purchases_without_amount"] for row in rows) == bought.without_amount, name


def check_parity(streams: StreamsUnderTest, lakehouse: LakehouseResource, specs: Sequence[Stream]) -> list[str | None]:
    """What the checks say that are red."""
    resources = {"duckdb": DuckDBResource(memory_mib=256), "lakehouse": lakehouse}
    said = []
    for check in build_parity_checks(specs, "duckdb"):
        verdict = check(dg.build_asset_check_context(resources=resources))
        assert isinstance(verdict, dg.AssetCheckResult)
        said += [] if verdict.passed else [verdict.description]
    return said


def older(stream: TableStream) -> TableStream:
    """gold.sessions as it was before currencies: one sum, that is never null."""
    columns = [column for column in stream.main_table.columns if column.name not in NEW_COLUMNS]
    table = dataclasses.replace(
        stream.main_table,
        columns=tuple(dataclasses.replace(c, nullable=c.nullable and c.name != "total_revenue") for c in columns),
    )
    source = dataclasses.replace(
        stream.source, columns=tuple(name for name in stream.source.columns if name != "currency")
    )

    def transform(events: DataFrame) -> DataFrame:
        from pyspark.sql import functions as F

        sessions = build_sessions(events.withColumn("currency", F.lit(None).cast("string")))
        return sessions.withColumn("total_revenue", F.coalesce("total_revenue", F.lit(0.0))).drop(*NEW_COLUMNS)

    return dataclasses.replace(stream, source=source, tables=(table,), transform=transform, rule=None)


NEW_COLUMNS = ("currency", "revenue_by_currency", "purchases_without_amount")


def test_an_older_table_is_refused_with_the_command_that_counts_it_anew(
    streams: StreamsUnderTest, lakehouse: LakehouseResource, settings: Settings
) -> None:
    streams.send(SENT)
    streams.drain("events")
    stream = next(stream for stream in DERIVED if stream.name == "sessions")
    run_to_end(QueryGroup(streams.session, [older(stream)], streams.context))
    before = streams.rows("gold.sessions")
    assert [row["total_revenue"] for row in before] == [12_160.0]

    # Reports over what is there go on: one sum of a currency that is not known.
    run_reports(lakehouse, "2026-03-01", only=[REPORT_TABLES[0]])
    (row,) = streams.rows("gold.session_report", "from t where total_revenue > 0")
    assert row["revenue_by_currency"] == '{"":"12160.00"}'

    with pytest.raises(PlanChangedError, match="headrace recompute sessions"):
        run_to_end(QueryGroup(streams.session, [stream], streams.context))
    streams.let_go_of_state()
    home = settings.model_copy(update={"lakehouse": streams.context.lakehouse_root})
    recompute_stream(StreamGroup("clickstream", tuple(STREAMS.values())), "sessions", home)
    run_to_end(QueryGroup(streams.session, [stream], streams.context))
    (row,) = streams.rows("gold.sessions")
    assert (row["total_revenue"], json.loads(row["revenue_by_currency"])["JPY"]) == (None, "12000.00")
    assert check_parity(streams, lakehouse, [stream]) == []
