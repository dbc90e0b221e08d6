"""What is gone of a topic: aged out, cut, another topic's, an added partition's; and how a ledger tells logs apart."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from platform_assets.checks.acknowledged_losses import Losses
from platform_assets.streaming.ingest.lost_ranges import LostRange, build_rows, describe, find_lost_ranges
from platform_assets.streaming.topic_snapshot import TopicSnapshot

READ = {0: 5_000, 1: 40, 2: 7}
AT = datetime(2026, 3, 1, tzinfo=UTC)


def held(topic_id: str = "a", **offsets: tuple[int, int]) -> TopicSnapshot:
    whole = {f"p{partition}": (0, offset) for partition, offset in READ.items()} | offsets
    return TopicSnapshot(topic_id, {int(name[1:]): found for name, found in whole.items()})


def find(topic: TopicSnapshot, read_topic_id: str | None = "a") -> list[LostRange]:
    return find_lost_ranges("t", READ, read_topic_id, topic)


def test_nothing_is_lost_where_kafka_holds_what_comes_next() -> None:
    assert find(held()) == find(held(p0=(5_000, 5_000), p1=(3, 90))) == []


def test_what_aged_out_is_lost_of_its_partition() -> None:
    assert find(held(p1=(50, 60))) == [LostRange("t", 1, 40, 50, 50)]


def test_under_the_same_id_a_shorter_log_is_a_cut_of_that_partition_alone() -> None:
    (found,) = find(held(p0=(0, 4_990)))
    assert found == LostRange("t", 0, 5_000, None, 4_990, is_cut=True)
    assert "offsets 4990 to 4999, which were read" in str(found)
    assert "--from" not in describe([found])


@pytest.mark.parametrize("shorter", [{}, {"p0": (0, 3)}])
def test_another_id_is_another_topic_in_all_partitions(shorter: dict[str, tuple[int, int]]) -> None:
    found = find(held("b", **shorter))
    assert [(item.kafka_partition, item.until_offset, item.is_of_another_topic) for item in found] == [
        (0, None, True), (1, None, True), (2, None, True),
    ]  # fmt: skip
    assert "--from" in describe(found)


def test_without_an_id_a_shorter_log_may_be_another_topic() -> None:
    assert all(item.is_of_another_topic for item in find(held(p0=(0, 3)), None))
    assert find(held(p1=(50, 60)), None) == [LostRange("t", 1, 40, 50, 50)]


def test_an_added_partition_whose_first_records_are_gone_has_lost_these() -> None:
    assert find(held(p3=(2, 9))) == [LostRange("t", 3, 0, 2, 2)]
    assert find(held(p3=(0, 9))) == []
    assert find_lost_ranges("t", {}, None, held(p3=(2, 9))) == []  # nothing was read: it begins at the first


def test_a_ledger_tells_the_records_before_and_after_a_cut_apart_in_that_partition() -> None:
    rows = build_rows([LostRange("t", 0, 5_000, None, 4_990, is_cut=True)], "ann", "power cut", AT)
    losses, at = Losses(rows), AT.timestamp() * 1e6
    assert [losses.name_of("t", 0, at - 1), losses.name_of("t", 0, at)] == ["t", "t #2"]
    assert [losses.name_of("t", 1, at), losses.name_of("u", 0, at)] == ["t", "u"]
