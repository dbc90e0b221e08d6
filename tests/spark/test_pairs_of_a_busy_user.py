"""A user with thousands of views and purchases: pairs by way of the disk, and repairs in portions."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from deltalake import DeltaTable

from platform_assets.streaming.repair import late_pairs
from platform_assets.tables.platform import LATE_EVENTS
from resources.lakehouse import LakehouseResource
from tests.spark.report_cases import Event, event, events_frame, read_rows
from tests.spark.streams_over_table import in_order
from tests.spark.test_streams_over_events import CLOSER, NOON, STREAMS, arrive, ask_rule

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

STREAM = STREAMS["view_to_purchase"]


def build_events(views: int, purchases: int, user: str = "busy") -> list[Event]:
    """Views of one product within twenty minutes, and purchases of it within the five after: each is a pair."""
    return [
        *(event(user, NOON + timedelta(minutes=20) * (n / views)) for n in range(views)),
        *(
            event(user, NOON + timedelta(minutes=20) + timedelta(minutes=5) * (n / purchases), "purchase")
            for n in range(purchases)
        ),
    ]


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_joins_says_that_it_is_of_pairs(spark: SparkSession, name: str) -> None:
    stream = STREAMS[name]
    plan = stream.transform(events_frame(spark, []))._jdf.queryExecution().analyzed().toString()
    assert stream.span.of_pairs == ("Join" in plan)


def list_scratch(spark: SparkSession) -> list[Path]:
    return list(Path(spark.conf.get("spark.local.dir") or "none").glob("batches/*"))


@pytest.mark.long
def test_late_events_of_a_busy_user_are_repaired_in_portions(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Late are purchases, and views: what they are in differs from event to event."""
    monkeypatch.setattr(late_pairs, "MAX_PAIRS", 600)
    lakehouse = LakehouseResource(root=str(tmp_path))
    events = build_events(60, 40)
    late = [*events[5:60:10], *events[61::4]]
    parts = [[*(e for e in events if e not in late), CLOSER], late]
    arrived = arrive(spark, lakehouse, parts, ["view_to_purchase"])
    found = in_order(STREAM, read_rows(lakehouse, STREAM.main_table.name))
    assert len(found) == 60 * 40
    assert found == ask_rule(STREAM.name, arrived)
    assert [row["repaired_at"] is not None for row in read_rows(lakehouse, LATE_EVENTS.name)] == [True] * len(late)
    repairs = [c for c in DeltaTable(lakehouse.table_uri(STREAM.main_table.name)).history() if "repair" in str(c)]
    assert len(repairs) == 3
    assert list_scratch(spark) == []


_PROGRAM = """
import sys, time
from pathlib import Path
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from resources.spark.session import SparkResource
from tests.short_lived_jvm import SPARK_CONF
from tests.spark.report_cases import append_events
from tests.spark.test_pairs_of_a_busy_user import build_events
from tests.spark.test_streams_over_events import run_streams

home, views, purchases = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
settings = Settings(home=home, kafka_bootstrap_servers="", spark_heap_mib=512, spark_conf=SPARK_CONF)
lakehouse = LakehouseResource(root=str(home / "lakehouse"))
with SparkResource.from_settings(settings, "busy").running() as spark:
    append_events(lakehouse, build_events(views, purchases))
    run_streams(spark, lakehouse, ["view_to_purchase"])
"""


@pytest.mark.release
def test_a_batch_of_two_million_pairs_is_one_commit_with_half_the_usual_heap(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PROGRAM, str(tmp_path), "2000", "1000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    table = DeltaTable(tmp_path / "lakehouse/gold/view_to_purchase")
    assert (table.version(), table.count()) == (1, 2_000_000)
    pairs = table.to_pyarrow_table(columns=["view_event_id", "purchase_event_id"])
    assert len(pairs.group_by(pairs.column_names).aggregate([])) == 2_000_000
