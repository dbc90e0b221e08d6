"""Fields may be called as SQL's own words are: what looks at tables by SQL quotes them."""

from __future__ import annotations

import dataclasses
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from jobs.operations.explained_tables import EventCounts, ExplainedTables
from platform_assets.checks.busy_users import BusyUserLimits, find_busy_users
from platform_assets.checks.parity_by_rule import compare_with_rule
from platform_assets.checks.repeated_events import build_repeated_events_checks
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.repair.repair_difference import compare
from platform_assets.streaming.result_span import ResultSpan
from platform_assets.streaming.stream_spec import TableSource, TableStream
from platform_assets.streaming.topic_spec import EventTime, Record, Topic
from platform_assets.tables.platform import LATE_EVENTS
from platform_assets.tables.spec import Column, TableSpec
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource

pytestmark = pytest.mark.unit

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Row(Record):
    order: str
    group: str
    at: str


TOPIC = Topic("rows", "Rows.", "rows", Row, EventTime("at"), event_id=("order",), subject="group")
COUNTS = TableSpec(
    name="gold.rows_by_group",
    description="Rows of a minute.",
    grain="minute x group",
    key=("start", "group"),
    columns=(
        Column("start", "timestamp", "First moment"),
        Column("end", "timestamp", "First moment after it"),
        Column("group", "string", "Group"),
        Column("order", "bigint", "Rows"),
    ),
)
STREAM = TableStream(
    name="rows_by_group",
    source=TableSource(TOPIC.tables[0], ("event_time", "group"), "event_time", MINUTE),
    tables=(COUNTS,),
    transform=lambda rows: rows,
    span=ResultSpan("start", "end", reach=MINUTE, window=(MINUTE, MINUTE)),
    rule="""SELECT time_bucket(INTERVAL '1 minute', event_time) AS start, start + INTERVAL '1 minute' AS "end",
                   "group", count(*) AS "order" FROM events GROUP BY ALL""",
    write_mode="upsert",
)
EVENTS: list[dict[str, Any]] = [
    {"order": order, "group": group, "event_time": NOON, "event_date": NOON.date(), "is_anonymous": False, "topic": "t",
     "kafka_partition": 0, "kafka_offset": offset, "ingested_at": NOON}
    for offset, (order, group) in enumerate([("a", "x"), ("b", "x"), ("a", "y")])
]  # fmt: skip
ROWS = [
    {"start": NOON, "end": NOON + MINUTE, "group": "x", "order": 2},
    {"start": NOON, "end": NOON + MINUTE, "group": "y", "order": 1},
]


@pytest.fixture
def lakehouse(tmp_path: Path) -> LakehouseResource:
    for spec, rows in ((TOPIC.tables[0], EVENTS), (COUNTS, ROWS), (LATE_EVENTS, [])):
        table = pa.Table.from_pylist(rows, build_arrow_schema(spec))
        write_deltalake(tmp_path / spec.name.replace(".", "/"), table, partition_by=list(spec.partition_columns))
    return LakehouseResource(root=str(tmp_path))


def test_ids_are_looked_for(lakehouse: LakehouseResource) -> None:
    (check,) = build_repeated_events_checks([STREAM])
    resources = {"lakehouse": lakehouse, "duckdb": DuckDBResource(memory_mib=128)}
    verdict = check(dg.build_asset_check_context(resources=resources))
    assert isinstance(verdict, dg.AssetCheckResult)
    assert "t/0/0 and t/0/2" in str(verdict.description)


def test_users_are_counted(lakehouse: LakehouseResource) -> None:
    assert ExplainedTables(lakehouse).count_events(TOPIC.tables[0], "x") == EventCounts(2, 0, 3, 0)
    with DuckDBResource(memory_mib=128).connected() as connection:
        connection.register("events", lakehouse.delta_table("silver.rows").to_pyarrow_dataset())
        (found,) = find_busy_users(connection, "group", BusyUserLimits(0.5, 1), date(2026, 3, 2))
    assert (found["user_id"], found["events"]) == ("x", 2)


@pytest.mark.parametrize(("rows", "differences"), [(ROWS, 0), (ROWS[:1], 1)])
def test_a_table_is_compared_with_its_rule(
    lakehouse: LakehouseResource, rows: list[dict[str, Any]], differences: int
) -> None:
    uri = lakehouse.table_uri(COUNTS.name)
    write_deltalake(uri, pa.Table.from_pylist(rows, build_arrow_schema(COUNTS)), mode="overwrite")
    state = {"watermark": NOON + timedelta(hours=1), "updated_at": NOON}
    with DuckDBResource(memory_mib=128).connected() as connection:
        connection.register("events", lakehouse.delta_table("silver.rows").to_pyarrow_dataset())
        found = compare_with_rule(
            connection, STREAM, DeltaTable(uri), lakehouse.delta_table(LATE_EVENTS.name), state, None, 5
        )
    assert found[:2] == (2, differences)


def test_a_late_event_is_repaired() -> None:
    present = pa.Table.from_pylist(ROWS, build_arrow_schema(COUNTS))
    twin = pa.Table.from_pylist([ROWS[0] | {"order": 3}], present.schema)
    late = pa.table({"event_time": pa.array([NOON], pa.timestamp("us", "UTC")), "user_id": ["x"]})
    found = compare(twin, present, late, STREAM, NOON + timedelta(hours=1))
    assert found.rows.to_pylist() == twin.to_pylist()


def test_the_names_are_what_is_tested() -> None:
    """Holds the parts above together: without reserved words they show nothing."""
    assert {"order", "group"} <= {field.name for field in TOPIC.fields}
    assert dataclasses.astuple(TOPIC.roles)[:2] == ("order", "group")
