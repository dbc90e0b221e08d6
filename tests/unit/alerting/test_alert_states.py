"""Which alerts are open over random histories, against the rule said in another way; and what an alert may be."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.alerting.alert_states import THE_OTHERS, AlertStates, Transition
from platform_assets.alerting.raised_rows import Raised
from platform_assets.alerts import load_alerts
from platform_assets.errors import CatalogueError
from tests.unit.alerting.raised_table import HOT, NOON

QUIET, COOL_DOWN = timedelta(minutes=10), timedelta(minutes=7)
SPEC = replace(HOT, quiet=QUIET, cool_down=COOL_DOWN)


def say(key: str, rows: int = 1, *, is_over: bool = False) -> Raised:
    return Raised(key, rows, f"{key} is hot", "someone", NOON, is_over)


_steps = st.lists(
    st.tuples(
        st.integers(1, 6),
        st.dictionaries(st.sampled_from("abc"), st.tuples(st.integers(0, 3), st.booleans()), max_size=3),
    ),
    max_size=25,
)


@given(_steps)
def test_each_key_opens_goes_on_and_closes_by_the_rule(steps: list[tuple[int, dict[str, tuple[int, bool]]]]) -> None:
    states, written = AlertStates(SPEC), list[tuple[Transition, int]]()
    minute = 0
    for version, (pause, said) in enumerate(steps):
        minute += pause
        now = NOON + timedelta(minutes=minute)
        raised = [say(key, rows, is_over=over or not rows) for key, (rows, over) in sorted(said.items())]
        # Time alone is looked at between the commits, as in a quiet table.
        written += [(each, minute) for each in states.close_quiet(now)]
        written += [(each, minute) for each in states.take(raised, version, now)]
    written += [(each, minute) for each in states.flush()]
    for key in "abc":
        found = [
            (each.transition, at) for each, at in written if each.key == key and each.transition in ("opened", "closed")
        ]
        rows = sum(each.rows for each, _ in written if each.key == key)
        assert (found, rows) == _by_minutes(steps, key)
    for _, group in itertools.groupby(sorted(written, key=lambda e: e[0].alert_id), key=lambda e: e[0].alert_id):
        kinds = [each.transition for each, _ in group]
        assert kinds.count("opened") == 1 and kinds.count("closed") <= 1


def _by_minutes(steps: list[tuple[int, dict[str, tuple[int, bool]]]], key: str) -> tuple[list[tuple[str, int]], int]:
    """The rule for one key, with one number for what it knows: until when it is open, or shut."""
    found: list[tuple[str, int]] = []
    minute, last_raised, closed, total = 0, None, -100, 0
    for pause, said in steps:
        minute += pause
        if last_raised is not None and minute - last_raised >= 10:
            found.append(("closed", minute))
            last_raised, closed = None, minute
        rows, over = said.get(key, (0, False))
        if rows and (last_raised is not None or minute - closed >= 7):
            if last_raised is None:
                found.append(("opened", minute))
            last_raised, total = minute, total + rows
        if key in said and (over or not rows) and last_raised is not None:
            found.append(("closed", minute))
            last_raised, closed = None, minute
    return found, total


def test_what_is_open_is_bounded_and_the_rest_is_one_alert_more() -> None:
    states = AlertStates(SPEC, most_open=3)
    opened = list(states.take([say(f"k{number}", 2) for number in range(10)], 7, NOON))
    assert [(each.key, each.rows) for each in opened] == [("k0", 2), ("k1", 2), ("k2", 2), (THE_OTHERS, 2)]
    assert opened[3].text == "3 alerts too_hot are open: those of all further keys are this one."
    assert opened[3].user is None
    assert [(each.key, each.rows) for each in states.flush()] == [(THE_OTHERS, 12)]
    # A key of the others says that it is over: that ends nothing, for the others may go on.
    assert list(states.take([say("k8", 0, is_over=True)], 8, NOON)) == []
    assert len(list(states.close_quiet(NOON + QUIET))) == 4


def test_the_same_rows_make_the_same_alert() -> None:
    first, second = (next(iter(AlertStates(SPEC).take([say("a")], 3, NOON))) for _ in range(2))
    other = next(iter(AlertStates(SPEC).take([say("a")], 4, NOON)))
    assert first.alert_id == second.alert_id != other.alert_id


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"over": "", "quiet": None}, "would never close: give it `over`, `quiet` or both"),
        ({"name": "Too Hot"}, "its name must be lower-case"),
        ({"quiet": timedelta(0)}, "`quiet` must be longer than nothing"),
        ({"cool_down": timedelta(seconds=-1)}, "`cool_down` cannot be negative"),
        ({"time_column": "moment"}, "gold.temperatures has no column moment"),
    ],
)
def test_what_is_no_alert_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(CatalogueError, match=says):
        replace(HOT, **change)


def test_the_files_that_ship_are_alerts_of_their_names() -> None:
    assert [alert.name for alert in load_alerts()] == [
        "break_in_suspected", "events_refused", "fraud_suspected", "network_threat", "patient_at_risk",
        "sensor_anomaly",
    ]  # fmt: skip
