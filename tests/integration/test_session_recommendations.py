"""Recommendations follow a live session: in the stream group's own process, while it goes on and at a drain's end."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobs.supervision.application import build_followers
from platform_assets.reports.duckdb_engine import DuckDBEngine
from platform_assets.reports.report_engine import Engines
from platform_assets.reports.whole.assets import compute_whole
from platform_assets.reports.whole.product_neighbours import PRODUCT_NEIGHBOURS
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streams import load_all_stream_groups, load_streams
from resources.duckdb import DuckDBResource
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.bounded_run import LIMIT_SECONDS
from tests.integration.streams_under_test import StreamsUnderTest

TABLE = "gold.product_recommendations"


def view(user: str, product: str, at: datetime) -> bytes:
    return json.dumps(
        {
            "event_id": f"{user}/{product}/{at}", "event_type": "page_view", "timestamp": at.isoformat(),
            "user_id": user, "product_id": product,
        }
    ).encode()  # fmt: skip


def test_only_the_group_with_the_shops_events_has_followers(lakehouse: LakehouseResource) -> None:
    found = {group.name: len(build_followers(group.streams, lakehouse, None)) for group in load_all_stream_groups()}
    assert found["clickstream"] == 1 and found["payments"] == 0


def test_a_session_is_followed_while_the_group_goes_on_and_at_a_drains_end(
    spark: Any, kafka: KafkaResource, lakehouse: LakehouseResource, settings: Settings, topic: Callable[..., str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    streams = StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic(1), upkeep_seconds=1.0)
    (follow,) = build_followers(load_streams(), lakehouse, None)
    followed = threading.Event()

    def follow_and_tell() -> None:
        follow()
        if lakehouse.find_table(TABLE) is not None and streams.rows(TABLE):
            followed.set()

    streams = dataclasses.replace(streams, context=dataclasses.replace(streams.context, followers=(follow_and_tell,)))
    now = datetime.now(UTC)
    streams.send([view(f"u{n}", product, now - timedelta(hours=3)) for n in range(9) for product in ("a", "b")])
    streams.drain("events")
    assert lakehouse.find_table(TABLE) is None, "there was no night yet"
    with DuckDBResource.from_settings(settings).connected() as connection:
        engine = DuckDBEngine(connection, lakehouse)
        compute_whole(PRODUCT_NEIGHBOURS, Engines(engine, engine), lakehouse, datetime.now(UTC))

    group = QueryGroup(spark, [stream for stream in load_streams() if stream.name == "events"], streams.context)
    streams.send([view("ann", "a", datetime.now(UTC))])
    try:
        group.start()
        assert followed.wait(LIMIT_SECONDS), group.failure()
    finally:
        group.stop(60)
    assert group.failure() is None
    streams.send([view("bob", "b", datetime.now(UTC))])
    streams.drain("events")
    found = {(row["user_id"], row["product_id"], row["basis"]) for row in streams.rows(TABLE)}
    assert found == {("ann", "b", "session"), ("bob", "a", "session")}
    assert "were not updated" not in caplog.text
