"""A host's clock that is ahead does not move time further than the records' own clock, as far as that is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from platform_assets.streaming.ingest.kafka_clock import KafkaClock
from platform_assets.streaming.topic_snapshot import Ends
from tests.unit.event_histories import BEGIN, HOUR, MINUTE, SECOND, Record, Step
from tests.unit.test_event_histories import Process


class Topic:
    """One partition whose end, and a steady clock, are set."""

    def __init__(self) -> None:
        self.end, self.steady = 0, 0
        self.clock = KafkaClock(self.look, lambda: self.steady)

    def look(self) -> Ends:
        return {0: (self.end, self.end)}

    def send(self, *sent: tuple[int, int]) -> None:
        """Records of (Kafka timestamp, sender), which are read at once."""
        offsets = np.arange(self.end, self.end + len(sent))
        self.end += len(sent)
        times, senders = (np.array(column, dtype=np.int64) for column in zip(*sent, strict=True))
        self.clock.observe(np.zeros(len(sent), np.int64), offsets, times, senders)


def test_a_clock_that_is_hours_ahead_is_held_at_that_of_the_records() -> None:
    topic = Topic()
    topic.clock.fetch_ends()
    topic.steady = 2 * SECOND
    topic.send((BEGIN, 1), *((BEGIN + SECOND, sender) for sender in range(2, 11)))
    # The first was sent after the look: it was no later than BEGIN + 1 s then, and 62 s have passed since.
    topic.steady = 62 * SECOND
    assert topic.clock.bound(BEGIN + 3 * HOUR) == BEGIN + 63 * SECOND
    assert topic.clock.bound(BEGIN + MINUTE) == BEGIN + MINUTE, "one that is right is left alone"


def test_what_was_there_before_the_first_look_says_nothing() -> None:
    topic = Topic()
    topic.end = 10
    topic.clock.fetch_ends()
    topic.clock.observe(np.zeros(10, np.int64), np.arange(10), np.full(10, BEGIN), np.arange(10))
    assert topic.clock.bound(BEGIN + 3 * HOUR) == BEGIN + 3 * HOUR


def test_few_senders_say_nothing_and_old_records_less_than_new_ones() -> None:
    topic = Topic()
    topic.clock.fetch_ends()
    topic.send((BEGIN - 72 * HOUR, 1))
    topic.clock.fetch_ends()
    topic.send((BEGIN - 72 * HOUR, 1))
    assert topic.clock.bound(BEGIN) == BEGIN
    topic.clock.fetch_ends()
    topic.send(*((BEGIN, sender) for sender in range(2, 11)))
    topic.clock.fetch_ends()
    topic.send((BEGIN - 72 * HOUR, 1))
    assert topic.clock.bound(BEGIN + HOUR) == BEGIN


@pytest.mark.parametrize("lead", [0, 3 * HOUR])
def test_a_silence_under_a_wrong_clock_moves_time_by_the_records(tmp_path: Path, lead: int) -> None:
    ends: Ends = {0: (0, 0)}
    process = Process(str(tmp_path), "UTC", lambda: ends)
    process._writer.fetch_ends()
    now = BEGIN
    records = tuple(Record(0, n, now, f"e{n}", f"u{n}", "2026-06-10T09:00:00Z", 1.0) for n in range(10))
    ends = {0: (10, 10)}
    process.take(Step(now + lead, records, ((0, 0, 10),)), 0)
    process.take(Step(0, mark=now + lead + 4 * MINUTE), 1)
    found = process.read_frontier()
    assert found is not None
    # The records' clock goes on with this test, which is over in less than a minute.
    assert now <= found < now + MINUTE if lead else found == now + 4 * MINUTE
