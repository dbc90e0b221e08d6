"""Wrong clocks and late senders: what is the rule moves time, or holds it back; what one device says does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.streaming.frontier import Frontier

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
NOON = 20_000 * DAY + 12 * HOUR


def send(
    before: Frontier, arrival: int, leads: list[int], *, sender: int | None = None, partition: int = 0
) -> Frontier:
    """One batch: an event for each lead (how much later than sent it is dated), of a sender each or of one."""
    sent = np.full(len(leads), arrival, dtype=np.int64)
    numbers = np.arange(len(leads)) if sender is None else np.full(len(leads), sender)
    return before.advance(
        np.full(len(leads), partition, dtype=np.int64), sent + np.array(leads, dtype=np.int64), sent, arrival, set(),
        numbers,
    )  # fmt: skip


def trade(frontier: Frontier, start: int, minutes: int, lead: int, senders: int = 20) -> Frontier:
    """A shop whose `senders` each send an event a minute, all with the same clock."""
    for minute in range(minutes):
        frontier = send(frontier, start + minute * MINUTE, [lead] * senders)
    return frontier


@pytest.mark.parametrize("lead", [6 * MINUTE, 2 * HOUR, 9 * HOUR])
def test_where_all_are_ahead_the_frontier_follows_the_time_of_sending(lead: int) -> None:
    assert send(Frontier(), NOON, [lead] * 50).micros == NOON
    assert trade(Frontier(), NOON, 60, lead).micros == NOON + 59 * MINUTE


def test_a_partition_of_its_own_may_be_ahead() -> None:
    frontier = trade(Frontier(), NOON, 10, 0)
    ahead = send(frontier, NOON + HOUR, [2 * HOUR] * 10, partition=1)
    assert ahead.clocks.is_ahead(1) and not ahead.clocks.is_ahead(0)
    assert ahead.micros == NOON + HOUR


def test_one_device_that_is_ahead_is_not_the_rule_however_much_it_sends() -> None:
    frontier = trade(Frontier(), NOON, 10, 0)
    for second in range(30):
        frontier = send(frontier, NOON + 10 * MINUTE + second * SECOND, [2 * HOUR] * 1000, sender=1)
    assert not frontier.clocks.is_ahead(0)
    assert frontier.micros == NOON + 9 * MINUTE


def test_clocks_that_are_set_right_are_believed_again() -> None:
    frontier = trade(Frontier(), NOON, 60, 2 * HOUR)
    frontier = trade(frontier, NOON + HOUR, 120, 0)
    assert not frontier.clocks.is_ahead(0)
    assert frontier.micros == NOON + HOUR + 119 * MINUTE
    assert send(frontier, NOON + 4 * HOUR, [3 * HOUR]).micros == frontier.micros


def test_a_silence_of_a_shop_west_of_utc_makes_nothing_late() -> None:
    frontier = trade(Frontier(), NOON, 30, -5 * HOUR)
    silent = NOON + 40 * MINUTE
    assert frontier.mark(silent).micros == silent - 5 * HOUR
    assert trade(frontier.mark(silent), silent, 5, -5 * HOUR).micros == silent - 5 * HOUR + 4 * MINUTE


def test_hourly_uploads_are_not_late_from_the_second_one_on() -> None:
    upload = [-n * MINUTE for n in range(60)]
    frontier = send(send(Frontier(), NOON, upload), NOON + HOUR, upload)
    marked = frontier.mark(NOON + 2 * HOUR - MINUTE)
    assert marked.micros is not None
    late = [lead for lead in upload if NOON + 2 * HOUR + lead < marked.micros - 10 * MINUTE]
    assert not late


def test_stragglers_of_a_punctual_shop_do_not_hold_a_mark_back() -> None:
    frontier = trade(Frontier(), NOON, 60, -SECOND)
    for second in range(0, 600, 10):
        frontier = send(frontier, NOON + HOUR + second * SECOND, [-DAY])
    silent = NOON + 2 * HOUR
    assert frontier.mark(silent).micros == silent


@pytest.mark.parametrize("seconds", [1, 3600])
def test_old_events_that_are_sent_again_are_a_backlog_and_closed_by_the_clock(seconds: int) -> None:
    """A day of old events, in one second or in an hour."""
    frontier, sent = Frontier(), NOON
    for part in range(100):
        sent = NOON + part * seconds * SECOND // 100
        event = NOON - 3 * DAY + part * DAY // 100
        frontier = send(frontier, sent, [event - sent] * 20)
    assert frontier.mark(sent + MINUTE).micros == sent + MINUTE


def test_a_shop_that_is_punctual_again_is_marked_by_the_clock() -> None:
    frontier = trade(trade(Frontier(), NOON, 30, -HOUR), NOON + HOUR, 60, 0)
    silent = NOON + 3 * HOUR
    assert frontier.mark(silent).micros == silent


leads = st.sampled_from([0, -SECOND, -10 * MINUTE, -5 * HOUR, 2 * HOUR, 6 * MINUTE])


@given(st.lists(st.tuples(st.lists(leads, max_size=12), st.integers(1, 10)), max_size=40))
def test_the_frontier_never_goes_back_or_beyond_arrival_and_survives_the_commit(
    batches: list[tuple[list[int], int]],
) -> None:
    frontier, now = Frontier(), NOON
    for found, minutes in batches:
        now += minutes * MINUTE
        before = frontier
        frontier = send(frontier, now, found)
        assert Frontier.parse(frontier.as_json()) == frontier
        assert before.micros is None or (frontier.micros is not None and frontier.micros >= before.micros)
        assert frontier.micros is None or frontier.micros <= now
        marked = frontier.mark(now).micros
        assert marked is not None and marked <= now
