"""A group is paused for work that nobody may disturb, and what was paused before stays paused."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from jobs.supervision.group_lock import read_lock
from jobs.supervision.held_group import hold_group
from jobs.supervision.lease import read_control, write_control
from platform_assets.streaming.stream_spec import StreamGroup
from resources.settings import Settings

GROUP = StreamGroup("clickstream", ())


def hold(tmp_path: Path, instance: dg.DagsterInstance, *, half_done: bool = False) -> None:
    settings = Settings(home=tmp_path, kafka_bootstrap_servers="")
    with hold_group(GROUP, "replay", settings, instance, "a test", "replay of x", lambda: half_done):
        assert read_lock(tmp_path, GROUP.name).owner_mode == "replay"
        assert read_control(instance, GROUP.name).paused
    assert not read_lock(tmp_path, GROUP.name).held


def test_it_is_paused_and_resumed_unless_somebody_had_paused_it(tmp_path: Path) -> None:
    with dg.instance_for_test() as instance:
        hold(tmp_path, instance)
        assert not read_control(instance, GROUP.name).paused
        write_control(instance, GROUP.name, "pause", "ann", "a full disk")
        hold(tmp_path, instance)
        control = read_control(instance, GROUP.name)
        assert (control.paused, control.paused_by, control.pause_reason) == (True, "ann", "a full disk")


def test_what_was_cut_short_stays_paused_until_it_is_done(tmp_path: Path) -> None:
    with dg.instance_for_test() as instance:
        hold(tmp_path, instance, half_done=True)
        assert read_control(instance, GROUP.name).pause_reason == "replay of x"
        with pytest.raises(ZeroDivisionError):
            fail(tmp_path, instance)
        hold(tmp_path, instance)
        assert not read_control(instance, GROUP.name).paused


def fail(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    settings = Settings(home=tmp_path, kafka_bootstrap_servers="")
    with hold_group(GROUP, "replay", settings, instance, "a test", "replay of x", lambda: True):
        raise ZeroDivisionError
