"""One stream of a running group is paused, started again and resumed under load; the others go on, no row is lost."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streams import load_streams
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.bounded_run import LIMIT_SECONDS
from tests.integration.streams_under_test import StreamsUnderTest, build_purchases

DERIVED = "revenue_by_category"
BOTH = ("events", DERIVED)
NOTHING: frozenset[str] = frozenset()
PAUSED = frozenset({DERIVED})


def test_single_streams_are_paused_restarted_and_resumed(
    spark: Any, kafka: KafkaResource, lakehouse: LakehouseResource, settings: Settings, topic: Callable[..., str]
) -> None:
    streams = StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic(1))
    # Batches follow one another without a pause, so that the requests meet batches in flight.
    context = dataclasses.replace(streams.context, kafka_trigger_seconds=0.0)
    eager = [dataclasses.replace(s, trigger_seconds=0.0) for s in load_streams() if s.name in BOTH]
    group = QueryGroup(spark, eager, context)
    with streams.sending(build_purchases):
        try:
            group.start(paused=PAUSED)
            _reconcile_until(group, lambda: _batch_of(group, "events") >= 2, PAUSED)
            assert DERIVED not in group.progress()

            _reconcile_until(group, lambda: _batch_of(group, DERIVED) >= 1)

            _reconcile_until(group, lambda: not _is_running(group, DERIVED), PAUSED)
            held, others = _batch_of(group, DERIVED), _batch_of(group, "events")
            _reconcile_until(group, lambda: _batch_of(group, "events") >= others + 3, PAUSED)
            assert _batch_of(group, DERIVED) == held

            for name in BOTH:
                _restart(group, name)

            # Taken back at once, whether or not the stop has come through.
            group.reconcile(frozenset(BOTH), {})
            _reconcile_until(group, lambda: all(_is_running(group, name) for name in BOTH))
        finally:
            group.stop(60)
    assert group.failure() is None
    streams.drain(*BOTH)
    (end,) = kafka.end_offsets(streams.topic).values()
    offsets = streams.rows("silver.events", "select kafka_offset from t order by 1")
    assert [row["kafka_offset"] for row in offsets] == list(range(end))
    counted = (
        "select sum(purchase_count) as n from t where window_start = time_bucket(interval '1 minute', window_start)"
    )
    assert streams.rows("gold.revenue_by_category", counted) == [{"n": end}]


def _restart(group: QueryGroup, name: str) -> None:
    """Asks for a restart and waits until the new query has done a batch."""
    before, wish = group._queries[name].started_at, {name: time.time()}
    _reconcile_until(group, lambda: group._queries[name].started_at > before, NOTHING, wish)
    done = _batch_of(group, name)
    _reconcile_until(group, lambda: _batch_of(group, name) > done, NOTHING, wish)


def _batch_of(group: QueryGroup, name: str) -> int:
    progress = group.progress()
    return progress[name].batch_id if name in progress else -1


def _is_running(group: QueryGroup, name: str) -> bool:
    return group._queries[name].is_active


def _reconcile_until(
    group: QueryGroup,
    condition: Callable[[], bool],
    paused: frozenset[str] = NOTHING,
    restart_at: Mapping[str, float] | None = None,
) -> None:
    """Reconciles until the condition holds, as the host does with each beat."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        assert group.failure() is None
        group.reconcile(paused, restart_at or {})
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("not in time")
