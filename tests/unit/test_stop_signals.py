"""Signals as an event: set whatever the main thread is at, and the former handlers are restored."""

from __future__ import annotations

import signal
import threading

import pytest

from resources.stop_signals import StopSignals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sets_the_event_and_later_handlers_are_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopSignals() as stop:
        signal.raise_signal(number)
        assert stop.received.wait(10)
        signal.raise_signal(number)  # a second one changes nothing
    assert signal.getsignal(number) is before


def test_a_signal_while_the_main_thread_holds_the_events_lock_does_not_block_it() -> None:
    """The signal arrives as within `wait`, whose lock is taken for an instant on the way in and out."""
    with StopSignals() as stop:
        with stop.received._cond:  # type: ignore[attr-defined]
            signal.raise_signal(signal.SIGTERM)
        assert stop.received.wait(10)


def test_handlers_that_a_library_has_replaced_are_put_in_again() -> None:
    with StopSignals() as stop:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        stop.install()
        signal.raise_signal(signal.SIGINT)
        assert stop.received.wait(10)


def test_its_thread_ends_with_it_and_another_thread_needs_none() -> None:
    def names() -> list[str]:
        return [thread.name for thread in threading.enumerate()]

    with StopSignals():
        (thread,) = [thread for thread in threading.enumerate() if thread.name == "stop-signals"]
    thread.join(10)
    assert not thread.is_alive()
    seen: list[list[str]] = []

    def enter() -> None:
        with StopSignals() as stop:
            seen.append(names())
            assert not stop.received.is_set()

    other = threading.Thread(target=enter)
    other.start()
    other.join(10)
    assert seen and "stop-signals" not in seen[0]
