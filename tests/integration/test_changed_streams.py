"""Code and checkpoint that do not fit are refused, with what differs; the way out computes the same rows again."""

from __future__ import annotations

import dataclasses
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobs.operations.recompute import recompute_stream
from jobs.supervision.group_lock import hold_group_lock
from platform_assets.errors import CheckpointMismatchError, GroupOwnedError, PlanChangedError, UsageError
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.stream_spec import StreamGroup, TableStream, select_derived
from platform_assets.streams import load_streams
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.bounded_run import run_to_end
from tests.integration.streams_under_test import StreamsUnderTest

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

NAME, TABLE = "revenue_by_category", "gold.revenue_by_category"
STREAMS = {stream.name: stream for stream in load_streams()}
STREAM = next(stream for stream in select_derived(STREAMS.values()) if stream.name == NAME)
AT = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def written(spark: Any, kafka: KafkaResource, tmp_path_factory: pytest.TempPathFactory) -> StreamsUnderTest:
    """Purchases of an hour, a late one among them, read by `events` and the stream under test."""
    root = tmp_path_factory.mktemp("changed")
    topic = f"changed-{root.name}"
    ensure_topic(kafka, topic, 1)
    lakehouse, settings = LakehouseResource(root=str(root)), Settings(home=root, kafka_bootstrap_servers="")
    streams = StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic)
    for moments in ([0, 10, 60], [5, 61]):
        streams.send([purchase(minutes) for minutes in moments])
        streams.drain("events", NAME)
    assert len(streams.rows("platform.late_events")) == 1
    streams.let_go_of_state()
    return streams


@pytest.fixture
def filled(written: StreamsUnderTest, tmp_path: Path) -> StreamsUnderTest:
    """The same in a lakehouse of one's own. The topic is that of all tests here: only one of them sends and reads."""
    return written.copy_to(tmp_path / "lakehouse")


def purchase(minutes: int) -> bytes:
    event = {
        "event_id": f"e{minutes}", "event_type": "purchase", "user_id": "u", "category": "toys", "revenue": 2.5,
        "timestamp": (AT + timedelta(minutes=minutes)).isoformat(),
    }  # fmt: skip
    return json.dumps(event).encode()


def run(streams: StreamsUnderTest, stream: TableStream) -> None:
    run_to_end(QueryGroup(streams.session, [stream], streams.context))


def rows(streams: StreamsUnderTest) -> list[dict[str, Any]]:
    return streams.rows(TABLE, "from t order by window_start")


def with_filter(stream: TableStream) -> TableStream:
    """The stream, but purchases of one minute count no more."""
    original = stream.transform
    assert original is not None

    def transform(events: DataFrame) -> DataFrame:
        return original(events.where("revenue > 3"))

    return dataclasses.replace(stream, transform=transform)


def with_watermark(stream: TableStream) -> TableStream:
    source = dataclasses.replace(stream.source, watermark_delay=timedelta(minutes=2))
    return dataclasses.replace(stream, source=source)


def with_higher_threshold(stream: TableStream) -> TableStream:
    """The stream, but windows with one purchase are not written."""
    original = stream.transform
    assert original is not None
    return dataclasses.replace(stream, transform=lambda events: original(events).where("total_revenue > 3"))


def test_what_feeds_the_state_must_not_change_unseen(filled: StreamsUnderTest) -> None:
    before = rows(filled)
    filled.send([purchase(62)])
    filled.drain("events")
    for change, shown in (
        (with_filter, r"changed: added Filter \(revenue > "),
        (with_watermark, r"EventTimeWatermark .*1 minutes became .*2 minutes; .*0:01:00 became .*0:02:00"),
    ):
        with pytest.raises(PlanChangedError, match=shown):
            run(filled, change(STREAM))
        assert rows(filled) == before

    run(filled, STREAM)  # the old code goes on where it was
    after = rows(filled)
    assert len(after) == len(before) + 2

    filled.send([purchase(70)])
    filled.drain("events")
    run(filled, with_higher_threshold(STREAM))  # what lies above the state may change
    assert rows(filled) == after


def test_a_lost_checkpoint_is_refused_and_a_recomputation_gives_the_same_rows(
    filled: StreamsUnderTest, settings: Settings, tmp_path: Path
) -> None:
    before = rows(filled)
    home = settings.model_copy(update={"lakehouse": filled.context.lakehouse_root})
    group = StreamGroup("clickstream", tuple(STREAMS.values()))
    checkpoint = Path(filled.context.checkpoint_uri(TABLE))
    filled.let_go_of_state()
    lost = filled.copy_to(tmp_path / "lost")
    shutil.rmtree(lost.context.checkpoint_uri(TABLE))
    with pytest.raises(CheckpointMismatchError, match=f"headrace recompute {NAME}"):
        run(lost, STREAM)
    with hold_group_lock(home.home, group.name, "run", "run-1"), pytest.raises(GroupOwnedError):
        recompute_stream(group, NAME, home)
    with pytest.raises(UsageError, match="reads Kafka"):
        recompute_stream(group, "events", home)
    assert rows(filled) == before
    recompute_stream(group, NAME, home)
    assert not checkpoint.exists()
    # Nothing says of the empty table that it is complete.
    assert rows(filled) == filled.rows("platform.late_events") == filled.rows("platform.complete_until") == []
    recompute_stream(group, NAME, home)  # once more changes nothing
    run(filled, STREAM)
    assert rows(filled) == before
    assert filled.rows("platform.late_events") == []
    assert [row["query"] for row in filled.rows("platform.complete_until")] == [NAME]
