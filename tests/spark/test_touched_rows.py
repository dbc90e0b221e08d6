"""What a repair collects of a stream's recomputed table: the rows that its late events touch, and no others."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.repair.touched_by_events import find_touched, keep_touched
from platform_assets.streaming.stream_spec import TableStream
from platform_assets.streams import high_value_users, revenue_by_category, sessions, view_to_purchase

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

AT = datetime(2026, 3, 1, tzinfo=UTC)
BY_USER = [sessions.STREAM, view_to_purchase.STREAM, high_value_users.STREAM]


def build_rows(stream: TableStream, rng: random.Random, count: int) -> pa.Table:
    """Rows of a few users at whole minutes, so that many ends meet."""
    rows = []
    for _ in range(count):
        start = AT + timedelta(minutes=rng.randrange(600))
        row = {stream.span.start_column: start, stream.span.end_column: start + timedelta(minutes=rng.randrange(20))}
        rows.append({"user_id": f"u{rng.randrange(30)}", **row})
    fields = [field.with_nullable(True) for field in build_arrow_schema(stream.main_table)]  # the rest is not looked at
    return pa.Table.from_pylist(rows, pa.schema(fields))


def build_late(rng: random.Random, count: int) -> pa.Table:
    rows = [
        {"user_id": f"u{rng.randrange(30)}", "event_time": AT + timedelta(minutes=rng.randrange(600))}
        for _ in range(count)
    ]
    return pa.Table.from_pylist(
        rows, pa.schema([("user_id", pa.string()), ("event_time", pa.timestamp("us", tz="UTC"))])
    )


def in_order(rows: pa.Table) -> list[dict[str, object]]:
    return sorted(rows.to_pylist(), key=repr)


@pytest.mark.parametrize("stream", BY_USER, ids=lambda stream: stream.name)
@pytest.mark.parametrize("seed", range(3))
def test_only_touched_rows_are_collected(spark: SparkSession, stream: TableStream, seed: int) -> None:
    rng = random.Random(seed)
    # Only those at one of its ends touch a pair.
    rows, late = build_rows(stream, rng, 400), build_late(rng, 400 if stream.span.of_pairs else 20)
    present = build_rows(stream, rng, 10) if stream is sessions.STREAM else None
    collected = keep_touched(spark.createDataFrame(rows), late, stream, present).toArrow()
    right = find_touched(rows, late, stream, present)
    assert 0 < len(right) < len(rows)
    assert in_order(collected) == in_order(right)


def test_the_rows_of_a_table_without_users_are_few_and_stay(spark: SparkSession) -> None:
    rng = random.Random(1)
    schema = build_arrow_schema(revenue_by_category.STREAM.main_table)
    rows = spark.createDataFrame(pa.Table.from_pylist([{}], schema))
    assert keep_touched(rows, build_late(rng, 3), revenue_by_category.STREAM) is rows
