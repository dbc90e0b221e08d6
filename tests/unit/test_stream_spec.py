"""A group knows its two kinds of streams."""

import dataclasses

import pytest

from platform_assets.streaming.stream_spec import KafkaStream, StreamGroup
from platform_assets.streams import load_streams

GROUP = StreamGroup("clickstream", load_streams())


def test_every_stream_of_a_group_is_over_kafka_or_over_a_table() -> None:
    assert [stream.name for stream in GROUP.ingest] == ["events"]
    assert (*GROUP.ingest, *GROUP.derived) == GROUP.streams


def test_several_streams_over_kafka_are_told_apart_in_their_order() -> None:
    (events,) = GROUP.ingest
    others = tuple(_renamed(events, name) for name in ("orders", "clicks"))
    group = StreamGroup("shop", (others[0], *GROUP.derived, others[1]))
    assert group.ingest == others
    assert group.derived == GROUP.derived


def _renamed(stream: KafkaStream, name: str) -> KafkaStream:
    return KafkaStream(dataclasses.replace(stream.topic, name=name, kafka_topic=name))


def test_pairs_are_appended() -> None:
    pairs = next(stream for stream in GROUP.derived if stream.span.of_pairs)
    with pytest.raises(ValueError, match=f"^{pairs.name}: pairs are appended"):
        dataclasses.replace(pairs, write_mode="upsert")
