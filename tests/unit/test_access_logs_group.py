"""What Dagster has of access logs: all of it with the group `access_logs`, and nothing without."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from platform_assets.definitions import defs
from platform_assets.reports.daily_page import DAILY_PAGE_KEY
from platform_assets.streams import traffic_by_minute
from platform_assets.topics.access_logs import TOPIC
from resources.settings import load_settings

STREAM = traffic_by_minute.STREAM
TABLES = (*TOPIC.tables, STREAM.main_table)
KEYS = {dg.AssetKey(table.asset_path) for table in TABLES}


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[dg.AssetGraph]:
    monkeypatch.setenv("HEADRACE_GROUPS", request.param)
    load_settings.cache_clear()
    yield defs().get_repository_def().asset_graph
    load_settings.cache_clear()


@pytest.mark.parametrize("graph", ["clickstream"], indirect=True)
def test_the_shop_alone_has_nothing_of_access_logs(graph: dg.AssetGraph) -> None:
    assert not KEYS & set(graph.get_all_asset_keys())


@pytest.mark.parametrize("graph", ["access_logs"], indirect=True)
def test_the_group_has_its_tables_and_checks_and_a_page(graph: dg.AssetGraph) -> None:
    assert set(graph.get_all_asset_keys()) >= KEYS | {DAILY_PAGE_KEY}
    checks = {(key.asset_key, key.name) for key in graph.asset_check_keys}
    assert {(key, "schema_contract") for key in KEYS} <= checks
    assert {(dg.AssetKey(STREAM.main_table.asset_path), name) for name in ("parity", "freshness")} <= checks


def test_a_log_has_no_statistics_of_who_it_was() -> None:
    for table in TABLES:
        personal = {"address", "network", "user_name", "message", "query", "user_agent", "key", "value"}
        if personal & {column.name for column in table.columns}:
            assert table.statistics_columns
            assert not personal & set(table.statistics_columns)
