"""`headrace views`: a DuckDB file by which other tools read the lakehouse."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import hypothesis.strategies as st
import polars as pl
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import given

from jobs.cli.__main__ import main
from jobs.operations.sql_query import AsOf
from jobs.operations.view_file import write_view_file
from platform_assets.errors import UsageError
from resources.lakehouse import LakehouseResource
from resources.settings import load_settings

pytestmark = pytest.mark.unit

SCHEMA = pa.schema([
    ("day", pa.date32()), ("user's id", pa.string()), ("amount", pa.decimal128(18, 2)),
    ("at", pa.timestamp("us", "UTC")), ("score", pa.float64()), ("tags", pa.list_(pa.string())),
    ("place", pa.struct([("x", pa.int32()), ("name", pa.string())])), ("raw", pa.binary()),
])  # fmt: skip
ROWS = st.fixed_dictionaries({
    "day": st.dates(date(2026, 1, 1), date(2026, 1, 3)),
    "user's id": st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4),
    "amount": st.none() | st.decimals(-9, 9, places=2),
    "at": st.none() | st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    "score": st.none() | st.floats(allow_nan=False),
    "tags": st.none() | st.lists(st.none() | st.just("t"), max_size=2),
    "place": st.none() | st.fixed_dictionaries({"x": st.none() | st.integers(0, 9), "name": st.none() | st.just("n")}),
    "raw": st.none() | st.binary(max_size=3),
})  # fmt: skip


def read(place: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(place), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.sql(sql).fetchall()


def plain(rows: list[tuple[Any, ...]]) -> list[str]:
    """The rows in an order and in words that do not depend on who read them: UTC has several names."""
    return sorted(str([v.isoformat() if isinstance(v, datetime) else v for v in row]) for row in rows)


@pytest.mark.generated
@given(st.lists(st.lists(ROWS, max_size=4), max_size=3), st.booleans())
def test_a_view_has_the_rows_of_its_table(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[dict[str, Any]]], by_day: bool
) -> None:
    folder = tmp_path_factory.mktemp("own")
    lakehouse = LakehouseResource(root=str(folder))
    uri = lakehouse.table_uri("gold.rows")
    for rows in [[], *batches]:
        write_deltalake(
            uri, pa.Table.from_pylist(rows, SCHEMA), mode="append", partition_by=["day"] if by_day else None
        )
    place = folder / "lake.duckdb"
    assert write_view_file(lakehouse, place, AsOf()) == {"gold.rows": len(batches)}
    columns = ", ".join(f'"{name}"' for name in SCHEMA.names)
    # polars reads the log and the files by its own code.
    expected = pl.read_delta(uri).select(SCHEMA.names).rows()
    assert plain(read(place, f"SELECT {columns} FROM gold.rows")) == plain(expected)


@pytest.fixture
def lakehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LakehouseResource:
    """Tables `gold.numbers` and `silver.numbers`, each with a one and a two, written one after the other."""
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    load_settings.cache_clear()
    made = LakehouseResource(root=str(tmp_path / "lakehouse"))
    for layer in ("gold", "silver"):
        for number in (1, 2):
            write_deltalake(made.table_uri(f"{layer}.numbers"), pa.table({"n": [number]}), mode="append")
    return made


def test_a_newer_file_takes_the_place_of_an_open_one(lakehouse: LakehouseResource, tmp_path: Path) -> None:
    place, uri = tmp_path / "lake.duckdb", lakehouse.table_uri("gold.numbers")
    assert main(["views", str(place), "--at", "gold.numbers=0"]) == 0
    code = (
        "import duckdb, sys; lake = duckdb.connect(sys.argv[1], read_only=True); print('open', flush=True); input();"
        "print(lake.sql('SELECT sum(n) FROM gold.numbers').fetchall()[0][0])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None and reader.stdout.readline() == "open\n"
        write_deltalake(uri, pa.table({"n": [3], "added": ["x"]}), mode="append", schema_mode="merge")
        assert main(["views", str(place)]) == 0
        assert reader.communicate("\n", timeout=60)[0] == "1\n"
    assert read(place, "SELECT n, added FROM gold.numbers ORDER BY n") == [(1, None), (2, None), (3, "x")]
    # An older version has the columns of today.
    assert main(["views", str(place), "--at", "gold.numbers=1"]) == 0
    assert read(place, "SELECT n, added FROM gold.numbers ORDER BY n") == [(1, None), (2, None)]
    assert [path.name for path in tmp_path.glob("*.duckdb*")] == ["lake.duckdb"]


def test_decimals_and_final_rows_come_through(lakehouse: LakehouseResource, tmp_path: Path) -> None:
    starts = [datetime(2026, 5, 4, 12, tzinfo=UTC) + timedelta(minutes=5 * number) for number in range(2)]
    rows = pa.table({
        "window_start": starts, "window_end": [start + timedelta(minutes=5) for start in starts],
        "revenue": pa.array([Decimal("0.10"), Decimal("0.20")], pa.decimal128(38, 2)),
    })  # fmt: skip
    write_deltalake(lakehouse.table_uri("gold.revenue_by_category"), rows)
    place = tmp_path / "lake.duckdb"
    write_view_file(lakehouse, place, AsOf())
    assert read(place, "SELECT sum(revenue) FROM gold.revenue_by_category") == [(Decimal("0.30"),)]
    # Nothing is known yet of what is final.
    write_view_file(lakehouse, place, AsOf(is_complete=True))
    assert read(place, "SELECT count(*) FROM gold.revenue_by_category") == [(0,)]
    assert read(place, "SELECT count(*) FROM silver.numbers") == [(2,)]


@pytest.mark.parametrize(
    ("at", "message"),
    [("gold.numbers=9", "gold.numbers has no state 9"), ("gold.none=0", "--at names gold.none. Tables: gold.numbers")],
)
def test_a_state_that_is_not_there_is_refused_and_the_file_stays(
    lakehouse: LakehouseResource, tmp_path: Path, at: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "lake.duckdb"
    write_view_file(lakehouse, place, AsOf())
    before = place.read_bytes()
    assert main(["views", str(place), "--at", at]) == 1
    assert message in capsys.readouterr().err
    assert place.read_bytes() == before and len(list(tmp_path.glob("*duckdb*"))) == 1


def test_what_views_cannot_be_made_of_is_refused(lakehouse: LakehouseResource, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere.*cannot be written"):
        write_view_file(lakehouse, tmp_path / "nowhere" / "lake.duckdb", AsOf())
    with pytest.raises(UsageError, match="no table in"):
        write_view_file(LakehouseResource(root=str(tmp_path / "empty")), tmp_path / "lake.duckdb", AsOf())
    # A table of another writer, partitioned by what paths spell in ways of their own.
    uri = lakehouse.table_uri("silver.kinds")
    write_deltalake(uri, pa.table({"n": [1], "kind": ["a/b"]}), partition_by=["kind"])
    with pytest.raises(UsageError, match=r"silver\.kinds by itself"):
        write_view_file(lakehouse, tmp_path / "lake.duckdb", AsOf())
