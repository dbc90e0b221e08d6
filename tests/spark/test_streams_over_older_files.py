"""Streams over a table that older code has begun: its files lack the columns that were added since."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from deltalake import write_deltalake

from platform_assets.topics.events import EVENTS
from resources.lakehouse import LakehouseResource
from tests.spark.report_cases import Event, event, events_table
from tests.spark.test_streams_over_events import CLOSER, NOON, assert_tables_equal_twins, run_streams

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ADDED_SINCE = ["currency", "is_anonymous"]


def shop(first_minute: int, currency: str | None = None) -> list[Event]:
    """An hour in which ten users each look at a product and buy it."""
    return [
        {
            **event(f"u{minute % 10}", NOON + timedelta(minutes=first_minute + minute), kind, currency=currency),
            "category": "toys",
        }
        for minute, kind in enumerate(["page_view"] * 30 + ["purchase"] * 30)
    ]


@pytest.mark.long
def test_files_of_older_code_are_read_with_null_in_what_they_lack(spark: SparkSession, tmp_path: Path) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path / "lakehouse"))

    def write(events: Sequence[Event], first_offset: int, without: Sequence[str]) -> None:
        rows = events_table(events, first_offset).drop_columns(list(without))
        uri = lakehouse.table_uri(EVENTS.name)
        write_deltalake(uri, rows, mode="append", schema_mode="merge", partition_by=["event_date"])

    old, new = shop(0), [*shop(120, currency="EUR"), CLOSER]
    write(old, 0, ADDED_SINCE)
    write(new, len(old), [])
    run_streams(spark, lakehouse)
    assert_tables_equal_twins(spark, lakehouse, [*old, *new])
