"""What is done while tables are written: by the streams, by a replay, by an erasure.

Each strikes, waits for the promised reaction, and raises `ChaosError` where it does not come.
"""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

from jobs.supervision.group_lock import read_lock
from jobs.supervision.model import Phase
from resources.processes import is_alive
from tests.chaos.fault import Fault, demand
from tests.chaos.live_platform import LIMIT_SECONDS, LivePlatform

# From the first row that is taken out to the last.
_ERASING_SECONDS = 4.0
_REPLAYED = "gold.sessions"
_LOST_OFFSETS = 5_000


def replay(platform: LivePlatform) -> None:
    """A table is recomputed while the live stream runs, and put in its place."""
    host = platform.await_healthy()
    _swap(platform)
    platform.await_host(host.run_id)


def kill_replay(platform: LivePlatform) -> None:
    """It dies between the rows and the state of its swap; called again it finishes that."""
    host, home = platform.await_healthy(), platform.settings.home
    replay = platform.start_command("replay", _REPLAYED.split(".")[1], "--swap", "--because", "a test")
    platform.wait_for(lambda: read_lock(home, platform.group.name).owner_mode == "replay", "the replay holds the group")
    with platform.crash_point("after", f"lakehouse/{_REPLAYED}"):  # now it alone writes there
        code = replay.wait(LIMIT_SECONDS)
    demand(code == -signal.SIGKILL, f"the replay ended with {code}")
    _await_paused(platform, _REPLAYED.split(".")[1])
    _swap(platform)
    platform.await_host(host.run_id)


def kill_rehearsal(platform: LivePlatform) -> None:
    """It dies while it reads and the live stream goes on; called again it finds no difference."""
    name = _REPLAYED.split(".")[1]
    host = platform.await_healthy()
    shadow = Path(platform.settings.lakehouse, "_replays", f"{name}.rehearsal", *_REPLAYED.split("."))
    platform.wait_for(lambda: platform.tables.read_complete_until(name), "something is final")
    rehearsal = platform.start_command("replay", name, "--rehearse")
    platform.wait_for(shadow.exists, "it writes")
    rehearsal.kill()
    rehearsal.wait()
    _await_dead(platform, name)
    done = platform.run("replay", name, "--rehearse")
    demand(
        done.returncode == 0 and "0 added, 0 missing, 0 changed" in done.stdout, f"it said: {done.stdout}{done.stderr}"
    )
    now = platform.host()
    demand(now is not None and now.run_id == host.run_id, "the live stream did not go on")


def lose_rows_and_kill_replay(platform: LivePlatform) -> None:
    """Rows of silver.events are deleted; their replay from Kafka dies behind its commit, and is finished."""
    host, home = platform.await_healthy(), platform.settings.home
    until = max(platform.tables.read_offsets(0))
    start = max(0, until - _LOST_OFFSETS)
    part = f"{platform.settings.topic}/0/{start}-{until}"
    before = platform.tables.count_in_range(0, start, until)
    platform.wait_for(lambda: platform.tables.delete_range(0, start, until), "rows are deleted")
    demand(platform.tables.count_in_range(0, start, until) == 0 < before, "no row was deleted")
    replay = platform.start_command("replay", "events", "--offsets", part, "--swap", "--because", "a test")
    platform.wait_for(lambda: read_lock(home, platform.group.name).owner_mode == "replay", "the replay holds the group")
    platform.wait_for(lambda: platform.tables.count_in_range(0, start, until), "it has put rows back")
    replay.kill()
    replay.wait()
    _await_paused(platform, "events")
    done = platform.run("replay", "events", "--offsets", part, "--swap", "--because", "a test")
    demand(done.returncode == 0 and "has the replayed rows" in done.stdout, f"it said: {done.stdout}{done.stderr}")
    demand(platform.tables.count_in_range(0, start, until) == before, "not all rows came back")
    platform.await_host(host.run_id)


def forget(platform: LivePlatform) -> None:
    """Somebody asks to be forgotten while the shop is open."""
    host = platform.await_healthy()
    _erase(platform, platform.tables.busiest_user())
    platform.await_host(host.run_id)


def kill_forgetting(platform: LivePlatform) -> None:
    """It dies in its middle; called again it does the rest."""
    host, user = platform.await_healthy(), platform.tables.busiest_user()
    forgetting = platform.start_command("forget-user", user, "--reason", "asked to")
    platform.wait_for(platform.tables.is_erasing, "rows are being taken out")
    time.sleep(random.uniform(0, _ERASING_SECONDS))
    forgetting.kill()
    forgetting.wait()
    _await_paused(platform, "sessions")
    _erase(platform, user)
    platform.await_host(host.run_id)


def _await_paused(platform: LivePlatform, stream: str) -> None:
    """The group stays held by the dead replay of `stream`, whose JVM dies too."""
    platform.wait_for(lambda: platform.watch.phase is Phase.HELD_OPERATOR, "the group stays paused")
    _await_dead(platform, stream)


def _await_dead(platform: LivePlatform, stream: str) -> None:
    home = platform.settings.home
    platform.wait_for(lambda: not read_lock(home, f"replay-{stream}").held, "its JVM is dead")


def _erase(platform: LivePlatform, user: str) -> None:
    done = platform.run("forget-user", user, "--reason", "asked to")
    demand(done.returncode == 0 and "; 0 have the user" in done.stdout, f"it said: {done.stdout}{done.stderr}")


def _swap(platform: LivePlatform) -> None:
    done = platform.run("replay", _REPLAYED.split(".")[1], "--swap", "--because", "a test")
    demand(done.returncode == 0 and "has the replayed rows" in done.stdout, f"it said: {done.stdout}{done.stderr}")


def kill_at(moment: str, table: str) -> Fault:
    """The run's process dies by kill -9 right before or after its next commit to a table."""

    def strike(platform: LivePlatform) -> None:
        host = platform.await_healthy()
        with platform.crash_point(moment, table):
            platform.await_host(host.run_id)
        assert host.jvm is not None
        demand(is_alive(host.jvm) is False, "the dead run's JVM lives next to its successor")

    return Fault(f"killed {moment} a commit to {table}", strike, (Phase.LAUNCHING, Phase.RUNNING))
