"""Alerts over real Delta tables: opened and closed once, whatever is killed, cut, rewritten or made anew."""

from __future__ import annotations

import logging
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable

from platform_assets.alerting import alert_follower, alert_table, positions
from platform_assets.alerting.alert_group import AlertGroup
from platform_assets.errors import GroupOwnedError, QueryFailedError
from platform_assets.tables.platform import ALERT_POSITIONS
from tests.unit.alerting.raised_table import HOT, NOON, TABLE, RaisedTable, build_row

ROOT = Path(__file__).parents[3]


def wait_for(is_true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not is_true():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def test_an_alert_opens_once_goes_on_and_closes(raised: RaisedTable) -> None:
    raised.create()
    follower = raised.build()
    raised.follow(follower)
    raised.append([build_row("a", 31.0, 1, "ann"), build_row("a", 33.0, 2, "bob"), build_row("b", 29.0, 1)])
    raised.follow(follower)
    [opened] = raised.read()
    assert opened["text"] == "a has 31.0 degrees" and opened["user_id"] == "ann" and opened["rows"] == 2
    assert opened["event_time"] == NOON + timedelta(minutes=1)
    assert (opened["severity"], opened["owner"], opened["source_table"]) == ("warning", "house", TABLE.name)
    assert opened["source_version"] == 1 and opened["at"] >= opened["raised_at"]
    raised.append([build_row("a", 30.0, 3), build_row("b", 40.0, 3)])
    raised.follow(follower)
    raised.append([build_row("a", 20.0, 4)])
    raised.follow(follower)
    assert raised.read_short() == [("a", "opened", 2), ("a", "repeated", 1), ("a", "closed", 0), ("b", "opened", 1)]
    assert (follower.opened, follower.closed, follower.version) == (2, 1, 3)


def test_a_late_row_of_before_closes_nothing(raised: RaisedTable) -> None:
    raised.create()
    follower = raised.build()
    raised.follow(follower)
    raised.append([build_row("a", 31.0, 10)])
    raised.follow(follower)
    raised.append([build_row("a", 20.0, 9)])
    # Another host knows when it was, too.
    again = raised.build()
    raised.follow(again)
    assert raised.read_short() == [("a", "opened", 1)]
    raised.append([build_row("a", 20.0, 11)])
    raised.follow(again)
    assert raised.read_short() == [("a", "opened", 1), ("a", "closed", 0)]


def test_what_is_there_before_it_begins_raises_nothing_and_what_comes_with_a_new_table_does(
    raised: RaisedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(positions, "_ABSENT_SECONDS", 0.0)
    early = raised.build(replace(HOT, name="early"))
    assert not early.advance() and early.version is None
    raised.append([build_row("a", 31.0)])
    raised.follow(early)
    late = raised.build()
    raised.follow(late)
    assert [row["alert"] for row in raised.read()] == ["early"]
    assert late.version == early.version == 1


def test_rows_that_are_rewritten_compacted_or_erased_raise_nothing(raised: RaisedTable) -> None:
    raised.create()
    follower = raised.build()
    raised.follow(follower)
    raised.append([build_row("a", 31.0, 1), build_row("c", 10.0, 1)])
    raised.append([build_row("b", 32.0, 2)])
    raised.follow(follower)
    DeltaTable(raised.uri).optimize.compact()
    raised.delete("sensor = 'c'")
    raised.delete("sensor = 'b'")
    raised.follow(follower)
    assert raised.read_short() == [("a", "opened", 1), ("b", "opened", 1)]
    assert follower.version == DeltaTable(raised.uri).version()


def test_silence_closes_it_and_a_cool_down_keeps_it_closed(
    raised: RaisedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_follower, "_QUIET_SECONDS", 0.0)
    raised.create()
    follower = raised.build(replace(HOT, over="", quiet=timedelta(seconds=1), cool_down=timedelta(hours=1)))
    raised.follow(follower)
    raised.append([build_row("a", 31.0, 1)])
    raised.follow(follower)
    wait_for(lambda: not follower.advance() and len(raised.read()) == 2, "closed by silence")
    raised.append([build_row("a", 35.0, 2)])
    raised.follow(follower)
    # Another host knows of the cool-down too.
    again = raised.build(replace(HOT, over="", quiet=timedelta(seconds=1), cool_down=timedelta(hours=1)))
    raised.append([build_row("a", 36.0, 3)])
    raised.follow(again)
    assert raised.read_short() == [("a", "opened", 1), ("a", "closed", 0)]


def test_one_that_goes_on_elsewhere_writes_nothing_twice(raised: RaisedTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its position was noted long before, as if it had been killed: what is written counts, not the position."""
    raised.create()
    first = raised.build()
    raised.follow(first)
    raised.append([build_row("a", 31.0, 1)])
    raised.follow(first)
    raised.append([build_row("a", 20.0, 2)])
    raised.follow(first)
    raised.append([build_row("b", 31.0, 3)])
    second = raised.build()
    raised.follow(second)
    raised.follow(raised.build())
    assert raised.read_short() == [("a", "opened", 1), ("a", "closed", 0), ("b", "opened", 1)]


def test_rows_that_raise_what_is_open_are_counted_exactly(raised: RaisedTable, monkeypatch: pytest.MonkeyPatch) -> None:
    raised.create()
    follower = raised.build()
    raised.follow(follower)
    for minute in range(6):
        raised.append([build_row("a", 31.0, minute)] * 2)
        if minute == 3:
            follower = raised.build()  # killed: rows of the versions since the last commit are read again
        raised.follow(follower)
    monkeypatch.setattr(alert_follower, "_FLUSH_SECONDS", -1.0)
    raised.follow(follower)
    assert raised.read_short() == [("a", "opened", 2), ("a", "repeated", 10)]


def test_a_log_that_was_cut_is_passed_and_the_rows_since_are_looked_at(
    raised: RaisedTable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(positions, "_NOTE_SECONDS", 0.0)
    raised.append([build_row("old", 50.0, 1)])
    raised.follow(raised.build())
    start = raised.lakehouse.find_table(ALERT_POSITIONS.name)
    assert start is not None
    committed_at = start.to_pyarrow_table()["committed_at"][0].as_py()
    now = int((committed_at - NOON).total_seconds() / 60) + 1
    raised.append([build_row("a", 31.0, now)])
    raised.append([build_row("b", 29.0, now), build_row("older", 60.0, 2)])
    table = DeltaTable(raised.uri)
    table.create_checkpoint()
    for version in range(table.version()):
        Path(raised.uri, "_delta_log", f"{version:020}.json").unlink()
    with caplog.at_level(logging.WARNING):
        follower = raised.build()
        raised.follow(follower)
    assert raised.read_short() == [("a", "opened", 1)]
    assert "no longer holds version" in caplog.text and "It looks at the rows since" in caplog.text
    raised.append([build_row("b", 30.0, now)])
    raised.follow(follower)
    assert raised.read_short() == [("a", "opened", 1), ("b", "opened", 1)]


def test_a_table_that_was_made_anew_is_followed_from_there(raised: RaisedTable) -> None:
    for minute in range(5):
        raised.append([build_row("a", 20.0, minute)])
    follower = raised.build()
    raised.follow(follower)
    raised.append([build_row("a", 31.0, 6)])
    raised.follow(follower)
    shutil.rmtree(raised.uri)
    raised.create()
    follower = raised.build()
    raised.follow(follower)
    # Its versions are lower than those that were looked at before.
    raised.append([build_row("c", 31.0, 7)])
    raised.follow(follower)
    assert raised.read_short() == [("a", "opened", 1), ("c", "opened", 1)]


def test_who_has_lost_the_lease_writes_nothing(tmp_path: Path) -> None:
    held = [True]

    def check_lease() -> None:
        if not held[0]:
            raise GroupOwnedError("another host has it")

    raised = RaisedTable(tmp_path / "home", check_lease)
    raised.create()
    follower = raised.build()
    raised.follow(follower)
    held[0] = False
    raised.append([build_row("a", 31.0)])
    with pytest.raises(GroupOwnedError):
        raised.follow(follower)
    assert raised.read() == []


def test_a_commit_that_fails_is_made_by_the_next_call(raised: RaisedTable, monkeypatch: pytest.MonkeyPatch) -> None:
    raised.create()
    follower = raised.build()
    raised.follow(follower)
    raised.append([build_row("a", 31.0)])

    def fail(*_: object) -> None:
        raise QueryFailedError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(alert_table, "append_transitions", fail)
        with pytest.raises(QueryFailedError):
            follower.advance()
    follower.close()
    raised.follow(follower)
    assert raised.read_short() == [("a", "opened", 1)]


def test_an_alert_that_cannot_be_computed_disturbs_no_other_one(
    raised: RaisedTable, caplog: pytest.LogCaptureFixture
) -> None:
    raised.create()
    bad = replace(HOT, name="bad", condition="sensor::INT > 3")
    group = AlertGroup([HOT, bad], [], raised.settings, raised.lakehouse)
    group.start()
    try:
        wait_for(lambda: all(each.table_versions for each in group.progress().values()), "both have begun")
        raised.append([build_row("a", 31.0)])
        wait_for(lambda: len(raised.read()) == 1, "the other one has opened")
        troubles = {name: each.alerts.trouble for name, each in group.progress().items() if each.alerts}
        wait_for(lambda: bool(group.progress()["alert_bad"].alerts.trouble), "it is said")  # type: ignore[union-attr]
        assert not troubles["alert_too_hot"] and group.failure() is None
    finally:
        group.stop(10.0)
    said = [line for line in caplog.messages if line.startswith("The alert bad stands still.")]
    assert len(said) == 1 and "Could not convert string 'a' to INT32" in said[0]


@pytest.mark.long
def test_a_host_that_is_killed_again_and_again_opens_and_closes_each_once(raised: RaisedTable, tmp_path: Path) -> None:
    raised.create()
    command = [sys.executable, "-m", "tests.unit.alerting.alert_process", str(raised.settings.home)]
    pick = random.Random(7)
    expected: dict[str, int] = {}
    for turn in range(6):
        with subprocess.Popen(command, cwd=ROOT) as host:
            try:
                before = len(raised.read())
                if turn == 0:
                    wait_for(lambda: raised.lakehouse.find_table(ALERT_POSITIONS.name) is not None, "it has begun")
                for step in range(5):
                    key, rows = f"k{turn}-{step}", pick.randint(1, 4)
                    raised.append([build_row(key, 31.0, 10 * step)] * rows)
                    if step % 2:
                        raised.append([build_row(key, 20.0, 10 * step + 1)])
                    expected[key] = rows
                wait_for(lambda before=before: len(raised.read()) > before, "it has written")  # type: ignore[misc]
                time.sleep(pick.random())  # the kill comes anywhere
            finally:
                host.kill()
    raised.follow(raised.build())
    written = raised.read()
    by_key = {key: [row for row in written if row["key"] == key] for key in expected}
    assert {key: sum(row["rows"] for row in found) for key, found in by_key.items()} == expected
    for key, found in by_key.items():
        kinds = sorted(row["transition"] for row in found)
        assert kinds == (["closed", "opened"] if int(key[-1]) % 2 else ["opened"]), key
