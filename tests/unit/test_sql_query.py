"""`headrace sql`: all tables, as they are or were, by one SELECT."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from jobs.cli.__main__ import main
from jobs.operations.sql_query import AsOf, open_answer, parse_as_of
from platform_assets.errors import UsageError
from platform_assets.streaming.derive.query_state import QueryState, as_rows
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings, load_settings

pytestmark = pytest.mark.unit

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
CLICKS = pa.table({"user_id": ["a", "b", "\x1b[31m‮c"], "n": [1, 2, 3]})


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LakehouseResource:
    """`silver.clicks` of two versions, and `gold.conversion_funnel` that is final until half past twelve."""
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.setenv("HEADRACE_LAKEHOUSE", str(tmp_path / "a lake"))
    load_settings.cache_clear()
    lakehouse = LakehouseResource(root=str(tmp_path / "a lake"))
    for _ in range(2):
        write_deltalake(lakehouse.table_uri("silver.clicks"), CLICKS, mode="append")
    starts = [NOON + timedelta(minutes=5 * number) for number in range(12)]
    funnel = pa.table({
        "window_start": starts, "window_end": [start + timedelta(minutes=5) for start in starts],
        "unique_visitors": range(12),
    })  # fmt: skip
    write_deltalake(lakehouse.table_uri("gold.conversion_funnel"), funnel)
    state = QueryState("conversion_funnel", "gold.conversion_funnel", NOON + timedelta(minutes=30), 0, "[]", 7, 9, 3)
    write_deltalake(lakehouse.table_uri("platform.complete_until"), as_rows([state]))
    return lakehouse


def ask(lake: LakehouseResource, sql: str, as_of: AsOf | None = None) -> list[tuple[object, ...]]:
    """The rows of the answer."""
    engine = DuckDBResource.from_settings(Settings(home=Path(lake.root_uri).parent))
    with open_answer(lake, engine, sql, as_of or AsOf()) as answer:
        return list(answer.rows.fetchall())


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select sum(n) from silver.clicks", [(12,)]),
        ('FROM "silver"."clicks" SELECT count(*) WHERE n > 1', [(4,)]),
        ("select count(*) from Silver.Clicks c join gold.conversion_funnel f on c.n = f.unique_visitors", [(6,)]),
        ("with silver_clicks as (select 1) select 'gold.nothing' from silver_clicks", [("gold.nothing",)]),
        ("select column_name from (describe silver.clicks)", [("user_id",), ("n",)]),
    ],
)
def test_tables_are_known_by_their_names(lake: LakehouseResource, sql: str, expected: list[tuple[object, ...]]) -> None:
    assert ask(lake, sql) == expected


def test_a_table_is_read_as_it_was(lake: LakehouseResource) -> None:
    count = "select count(*) from silver.clicks"
    assert ask(lake, count, parse_as_of(["silver.clicks=0"], is_complete=False)) == [(3,)]
    first, second = (
        (Path(lake.table_uri("silver.clicks")) / "_delta_log" / f"{version:020}.json").stat().st_mtime
        for version in range(2)
    )
    between = datetime.fromtimestamp((first + second) / 2, UTC)
    assert ask(lake, count, AsOf(time=between)) == [(3,)]
    assert ask(lake, count, AsOf(time=datetime.now(UTC))) == [(6,)]


def test_only_final_rows_are_read_where_that_is_asked(lake: LakehouseResource) -> None:
    sql = "select max(window_end), count(*) from gold.conversion_funnel, (select count(*) from silver.clicks)"
    final = AsOf(is_complete=True)
    assert ask(lake, sql, final) == [(NOON + timedelta(minutes=30), 6)]
    write_deltalake(lake.table_uri("platform.complete_until"), as_rows([]), mode="overwrite")
    assert ask(lake, sql, final) == [(None, 0)]


@pytest.mark.parametrize(
    ("sql", "at", "message"),
    [
        ("select 1; select 2", [], "one SELECT"),
        ("", [], "one SELECT"),
        ("copy (select 1) to 'x.csv'", [], "one SELECT"),
        ("drop table silver.clicks", [], "one SELECT"),
        ("selct 1", [], "syntax error"),
        ("from silver.klicks", [], r"Tables: gold\.conversion_funnel, platform\.complete_until, silver\.clicks\."),
        ("select m from silver.clicks", [], '"m" not found'),
        ("select error(user_id) from silver.clicks", [], "Invalid Input Error"),
        ("from silver.clicks", ["silver.clicks=2"], "has no state 2"),
        ("from silver.clicks", ["silver.clicks=-1"], "versions from 0 on"),
        ("from silver.clicks", ["2020-01-01"], "there was no table at 2020-01-01"),
        ("from silver.clicks", ["gold.sessions=1"], r"names gold\.sessions, which the SELECT does not read"),
        ("from silver.clicks", ["yesterday"], "a time such as"),
        ("from silver.clicks", ["2026-01-01", "2026-01-02"], "one time at most"),
    ],
)
def test_what_cannot_be_answered_is_said(lake: LakehouseResource, sql: str, at: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ask(lake, sql, parse_as_of(at, is_complete=False))
    assert ask(lake, "select count(*) from silver.clicks") == [(6,)]


def test_the_command_draws_and_writes(
    lake: LakehouseResource, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    everything = "select user_id, n from silver.clicks order by n, user_id"
    assert main(["sql", everything, "--most", "4"]) == 0
    drawn = capfd.readouterr().out
    assert "user_id" in drawn
    assert not {"\x1b", "‮"} & set(drawn)
    expected = sorted(CLICKS.to_pylist() * 2, key=lambda row: row["n"])

    assert main(["sql", everything, "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capfd.readouterr().out)))
    assert [{**row, "n": int(row["n"])} for row in rows] == expected
    assert main(["sql", everything, "--format", "json"]) == 0
    assert [json.loads(line) for line in capfd.readouterr().out.splitlines()] == expected
    place = tmp_path / "it's.parquet"
    assert main(["sql", everything, "--format", "parquet", "--output", str(place)]) == 0
    assert pl.read_parquet(place).to_dicts() == expected

    for wrong in (["--format", "parquet"], ["--output", "x.csv"], ["--format", "csv", "--output", str(place / "x")]):
        assert main(["sql", everything, *wrong]) == 1
        assert capfd.readouterr().err.startswith("headrace: ")
