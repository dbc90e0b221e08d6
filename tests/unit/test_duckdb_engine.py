"""The reports' engine in this process: what it reads of a pinned table, and what it leaves when it fails."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import duckdb
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from deltalake.exceptions import CommitFailedError

from platform_assets.errors import StorageError, TerminalError
from platform_assets.reports.daily_report import InputRows, PinnedTable, ReportCommit
from platform_assets.reports.days import DayRange
from platform_assets.reports.duckdb_engine import DuckDBEngine
from platform_assets.reports.spark_engine import translate
from platform_assets.tables.spec import Column, TableSpec
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings

ROOT = Path(__file__).parents[2]
DAY = date(2026, 3, 1)
SPEC = TableSpec(
    name="gold.numbers",
    description="Numbers.",
    grain="one",
    key=("day", "n"),
    columns=(Column("day", "date", "Day"), Column("n", "bigint", "Number"), Column("text", "string", "Text")),
    partition_columns=("day",),
)
COMMIT = ReportCommit(DayRange(DAY, DAY), {"silver.things": 0})
THINGS = TableSpec(
    name="silver.things",
    description="Things.",
    grain="one",
    key=("n",),
    columns=(Column("day", "date", "Day"), Column("n", "bigint", "Number"), Column("is_new", "boolean", "Not there")),
    partition_columns=("day",),
)

# Replaces the day with more rows than anybody waits for; a file is there long before its commit.
_ENDLESS = """
import sys
from pathlib import Path
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.unit.test_duckdb_engine import COMMIT, SPEC, DuckDBEngine
sql = "SELECT DATE '2026-03-01' AS day, n, md5(CAST(n AS VARCHAR)) AS text FROM range(1000000000) t(n)"
with DuckDBResource.from_settings(Settings(home=Path(sys.argv[2]))).connected() as connection:
    DuckDBEngine(connection, LakehouseResource(root=sys.argv[1])).replace(sql, [], SPEC, COMMIT)
