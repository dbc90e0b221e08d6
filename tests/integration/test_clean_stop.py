"""A group that is stopped under load, at any moment: it ends soon, without an error, and nothing is lost or doubled."""

from __future__ import annotations

import dataclasses
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streams import load_streams
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.bounded_run import LIMIT_SECONDS
from tests.integration.streams_under_test import StreamsUnderTest, build_purchases

GRACE_SECONDS = 60.0


@pytest.mark.parametrize("stops", [2, pytest.param(6, marks=pytest.mark.release)])
def test_a_stop_at_any_moment_is_clean(
    spark: Any, kafka: KafkaResource, lakehouse: LakehouseResource, settings: Settings, topic: Callable[..., str],
    spark_log: Path, stops: int,
) -> None:  # fmt: skip
    streams = StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic(1))
    # Batches follow one another without a pause, so that most stops fall into one or between two.
    context = dataclasses.replace(streams.context, kafka_trigger_seconds=0.0, max_offsets_per_trigger=50)
    # One query of each kind: five without a pause would fill two cores and test nothing more.
    kinds = [stream for stream in load_streams() if stream.name in ("events", "revenue_by_category")]
    eager = [dataclasses.replace(stream, trigger_seconds=0.0) for stream in kinds]
    log_before = _read(spark_log)
    moments = random.Random(7)
    with streams.sending(lambda number: [*build_purchases(number - number % 7), b"not JSON"]):
        for number in range(stops):
            group = QueryGroup(spark, eager, context)
            group.start()
            _wait_for_batches(group, moments.randint(1, 3))
            time.sleep(moments.random())  # not a wait for anything: the stop comes at a random moment of a batch
            began = time.monotonic()
            group.stop(GRACE_SECONDS)
            assert time.monotonic() - began < GRACE_SECONDS / 2
            assert group.failure() is None, f"stop {number} ended a query with an error"
    assert "ERROR" not in _read(spark_log)[len(log_before) :]
    streams.drain("events")
    places = Counter(
        row["kafka_offset"]
        for table in ("silver.events", "silver.quarantined_events", "silver.deduplicated_events")
        for row in streams.rows(table, "select kafka_offset from t")
    )
    (end,) = kafka.end_offsets(streams.topic).values()
    assert places == Counter(range(end))


def _read(log: Path) -> str:
    return log.read_text() if log.exists() else ""


def _wait_for_batches(group: QueryGroup, batches: int) -> None:
    """Waits until the stream `events` has done this many batches since the group's start."""
    deadline = time.monotonic() + LIMIT_SECONDS
    first: int | None = None
    while time.monotonic() < deadline:
        assert group.failure() is None
        group.reconcile()
        batch_id = group.progress()["events"].batch_id
        first = batch_id if first is None and batch_id >= 0 else first
        if first is not None and batch_id >= first + batches - 1:
            return
        time.sleep(0.05)
    raise AssertionError("no batch was done in time")
