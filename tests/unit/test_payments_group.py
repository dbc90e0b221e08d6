"""What Dagster has of card payments: all of it with the group `payments`, and nothing without."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import dagster as dg
import pytest

from platform_assets.definitions import defs
from platform_assets.reports.daily_page import DAILY_PAGE_KEY
from platform_assets.reports.merchant_category_report import MERCHANT_CATEGORY_REPORT_TABLE
from platform_assets.streams import card_days, spend_by_card, velocity
from platform_assets.topics import fraud_reports
from platform_assets.topics.transactions import TOPIC
from resources.settings import load_settings

STREAMS = (card_days.STREAM, spend_by_card.STREAM, velocity.STREAM)
TABLES = (
    *TOPIC.tables,
    *fraud_reports.TOPIC.tables,
    *(stream.main_table for stream in STREAMS),
    MERCHANT_CATEGORY_REPORT_TABLE,
)
KEYS = {dg.AssetKey(table.asset_path) for table in TABLES}
OF_SHOP = {dg.AssetKey(path.split("/")) for path in ("silver/events", "gold/session_report", "gold/customer_360")}

Load = Callable[[str], dg.RepositoryDefinition]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    def load_with(groups: str) -> dg.RepositoryDefinition:
        monkeypatch.setenv("HEADRACE_GROUPS", groups)
        load_settings.cache_clear()
        return defs().get_repository_def()

    yield load_with
    load_settings.cache_clear()


def test_the_shop_alone_has_nothing_of_payments(load: Load) -> None:
    graph = load("clickstream").asset_graph
    assert not KEYS & set(graph.get_all_asset_keys())
    assert not KEYS & {key.asset_key for key in graph.asset_check_keys}


def test_both_groups_have_their_tables_and_checks(load: Load) -> None:
    graph = load("clickstream,payments").asset_graph
    assert set(graph.get_all_asset_keys()) >= KEYS | OF_SHOP
    checks = {(key.asset_key, key.name) for key in graph.asset_check_keys}
    assert {(key, "schema_contract") for key in KEYS} <= checks
    own = {(dg.AssetKey(stream.main_table.asset_path), name) for stream in STREAMS for name in ("parity", "freshness")}
    report = dg.AssetKey(MERCHANT_CATEGORY_REPORT_TABLE.asset_path)
    assert own | {(report, "consistency"), (report, "freshness")} <= checks


def test_payments_alone_have_a_page_and_no_customers_of_the_shop(load: Load) -> None:
    graph = load("payments").asset_graph
    assert set(graph.get_all_asset_keys()) >= KEYS
    assert not OF_SHOP & set(graph.get_all_asset_keys())
    report = graph.get(dg.AssetKey(MERCHANT_CATEGORY_REPORT_TABLE.asset_path))
    assert graph.get(DAILY_PAGE_KEY).parent_keys == {report.key, dg.AssetKey(["platform", "closed_days"])}
    assert report.parent_keys == {dg.AssetKey(["silver", "transactions"]), dg.AssetKey(["platform", "closed_days"])}


def test_a_log_has_no_statistics_of_whose_card_it_is() -> None:
    for table in TABLES:
        personal = {"card_id", "customer_id", "transaction_id", "device", "key", "value"}
        if personal & {column.name for column in table.columns}:
            assert table.statistics_columns
            assert not personal & set(table.statistics_columns)