"""


@pytest.fixture
def things(tmp_path: Path) -> LakehouseResource:
    """A lakehouse in a folder with odd characters, whose silver.things has three days, a file each."""
    lakehouse = LakehouseResource(root=str(tmp_path / "a b ü 100% c"))
    uri = lakehouse.table_uri("silver.things")
    for n in range(3):
        day = DAY + timedelta(days=n)
        time = datetime(day.year, day.month, day.day, 23, 59, 59, 999_999, tzinfo=UTC)
        rows: dict[str, Any] = {
            "day": [day] * 2, "n": [n, n + 10], "is_open": [n == 0, None],
            "time": pa.array([time] * 2, pa.timestamp("us", "UTC")),
        }  # fmt: skip
        write_deltalake(uri, pa.table(rows), mode="append", partition_by=["day"])
    return lakehouse


def rows_of(lakehouse: LakehouseResource, version: int, bounds: tuple[str, date, date] | None = None) -> InputRows:
    return InputRows("things", PinnedTable(THINGS, lakehouse.table_uri(THINGS.name), version), bounds)


def test_a_later_commit_is_not_read_and_days_outside_are_left_out(things: LakehouseResource, tmp_path: Path) -> None:
    with DuckDBResource.from_settings(Settings(home=tmp_path / "home")).connected() as connection:
        engine = DuckDBEngine(connection, things)

        def read(rows: InputRows, condition: str = "true") -> list[int]:
            sql = f"SELECT n FROM things WHERE {condition} ORDER BY n"
            return [int(n) for n in engine.fetch(sql, [rows])["n"].to_pylist()]

        assert read(rows_of(things, 1)) == [0, 1, 10, 11]
        assert read(rows_of(things, 2, ("day", DAY, DAY + timedelta(days=1)))) == [0, 1, 10, 11]
        end = datetime(2026, 3, 2, tzinfo=UTC)
        assert read(rows_of(things, 2, ("time", end, end + timedelta(days=1)))) == [1, 11]
        assert read(rows_of(things, 1), "is_new IS NULL") == [0, 1, 10, 11], "a column that the table will get"
        # A boolean has no statistics: no file may be left out for it.
        assert read(rows_of(things, 2), "is_open IS NULL") == [10, 11, 12]
        assert read(rows_of(things, 2), "is_open") == [0]


def test_a_run_out_of_memory_says_what_to_do_and_leaves_the_day_as_it_was(
    things: LakehouseResource, tmp_path: Path
) -> None:
    with duckdb.connect(config={"memory_limit": "8MB", "temp_directory": "", "threads": 1}) as connection:
        engine = DuckDBEngine(connection, things)
        sql = "SELECT day, n, CAST(n AS VARCHAR) AS text FROM things"
        engine.replace(sql, [rows_of(things, 2)], SPEC, COMMIT)
        before = things.delta_table(SPEC.name)
        numbers = "SELECT n, string_agg(md5(CAST(n AS VARCHAR)), '') AS text FROM range(3000000) t(n) GROUP BY n"
        large = f"SELECT DATE '{DAY}' AS day, n, text FROM ({numbers})"
        with pytest.raises(StorageError, match="HEADRACE_REPORTS_MEMORY_MIB"):
            engine.replace(large, [], SPEC, COMMIT)
    after = things.delta_table(SPEC.name)
    assert after.version() == before.version()
    assert sorted(after.to_pyarrow_table()["n"].to_pylist()) == [0, 10]


def test_a_run_that_is_killed_while_it_writes_leaves_the_day_as_it_was(
    things: LakehouseResource, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path / "home")
    sql = "SELECT day, n, CAST(n AS VARCHAR) AS text FROM things"
    with DuckDBResource.from_settings(settings).connected() as connection:
        DuckDBEngine(connection, things).replace(sql, [rows_of(things, 2)], SPEC, COMMIT)
    before = things.delta_table(SPEC.name)
    folder = Path(unquote(urlparse(before.table_uri).path))
    known = set(folder.rglob("*"))
    with subprocess.Popen([sys.executable, "-c", _ENDLESS, things.root, str(settings.home)], cwd=ROOT) as run:
        while not any(file.is_file() and file.stat().st_size for file in set(folder.rglob("*")) - known):
            assert run.poll() is None, "it ended before it could be killed"
            time.sleep(0.05)
        run.kill()
    after = things.delta_table(SPEC.name)
    assert after.version() == before.version()
    assert sorted(after.to_pyarrow_table()["n"].to_pylist()) == [0, 10]


def test_a_run_during_a_write_sees_one_version(things: LakehouseResource, tmp_path: Path) -> None:
    enough = threading.Event()

    def append() -> None:
        while not enough.is_set():
            table = things.delta_table("silver.things")
            write_deltalake(table, table.to_pyarrow_table().slice(0, 1), mode="append")

    writer = threading.Thread(target=append)
    writer.start()
    try:
        with DuckDBResource.from_settings(Settings(home=tmp_path / "home")).connected() as connection:
            engine = DuckDBEngine(connection, things)
            seen: set[int] = set()
            while len(seen) < 5:
                version = things.delta_table("silver.things").version()
                if version in seen:
                    continue
                seen.add(version)
                sql = "SELECT (SELECT count(*) FROM things) AS a, (SELECT count(*) FROM others) AS b"
                inputs = [rows_of(things, version), replace(rows_of(things, version), name="others")]
                expected = 6 + version - 2  # three commits of two rows, and then a row each
                assert engine.fetch(sql, inputs).to_pylist() == [{"a": expected, "b": expected}]
    finally:
        enough.set()
        writer.join()


@pytest.mark.parametrize(
    "error",
    [
        OSError("[Errno 28] No space left on device"),
        duckdb.IOException('IO Error: Could not write file "/home/reports/1-2-a/duckdb_temp": No space left on device'),
    ],
)
def test_a_full_disk_is_named_with_what_to_do(things: LakehouseResource, error: Exception) -> None:
    class FullDisk:
        """A disk that is full cannot be had in a test without the rights of root."""

        def sql(self, _text: str) -> None:
            raise error

    with pytest.raises(StorageError, match=r"(?s)No space is left.*HEADRACE_HOME.*Nothing was written"):
        DuckDBEngine(FullDisk(), things).fetch("SELECT 1", [])  # type: ignore[arg-type]


def test_what_a_killed_run_has_spilled_is_removed_by_the_next(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    program = (
        "import os, signal; from resources.duckdb import DuckDBResource; from resources.settings import load_settings\n"
        "with DuckDBResource.from_settings(load_settings()).connected() as c:\n"
        "    c.execute('SET memory_limit = \"20MB\"; SET threads = 1')\n"
        "    c.execute('CREATE TEMP TABLE t AS SELECT md5(CAST(n AS VARCHAR)) AS m FROM range(2000000) r(n)')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {"HEADRACE_HOME": str(settings.home)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = (settings.home / "reports").iterdir()
    assert list(left.iterdir()), "it has spilled nothing"
    with DuckDBResource.from_settings(settings).connected():
        assert not left.exists()
    assert list((settings.home / "reports").iterdir()) == []


@pytest.mark.parametrize("name", ["polars", "DuckDB", ""])
def test_an_unknown_engine_is_refused_with_the_settings_name(name: str) -> None:
    program = "from resources.settings import load_settings; load_settings()"
    done = subprocess.run(
        [sys.executable, "-c", program], env={"HEADRACE_REPORTS_ENGINE": name, "HEADRACE_REPORTS_MEMORY_MIB": "1"},
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    line = done.stderr.splitlines()[-1]
    assert "HEADRACE_REPORTS_ENGINE: Input should be 'duckdb' or 'spark'" in line
    assert "HEADRACE_REPORTS_MEMORY_MIB: Input should be greater than or equal to 128" in line


def test_the_translation_knows_what_goes_by_other_names_in_spark() -> None:
    assert translate("SELECT quantile_cont(x, 0.5), epoch_us(t) FROM s") == (
        "SELECT PERCENTILE(x, 0.5), UNIX_MICROS(t) FROM s"
    )


@pytest.mark.parametrize(
    ("sql", "in_duckdb"),
    [
        ("log(100.0)", 2.0),
        ("dayofweek(DATE '2026-03-02')", 1),
        ("isodow(DATE '2026-03-02')", 1),
        ("dayname(DATE '2026-03-02')", "Monday"),
        ("date_diff('minute', TIMESTAMP '2026-03-01 10:00:59', TIMESTAMP '2026-03-01 10:01:01')", 1),
        ("epoch(TIMESTAMP '1970-01-01 00:00:01.25')", 1.25),
        ("epoch_ms(TIMESTAMP '1970-01-01 00:00:01.25')", 1250),
        ("regexp_replace('aaa', 'a', 'b')", "baa"),
        ("list(x ORDER BY x DESC) FROM (VALUES (1), (3), (2)) AS v(x)", [3, 2, 1]),
    ],
)
def test_what_would_come_to_another_value_in_spark_is_refused(sql: str, in_duckdb: Any) -> None:
    assert duckdb.execute(f"SELECT {sql}").fetchall() == [(in_duckdb,)]
    with pytest.raises(TerminalError, match=r"comes to another value in Spark: use "):
        translate(f"SELECT {sql}")


def test_a_logarithm_with_a_base_is_the_same_in_both() -> None:
    assert translate("SELECT log(2, x) FROM s") == "SELECT LOG(2, x) FROM s"


def test_who_loses_against_another_run_of_the_same_day_computes_it_again(
    things: LakehouseResource, tmp_path: Path
) -> None:
    """Another run commits after the first one has opened the table, and before it commits."""
    sql = "SELECT day, n, 'mine' AS text FROM things"
    losses = 2

    class Slow(DuckDBEngine):
        def _register(self, inputs: Sequence[InputRows]) -> None:
            nonlocal losses
            super()._register(inputs)
            if losses:
                losses -= 1
                with duckdb.connect() as other:
                    theirs = sql.replace("mine", "theirs")
                    DuckDBEngine(other, things).replace(theirs, [rows_of(things, 2)], SPEC, COMMIT)

    with duckdb.connect() as connection:
        DuckDBEngine(connection, things).replace(sql, [rows_of(things, 2)], SPEC, COMMIT)
        Slow(connection, things).replace(sql, [rows_of(things, 2)], SPEC, COMMIT)
        found = things.delta_table(SPEC.name).to_pyarrow_table()
        assert (sorted(found["n"].to_pylist()), set(found["text"].to_pylist())) == ([0, 10], {"mine"})
        assert losses == 0
        losses = 9
        with pytest.raises(CommitFailedError):
            Slow(connection, things).replace(sql, [rows_of(things, 2)], SPEC, COMMIT)
