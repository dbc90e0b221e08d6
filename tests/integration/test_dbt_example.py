"""The example docs/examples/dbt as its readers run it: `make dbt` makes the environment that it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.derive.query_state import QueryState, as_rows
from platform_assets.streams.sessions import SESSIONS
from platform_assets.streams.view_to_purchase import VIEW_TO_PURCHASE
from resources.lakehouse import LakehouseResource

PROJECT = Path(__file__).parents[2]
EXAMPLE = PROJECT / "docs/examples/dbt"
DAGSTER = PROJECT / ".venv-dbt/bin/dagster"

pytestmark = [
    pytest.mark.release,
    pytest.mark.skipif(not DAGSTER.exists(), reason="`make dbt` installs what this example needs"),
]
MONDAY = datetime(2026, 5, 4, 0, 10, tzinfo=UTC)


def build(home: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "HEADRACE_HOME": str(home), "HEADRACE_LAKEHOUSE": str(home / "lakehouse"), "DAGSTER_HOME": "",
        "HEADRACE_COMMAND": str(Path(sys.executable).with_name("headrace")),
    }  # fmt: skip
    command = [str(DAGSTER), "asset", "materialize", "--select", "*", "-f", "marts.py"]
    return subprocess.run(command, cwd=EXAMPLE, env=environment, capture_output=True, text=True, timeout=300)


def test_the_models_are_built_from_what_is_final(tmp_path: Path) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path / "lakehouse"))
    sessions = [
        {
            "user_id": f"u{number}", "session_start": start, "session_end": start + timedelta(minutes=number),
            "session_date": start.date(), "duration_seconds": number * 60.0, "event_count": 1,
            "purchase_count": number % 3, "unique_products": 0, "device_type": ("phone", None)[number % 2],
        }
        for number in range(40)
        for start in (MONDAY + timedelta(hours=6 * number),)
    ]  # fmt: skip
    pairs = [
        {"view_event_id": f"v{n}", "product_id": f"p{n % 3}", "view_time": MONDAY, "purchase_time": MONDAY,
         "time_to_purchase_seconds": float(n * n)}
        for n in range(10)
    ]  # fmt: skip
    for table, rows in ((SESSIONS, sessions), (VIEW_TO_PURCHASE, pairs)):
        write_deltalake(lakehouse.table_uri(table.name), pa.Table.from_pylist(rows, build_arrow_schema(table)))
    until = MONDAY + timedelta(days=8)
    states = [
        QueryState(stream, table.name, until, 0, "[]", 1, 1, 1)
        for stream, table in (("sessions", SESSIONS), ("view_to_purchase", VIEW_TO_PURCHASE))
    ]
    write_deltalake(lakehouse.table_uri("platform.complete_until"), as_rows(states))

    result = build(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    final = pl.DataFrame(sessions).filter(pl.col("session_end") < until)
    expected = (
        final.group_by(
            week=pl.col("session_start").dt.truncate("1w").dt.date(), device=pl.col("device_type").fill_null("unknown")
        )
        .agg(
            pl.len(),
            (pl.col("purchase_count") > 0).sum().alias("bought"),
            pl.col("duration_seconds").mean(),
        )
        .sort("week", "device")
        .rows()
    )
    with duckdb.connect(str(tmp_path / "marts.duckdb"), read_only=True) as marts:
        assert 2 <= len(expected) < 40
        assert marts.sql("SELECT * FROM weekly_sessions ORDER BY week, device").fetchall() == expected
        delays = marts.sql("SELECT * FROM purchase_delays ORDER BY product_id").fetchall()
    assert delays == [("p0", 4, 22.5), ("p1", 3, 16.0), ("p2", 3, 25.0)]
