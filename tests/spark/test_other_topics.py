"""Streams over topics that are not the shop's: their tables equal twin and rule, late events too, by any columns."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from platform_assets.checks.parity import build_parity_checks
from platform_assets.reports.report_engine import EngineName
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.repair.twin import keep_users, read_events, run_twin
from platform_assets.tables.platform import LATE_EVENTS
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from tests.bounded_run import run_to_end
from tests.readings import BEATS, MINUTE, MINUTES, NOON, PULSES, READINGS, RUNS, append, reading
from tests.spark.report_cases import read_rows

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

STREAMS = (RUNS, MINUTES, BEATS)
FIRST = [reading(device, minute) for device in ("d1", "d2") for minute in (0, 1, 2)] + [reading("far", 600, "dark")]
LATE = [reading("d1", 20), reading("d2", 1.5, "light"), reading("d2", 1.5, "dark")]


@pytest.fixture(scope="module")
def lakehouse(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> LakehouseResource:
    """What the streams have written of readings and pulses, the late ones repaired."""
    found = LakehouseResource(root=str(tmp_path_factory.mktemp("readings")))
    offset = 0
    for part in (FIRST, LATE, [reading("farther", 1200, "dark")]):
        append(found, READINGS.main_table, part, offset)
        pulses = [{"event_time": row["event_time"], "level": 0.5} for row in part]
        append(found, PULSES.main_table, pulses, offset)
        offset += len(part)
        context = StreamContext(found.root_uri, {}, "earliest", 1, 1.0, 1, None)
        run_to_end(QueryGroup(spark, STREAMS, context))
    return found


def test_late_events_have_one_shape_whatever_the_topic_calls_them(lakehouse: LakehouseResource) -> None:
    rows = read_rows(lakehouse, LATE_EVENTS.name)
    assert all(row["repaired_at"] is not None for row in rows)
    names = ("event_id", "user_id", "topic", "kafka_offset")
    found = {
        stream.name: sorted(tuple(row[name] for name in names) for row in rows if row["query"] == stream.name)
        for stream in STREAMS
    }
    ids = [("d1/20/heat", "d1"), ("d2/1.5/light", "d2"), ("d2/1.5/dark", "d2")]
    named = [(*own, READINGS.main_table.name, 7 + number) for number, own in enumerate(ids)]
    assert found["runs"] == sorted(named)
    assert found["minutes"] == sorted(named[:2])
    assert found["beats"] == [(None, None, PULSES.main_table.name, 7 + number) for number in range(3)]


def test_a_late_reading_is_in_the_run_that_it_prolongs(lakehouse: LakehouseResource) -> None:
    runs = {row["device"]: (row["run_end"], row["n"]) for row in read_rows(lakehouse, RUNS.main_table.name)}
    assert (runs["d1"], runs["d2"]) == ((NOON + 20 * MINUTE, 4), (NOON + 2 * MINUTE, 5))
    beats = {row["window_start"]: row["n"] for row in read_rows(lakehouse, BEATS.main_table.name)}
    assert (beats[NOON], beats[NOON + MINUTE], beats[NOON + 20 * MINUTE]) == (2, 4, 1)


@pytest.mark.parametrize("engine", ["duckdb", "spark"])
@pytest.mark.parametrize("number", range(3), ids=[stream.name for stream in STREAMS])
def test_tables_equal_rule_and_twin(
    spark: SparkSession, lakehouse: LakehouseResource, number: int, engine: EngineName
) -> None:
    (check,) = build_parity_checks([STREAMS[number]], engine)
    engines = {"duckdb": DuckDBResource(memory_mib=256), "spark": SimpleNamespace(spark_session=spark)}
    resources = {"lakehouse": lakehouse, engine: engines[engine]}
    verdict = check(dg.build_asset_check_context(resources=resources))
    assert isinstance(verdict, dg.AssetCheckResult)
    assert verdict.passed, verdict.description
    final = [row for row in read_rows(lakehouse, STREAMS[number].main_table.name) if not is_open(row)]
    assert verdict.metadata["compared_rows"].value == len(final) > 1


def is_open(row: dict[str, Any]) -> bool:
    """Whether the last reading is in it, which moves no watermark past itself."""
    end = row["run_end"] if "run_end" in row else row["window_end"]
    return bool(end >= NOON + 1200 * MINUTE)


def test_a_twin_reads_the_rows_of_those_it_is_asked_for(spark: SparkSession, tmp_path: Path) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path))
    append(lakehouse, READINGS.main_table, FIRST)
    events = read_events(spark, lakehouse.table_uri(READINGS.main_table.name), 1)
    found = run_twin(keep_users(events, "device", ["d2", "nobody"]), RUNS).toArrow().to_pylist()
    assert [(row["device"], row["n"]) for row in found] == [("d2", 3)]
