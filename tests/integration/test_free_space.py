"""A disk that fills up under a running group: it stops between two batches while there is room, and goes on later."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.supervision.stream_context import build_stream_context
from platform_assets.errors import StorageError
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streams import load_streams
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.bounded_run import LIMIT_SECONDS
from tests.integration.streams_under_test import StreamsUnderTest, build_purchases

MIB = 1024 * 1024


def test_a_group_stops_before_the_disk_is_full_and_loses_nothing(
    spark: Any, kafka: KafkaResource, lakehouse: LakehouseResource, settings: Settings, topic: Callable[..., str],
    tmp_path: Path,
) -> None:  # fmt: skip
    streams = StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic(1))
    free = shutil.disk_usage(tmp_path).free
    # The machine's other processes write too: far between both limits.
    context = dataclasses.replace(streams.context, kafka_trigger_seconds=0.0, min_free_bytes=free - 512 * MIB)
    group = QueryGroup(spark, [stream for stream in load_streams() if stream.name == "events"], context)
    filler = tmp_path / "filler"
    with streams.sending(build_purchases):
        try:
            group.start()
            _wait_for(lambda: "events" in group.progress() and group.progress()["events"].batch_id >= 2)
            assert group.failure() is None
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, 1024 * MIB)
            failure = group.failure()
            assert isinstance(failure, StorageError) and "HEADRACE_MIN_FREE_MIB" in str(failure)
        finally:
            group.stop(60)
            filler.unlink(missing_ok=True)
    streams.drain("events")
    (end,) = kafka.end_offsets(streams.topic).values()
    offsets = streams.rows("silver.events", "select kafka_offset from t order by 1")
    assert [row["kafka_offset"] for row in offsets] == list(range(end))


def test_a_group_does_not_start_on_a_disk_that_is_nearly_full(
    kafka: KafkaResource, lakehouse: LakehouseResource, settings: Settings
) -> None:
    with pytest.raises(StorageError, match="HEADRACE_MIN_FREE_MIB"):
        build_stream_context(settings.model_copy(update={"min_free_mib": 2**40}), kafka, lakehouse, [])


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)
