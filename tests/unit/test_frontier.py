"""The frontier never passes a record that was on time when it was sent, however partitions and batches are cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.streaming.frontier import Frontier

HOUR = 3_600_000_000
MINUTE = HOUR // 60
DAY = 24 * HOUR


def advance(
    before: Frontier, rows: list[tuple[int, int, int]], arrival: int, unread: set[int] | None = None,
    held_since: int | None = None,
) -> Frontier:  # fmt: skip
    """`rows` are (Kafka partition, event time, time of sending), each of a sender of its own."""
    partitions, events, sent = (np.array([row[n] for row in rows], dtype=np.int64) for n in range(3))
    return before.advance(partitions, events, sent, arrival, unread or set(), np.arange(len(rows)), held_since)


def test_the_latest_event_counts_when_everything_is_read() -> None:
    found = advance(Frontier(), [(0, HOUR, HOUR), (1, 2 * HOUR, 2 * HOUR)], arrival=3 * HOUR)
    assert (found.micros, found.partitions, found.latest_event) == (2 * HOUR, {0: HOUR, 1: 2 * HOUR}, 2 * HOUR)


def test_an_event_dated_a_little_ahead_counts_as_when_it_was_sent() -> None:
    assert advance(Frontier(), [(0, HOUR + 5 * MINUTE, HOUR)], arrival=2 * HOUR).micros == HOUR
    assert advance(Frontier(), [(0, HOUR + 5 * MINUTE, 2 * HOUR)], arrival=HOUR).micros == HOUR


def test_an_event_dated_far_ahead_does_not_count() -> None:
    found = advance(Frontier(), [(0, HOUR, HOUR), (0, 5 * HOUR, 2 * HOUR)], arrival=4 * HOUR)
    assert (found.micros, found.latest_event) == (HOUR, 5 * HOUR)
    assert advance(Frontier(), [(0, HOUR + 5 * MINUTE + 1, HOUR)], arrival=DAY).micros is None


def test_a_kafka_timestamp_that_nobody_set_does_not_hold_the_frontier_back() -> None:
    assert advance(Frontier(), [(0, 2 * DAY, -1)], arrival=3 * DAY).micros == 2 * DAY


def test_a_cut_backlog_goes_by_the_partition_that_is_furthest_behind() -> None:
    first = advance(Frontier(), [(0, 9 * HOUR, 9 * HOUR), (1, HOUR, HOUR)], arrival=DAY, unread={0, 1})
    assert first.micros == HOUR
    second = advance(first, [(1, 2 * HOUR, 2 * HOUR)], arrival=DAY, unread={1})
    assert second.micros == 2 * HOUR  # partition 0 is read to its end and holds nothing back


def test_a_partition_whose_rows_were_all_rejected_holds_the_frontier() -> None:
    assert advance(Frontier(HOUR), [(0, 9 * HOUR, 9 * HOUR)], arrival=DAY, unread={0, 1}).micros == HOUR


def test_what_waits_behind_an_open_transaction_holds_the_frontier_where_it_was_sent() -> None:
    rows = [(0, 9 * HOUR, 9 * HOUR)]
    assert advance(Frontier(HOUR), rows, arrival=DAY, held_since=3 * HOUR).micros == 3 * HOUR
    assert advance(Frontier(5 * HOUR), rows, arrival=DAY, held_since=3 * HOUR).micros == 5 * HOUR
    assert advance(Frontier(), rows, arrival=DAY, held_since=10 * HOUR).micros == 9 * HOUR
    assert advance(Frontier(), rows, arrival=DAY, held_since=0).micros is None


def test_the_frontier_never_goes_back_and_survives_the_commit() -> None:
    found = advance(Frontier(5 * HOUR, {0: 5 * HOUR}, 6 * HOUR), [(0, HOUR, HOUR)], arrival=DAY)
    assert (found.micros, found.partitions, found.latest_event) == (5 * HOUR, {0: 5 * HOUR}, 6 * HOUR)
    assert Frontier.parse(found.as_json()) == found
    assert found.mark(HOUR) == found
    assert found.mark(7 * HOUR).micros == 7 * HOUR
    assert Frontier.parse({}) == Frontier()


@dataclass(frozen=True)
class Sent:
    """One record: where it lies, when it happened and when it was sent."""

    partition: int
    event: int
    sent: int


@st.composite
def sent_on_time(draw: st.DrawFn) -> tuple[list[Sent], int]:
    """Records of three partitions, each at most `delay` late when it was sent; some are dated ahead."""
    delay = draw(st.integers(0, 100))
    now, records = 1_000, []
    for _ in range(draw(st.integers(1, 40))):
        now += draw(st.integers(0, 50))
        ahead = draw(st.sampled_from([0, 0, 0, 400, 5 * MINUTE]))
        records.append(Sent(draw(st.integers(0, 2)), now + ahead - draw(st.integers(0, delay)), now))
    return records, delay


@given(sent_on_time(), st.data())
def test_whatever_is_read_later_is_no_more_late_than_it_was_when_sent(
    case: tuple[list[Sent], int], data: st.DataObject
) -> None:
    records, delay = case
    logs = {partition: [r for r in records if r.partition == partition] for partition in range(3)}
    frontier, arrival = Frontier(), 0
    while any(logs.values()):
        arrival = max(arrival, data.draw(st.integers(records[0].sent, records[-1].sent + 100)))
        visible = {p: [r for r in log if r.sent <= arrival] for p, log in logs.items()}
        taken = {p: seen[: data.draw(st.integers(1, len(seen)))] if seen else [] for p, seen in visible.items()}
        batch = [r for rows in taken.values() for r in rows]
        for r in batch:
            assert frontier.micros is None or r.event >= frontier.micros - delay
        is_cut = sum(map(len, taken.values())) < sum(map(len, visible.values()))
        unread = {p for p, rows in taken.items() if rows} if is_cut else set()
        frontier = advance(frontier, [(r.partition, r.event, r.sent) for r in batch], arrival, unread)
        logs = {p: log[len(taken[p]) :] for p, log in logs.items()}
        if not batch:
            arrival = records[-1].sent
