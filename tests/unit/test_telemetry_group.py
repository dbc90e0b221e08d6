"""What Dagster has of telemetry: all of it with the group `telemetry`, and nothing without."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import dagster as dg
import pytest

from platform_assets.definitions import defs
from platform_assets.streams import telemetry_statistics
from platform_assets.tables.telemetry import EARLY_WARNING_SCORES_TABLE, TELEMETRY_ANOMALIES_TABLE
from platform_assets.topics.telemetry import TOPIC
from resources.settings import load_settings

STREAM_TABLE = telemetry_statistics.TELEMETRY_STATISTICS
REPORTS = (TELEMETRY_ANOMALIES_TABLE, EARLY_WARNING_SCORES_TABLE)
TABLES = (*TOPIC.tables, STREAM_TABLE, *REPORTS)
KEYS = {dg.AssetKey(table.asset_path) for table in TABLES}

Load = Callable[[str], dg.RepositoryDefinition]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    def load_with(groups: str) -> dg.RepositoryDefinition:
        monkeypatch.setenv("HEADRACE_GROUPS", groups)
        load_settings.cache_clear()
        return defs().get_repository_def()

    yield load_with
    load_settings.cache_clear()


def test_other_groups_have_nothing_of_telemetry(load: Load) -> None:
    graph = load("clickstream,payments").asset_graph
    assert not KEYS & set(graph.get_all_asset_keys())
    assert not KEYS & {key.asset_key for key in graph.asset_check_keys}


def test_the_group_has_its_tables_reports_and_checks(load: Load) -> None:
    graph = load("telemetry").asset_graph
    assert set(graph.get_all_asset_keys()) >= KEYS
    assert dg.AssetKey(["silver", "events"]) not in set(graph.get_all_asset_keys())
    checks = {(key.asset_key, key.name) for key in graph.asset_check_keys}
    assert {(key, "schema_contract") for key in KEYS} <= checks
    own = {(dg.AssetKey(STREAM_TABLE.asset_path), name) for name in ("parity", "freshness", "ledger")}
    reports = {(dg.AssetKey(table.asset_path), name) for table in REPORTS for name in ("consistency", "freshness")}
    assert own | reports <= checks


def test_a_log_has_no_statistics_of_whose_reading_it_is() -> None:
    for table in (*TOPIC.tables, STREAM_TABLE):
        personal = {"sensor", "event_id", "value", "key"}
        assert personal & {column.name for column in table.columns}
        assert table.statistics_columns
        assert not personal & set(table.statistics_columns)
