"""What the demonstration prints of the tables: each excerpt reads columns that its table has, of every group."""

from __future__ import annotations

import duckdb
import pytest

from jobs.platform.results import EXCERPTS
from platform_assets.reports import list_report_tables, select_reports
from platform_assets.reports.customer_360 import CUSTOMER_360_TABLE
from platform_assets.reports.day_states import REPORT_DAYS
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streams import load_streams


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch, fresh_settings: None) -> duckdb.DuckDBPyConnection:
    """All groups' tables, without rows."""
    monkeypatch.setenv("HEADRACE_GROUPS", "all")
    streamed = [table for stream in load_streams() for table in stream.tables]
    connection = duckdb.connect()
    for table in {*streamed, *list_report_tables(select_reports(streamed)), REPORT_DAYS}:
        connection.register(table.name.replace(".", "_"), build_arrow_schema(table).empty_table())
    return connection


@pytest.mark.parametrize("title", EXCERPTS)
def test_an_excerpt_reads_what_its_table_has(title: str, tables: duckdb.DuckDBPyConnection) -> None:
    assert tables.sql(EXCERPTS[title]).fetchall() == []


def test_revenue_is_shown_by_currency_and_without_one(tables: duckdb.DuckDBPyConnection) -> None:
    columns = [f"null as {name}" for name in build_arrow_schema(CUSTOMER_360_TABLE).names]
    given = {"user_id": "'u'", "revenue_by_currency": """'{"":"223.95","EUR":"1.50"}'"""}
    for name, value in given.items():
        columns[columns.index(f"null as {name}")] = f"{value} as {name}"
    tables.unregister("gold_customer_360")
    tables.sql(f"select {', '.join(columns)}").create_view("gold_customer_360")
    (row,) = tables.sql(EXCERPTS["gold.customer_360, who bought most"]).fetchall()
    assert row[2] == "223.95, 1.50 EUR"
