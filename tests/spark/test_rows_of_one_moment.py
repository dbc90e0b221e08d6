"""Streams whose rows are of one moment, as alerts are: what a late event touches is found for them too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.repair.touched_by_events import find_touched, keep_touched
from platform_assets.streaming.stream_spec import TableStream
from platform_assets.streams import card_holds, fraud_alerts

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("stream", [fraud_alerts.STREAM, card_holds.STREAM], ids=lambda stream: stream.name)
@pytest.mark.parametrize("with_former", [False, True])
def test_a_late_event_touches_the_rows_of_its_moment(
    spark: SparkSession, stream: TableStream, with_former: bool
) -> None:
    def build(*rows: tuple[str, str, int]) -> pa.Table:
        found: list[dict[str, Any]] = [
            {"score_id": name, "customer_id": user, "event_time": NOON + timedelta(minutes=minute)}
            for name, user, minute in rows
        ]
        return pa.Table.from_pylist(found, build_arrow_schema(stream.main_table))

    rows = build(("same", "u1", 0), ("other time", "u1", 1), ("other user", "u2", 0), ("former", "u3", 5))
    late = pa.table({"user_id": ["u1"], "event_time": pa.array([NOON], pa.timestamp("us", "UTC"))})
    former = build(("former", "u3", 5)) if with_former else None
    expected = ["former", "same"] if with_former else ["same"]

    near = keep_touched(spark.createDataFrame(rows), late, stream, former).toArrow()
    assert sorted(near["score_id"].to_pylist()) == expected
    renamed = late.rename_columns([stream.span.user_column, "event_time"])
    touched = find_touched(near, late.append_column("customer_id", renamed["customer_id"]), stream, former)
    assert sorted(touched["score_id"].to_pylist()) == expected
