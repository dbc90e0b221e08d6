"""Time does not pass by what waits behind an open transaction, and waits for nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from platform_assets.streaming.ingest.open_transactions import OpenTransactions
from platform_assets.streaming.topic_snapshot import Ends

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Log:
    """One topic partition: when each offset was written, and where an open transaction begins."""

    times: list[int] = field(default_factory=list)
    opened_at: int | None = None

    def ends(self) -> tuple[int, int]:
        return len(self.times) if self.opened_at is None else self.opened_at, len(self.times)


class Topic:
    """Answers as Kafka does; counts how often it is asked for times."""

    def __init__(self, partitions: int = 1) -> None:
        self.logs = [Log() for _ in range(partitions)]
        self.now, self.asked, self.is_away = 1, 0, False
        self.open = OpenTransactions(self.fetch_ends, self.fetch_times, lambda: self.now)

    def fetch_ends(self) -> Ends | None:
        return None if self.is_away else {p: log.ends() for p, log in enumerate(self.logs)}

    def fetch_times(self, positions: Mapping[int, int]) -> Mapping[int, datetime]:
        self.asked += 1
        return {
            p: EPOCH + timedelta(microseconds=self.logs[p].times[offset])
            for p, offset in positions.items()
            if offset < len(self.logs[p].times)
        }

    def write(self, partition: int = 0) -> None:
        self.now += 1
        self.logs[partition].times.append(self.now)

    def plan(self) -> dict[int, int]:
        return {p: log.ends()[0] for p, log in enumerate(self.logs)}


def test_where_nothing_waits_nobody_is_asked_when_it_was_sent() -> None:
    topic = Topic()
    for _ in range(5):
        topic.write()
        assert topic.open.find_since(topic.plan()) is None
    planned = topic.plan()
    topic.write()  # between the plan and the look
    assert topic.open.find_since(planned) is None
    assert topic.asked == 0


def test_what_waits_at_the_start_was_sent_when_its_first_record_was() -> None:
    topic = Topic()
    topic.write()
    topic.logs[0].opened_at = 1
    topic.write()
    topic.write()
    for _ in range(3):
        topic.now += 100
        assert topic.open.find_since(topic.plan()) == topic.logs[0].times[1]
    assert topic.asked == 1


def test_what_waits_since_a_look_was_sent_after_it_and_is_held_until_it_is_read() -> None:
    topic = Topic()
    topic.write()
    looked_at = topic.now
    assert topic.open.find_since(topic.plan()) is None
    topic.logs[0].opened_at = 1
    topic.write()
    assert topic.open.find_since(topic.plan()) == looked_at
    planned = topic.plan()
    topic.logs[0].opened_at = None  # ends between the plan and the look
    topic.now += 100
    assert topic.open.find_since(planned) == looked_at
    assert topic.open.find_since(topic.plan()) is None
    assert topic.asked == 0


def test_transactions_one_after_the_other_let_time_go_on() -> None:
    topic = Topic()
    for _ in range(50):
        begun, topic.logs[0].opened_at = topic.now, len(topic.logs[0].times)
        topic.write()
        since = topic.open.find_since(topic.plan())
        assert since is not None and since >= begun
    assert len(topic.open._looks) <= 3


def test_while_kafka_does_not_answer_nobody_can_say() -> None:
    topic = Topic()
    topic.is_away = True
    assert topic.open.find_since({0: 0}) == 0


@given(st.lists(st.tuples(st.sampled_from(["write", "open", "end", "batch", "stale batch"]), st.integers(0, 1))))
def test_nothing_that_a_batch_leaves_behind_was_sent_before_the_time_that_is_found(
    steps: list[tuple[str, int]],
) -> None:
    """A stale batch is planned, and things happen in both partitions before the look."""
    topic, last_look = Topic(2), 1
    topic.open.find_since(topic.plan())
    for step, partition in steps:
        log = topic.logs[partition]
        topic.now += 1
        if step == "write":
            topic.write(partition)
        elif step == "open" and log.opened_at is None:
            log.opened_at = len(log.times)
            topic.write(partition)
        elif step == "end":
            log.opened_at = None
        elif step.endswith("batch"):
            planned, at = topic.plan(), topic.now
            if step == "stale batch":
                topic.write(partition)
                log.opened_at = None
            since = topic.open.find_since(planned)
            left = [t for p, until in planned.items() for t in topic.logs[p].times[until:] if t <= at]
            # A transaction that no look has seen leaves what was sent since the last one.
            assert all(t >= (last_look if since is None else since) for t in left)
            last_look = topic.now
