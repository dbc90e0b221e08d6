"""What Dagster loads: every asset says who, what and where; names are the tables' own."""

from __future__ import annotations

import dagster as dg
import pytest

from platform_assets.definitions import defs
from platform_assets.reports import REPORT_TABLES
from platform_assets.reports.daily_page import DAILY_PAGE_KEY
from platform_assets.reports.day_states import REPORT_DAYS
from platform_assets.reports.days import CLOSED_DAYS_KEY
from platform_assets.reports.whole import select_whole_tables
from platform_assets.stream_assets import topic_asset_key
from platform_assets.streams import load_streams
from platform_assets.tables.platform import PLATFORM_TABLES
from resources.settings import load_settings

STREAM_TABLES = [table for stream in load_streams() for table in stream.tables]
BATCH_TABLES = [*REPORT_TABLES, *(whole.table for whole in select_whole_tables(STREAM_TABLES))]
TABLES = [
    *STREAM_TABLES,
    *BATCH_TABLES,
    *PLATFORM_TABLES,
    REPORT_DAYS,
]


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return defs()


def test_assets_are_the_topic_and_the_public_tables(definitions: dg.Definitions) -> None:
    keys = {spec.key for spec in definitions.resolve_all_asset_specs()}
    tables = {dg.AssetKey(table.asset_path) for table in TABLES}
    others = {topic_asset_key(load_settings().topic), CLOSED_DAYS_KEY, DAILY_PAGE_KEY}
    assert keys == tables | others


def test_every_asset_has_group_owner_kind_and_description(definitions: dg.Definitions) -> None:
    for spec in definitions.resolve_all_asset_specs():
        assert spec.group_name and spec.owners and spec.kinds and spec.description, spec.key


def test_every_table_has_a_schema_check_and_every_main_table_a_freshness_check(definitions: dg.Definitions) -> None:
    checks = {(key.asset_key, key.name) for key in definitions.get_repository_def().asset_graph.asset_check_keys}
    for table in TABLES:
        assert (dg.AssetKey(table.asset_path), "schema_contract") in checks
    for table in [*(stream.main_table for stream in load_streams()), *BATCH_TABLES]:
        assert (dg.AssetKey(table.asset_path), "freshness") in checks


def test_streams_cannot_be_materialized_by_hand(definitions: dg.Definitions) -> None:
    executable = definitions.get_repository_def().asset_graph.materializable_asset_keys
    assert executable == {*(dg.AssetKey(table.asset_path) for table in BATCH_TABLES), DAILY_PAGE_KEY}


def test_no_two_queries_share_a_table() -> None:
    names = [table.name for stream in load_streams() for table in stream.tables]
    assert len(names) == len(set(names))


def test_every_table_has_a_key_of_its_own_columns() -> None:
    for table in TABLES:
        columns = [column.name for column in table.columns]
        assert table.key and set(table.key) <= set(columns), table.name
        assert len(columns) == len(set(columns)), table.name
        assert {*table.partition_columns, *table.statistics_columns} <= set(columns), table.name
