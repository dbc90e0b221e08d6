"""The check `repeated_events`: silent where each event is there once, and with places where one came again."""

from __future__ import annotations

import collections
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pyarrow as pa
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_assets.checks.repeated_events import build_repeated_events_checks
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streams import load_streams
from platform_assets.topics.events import EVENTS
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def run_check(root: Path, ids: list[str]) -> dg.AssetCheckResult:
    """Over events with these ids, each a minute after the one before."""
    if ids:
        rows = [
            {
                "event_id": event_id, "event_time": NOON, "event_date": NOON.date(), "topic": "t",
                "kafka_partition": 0, "kafka_offset": offset, "ingested_at": NOON + timedelta(minutes=offset),
            }
            for offset, event_id in enumerate(ids)
        ]  # fmt: skip
        table = pa.Table.from_pylist(rows, build_arrow_schema(EVENTS))
        write_deltalake(root / "silver/events", table, partition_by=["event_date"])
    (check,) = build_repeated_events_checks(load_streams())
    resources = {"lakehouse": LakehouseResource(root=str(root)), "duckdb": DuckDBResource(memory_mib=128)}
    verdict = check(dg.build_asset_check_context(resources=resources))
    assert isinstance(verdict, dg.AssetCheckResult)
    return verdict


def test_no_event_and_events_that_are_there_once_pass(tmp_path: Path) -> None:
    assert run_check(tmp_path, []).passed
    assert run_check(tmp_path, ["a", "b", "c"]).passed


def test_an_event_that_came_again_is_named_by_its_places(tmp_path: Path) -> None:
    verdict = run_check(tmp_path, ["a", "b", "a", "c", "a"])
    assert (verdict.passed, verdict.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert (verdict.metadata["repeated_ids"].value, verdict.metadata["repeats"].value) == (1, 2)
    assert "t/0/0 and t/0/2 and t/0/4" in str(verdict.description)


@settings(max_examples=15)
@given(st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f"]), min_size=1, max_size=8))
def test_the_counts_are_those_of_plain_python(ids: list[str]) -> None:
    repeated = {event_id: n for event_id, n in collections.Counter(ids).items() if n > 1}
    with tempfile.TemporaryDirectory() as folder:
        verdict = run_check(Path(folder), ids)
    assert verdict.passed == (not repeated)
    if repeated:
        assert verdict.metadata["repeated_ids"].value == len(repeated)
        assert verdict.metadata["repeats"].value == sum(repeated.values()) - len(repeated)
