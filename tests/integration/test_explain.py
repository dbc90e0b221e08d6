"""`headrace explain` says of every kind of record where it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobs.operations.explain import explain
from platform_assets.errors import UsageError
from platform_assets.streams import load_streams
from platform_assets.tables.coordinates import Coordinates
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.integration.streams_under_test import StreamsUnderTest
from tests.integration.test_events_stream import event

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
STREAMS = ("events", "sessions", "high_value_users")


@pytest.fixture(scope="module")
def written(spark: Any, kafka: KafkaResource, tmp_path_factory: pytest.TempPathFactory) -> StreamsUnderTest:
    """One partition: 0 a purchase, 1 its repetition, 2 malformed, 3 two hours on, 4 late, 5 that nobody has read."""
    root = tmp_path_factory.mktemp("explain")
    ensure_topic(kafka, root.name, 1)
    lakehouse = LakehouseResource(root=str(root / "lakehouse"))
    settings = Settings(home=root / "home", kafka_bootstrap_servers="", publish=False)
    streams = StreamsUnderTest.build(spark, kafka, lakehouse, settings, root.name)
    bought = {"event_type": "purchase", "revenue": 150.0}
    streams.send([_event("a", 0, **bought), _event("a", 0, **bought), b"bad"])
    streams.drain(*STREAMS)
    streams.send([_event("b", 120)])
    streams.drain(*STREAMS)
    streams.send([_event("late", 1)])
    streams.drain(*STREAMS)
    streams.send([_event("unread", 121)])
    return streams


def _event(event_id: str, minutes: int, **fields: Any) -> bytes:
    return event(event_id, timestamp=(NOON + timedelta(minutes=minutes)).isoformat(), **fields)


def ask(streams: StreamsUnderTest, **question: str) -> str:
    lakehouse = LakehouseResource(root=streams.context.lakehouse_root)
    used = [stream for stream in load_streams() if stream.name in STREAMS]
    return "\n".join(explain(used, lakehouse, streams.kafka, **question))


@pytest.mark.parametrize(
    ("offset", "said"),
    [
        (0, "is event a of 2026-03-01 12:00:00 UTC, user u1: accepted into silver.events by batch 0 of events"),
        (1, "repeats event a: deduplicated against"),
        (2, "was quarantined by batch 0 of events at"),
        (2, "not_json"),
        (3, "In the state of sessions until its watermark (now 2026-03-01 13:50:00 UTC) passes"),
        (4, "What counts it in gold.sessions is final."),
        (4, "It was late for 1 row(s) of sessions (watermark 2026-03-01 13:50:00 UTC in batch"),
        (4, "repaired at"),
        (5, "is not read yet: events has read until 5, 0 records before it"),
        (6, "does not exist: the partition ends before offset 6"),
    ],
)
def test_a_record_is_explained_by_its_coordinates(written: StreamsUnderTest, offset: int, said: str) -> None:
    assert said in ask(written, offset=f"{written.topic}/0/{offset}")


def test_an_event_is_explained_with_all_its_records(written: StreamsUnderTest) -> None:
    said = ask(written, event_id="a")
    assert "accepted into silver.events" in said and "deduplicated against" in said
    assert "What counts it in gold.high_value_users is final." in said


def test_an_id_of_very_many_records_is_explained_by_the_first_of_them(
    written: StreamsUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.operations.explain.MAX_PLACES", 1)
    said = ask(written, event_id="a")
    assert "accepted into silver.events" in said and "deduplicated against" not in said
    assert "More records have this id: these are the first 1." in said


def test_an_event_that_is_nowhere_says_where_it_may_be(written: StreamsUnderTest) -> None:
    said = ask(written, event_id="unread")
    assert "not read yet (1 records are unread)" in said and "--offset" in said


def test_a_users_rows_are_explained_at_a_time(written: StreamsUnderTest) -> None:
    said = ask(written, user_id="u1", at="2026-03-01T12:00:30Z")
    assert "gold.high_value_users" in said and "total_spent 150.0" in said
    assert "gold.sessions" in said and "event_count 2" in said and ": final (" in said
    assert "what is open then is in state" in ask(written, user_id="u1", at="2026-03-01T14:00:30Z")
    assert "no row counts that moment" in ask(written, user_id="nobody", at="2026-03-01T12:00:30Z")


def test_a_question_that_cannot_be_read_is_refused_with_an_example() -> None:
    with pytest.raises(UsageError, match="shop/0/42"):
        Coordinates.parse("shop-0-42")


def test_before_the_first_run_there_is_nothing_to_look_into(kafka: KafkaResource, tmp_path: Any) -> None:
    said = explain(load_streams(), LakehouseResource(root=str(tmp_path)), kafka, event_id="a")
    assert said == ["The streams have not run yet: there is no table to look into."]
