"""What is done to what a run lives on: broker, disk, database, checkpoint.

Each strikes, waits for the promised reaction, and raises `ChaosError` where it does not come.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

from jobs.supervision.model import ExitKind, Phase, StopCause
from tests.chaos.fault import demand, say
from tests.chaos.live_platform import LivePlatform

# Long enough for a producer and Spark to notice, short of every limit.
_SHORT_OUTAGE_SECONDS = 20.0
MIB = 1024 * 1024


def fill_disk(platform: LivePlatform) -> None:
    """The disk has less free than the platform wants: it stops while there is room to, until there is more."""
    host, filler = platform.await_healthy(), platform.settings.home / "filler"
    limit = platform.settings.min_free_mib * MIB
    try:
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(filler.parent).free - limit + MIB)
        platform.await_held(Phase.NEEDS_ATTENTION)
    finally:
        filler.unlink()
    say(platform, "resume")
    platform.await_host(host.run_id)


def stick(platform: LivePlatform) -> None:
    """A commit hangs until its query counts as stuck, and then goes through."""
    host = platform.await_healthy()
    with platform.crash_point("before", "silver.events", "hang"):
        platform.wait_for(lambda: platform.watch.phase is Phase.STOPPING, "the stuck run is stopped")
    platform.await_host(host.run_id)
    (run,) = (run for run in platform.runs() if run.run_id == host.run_id)
    demand(run.stop_cause is StopCause.STUCK, f"the run was stopped as {run.stop_cause}")


def freeze_broker(platform: LivePlatform) -> None:
    host, state = platform.await_healthy(), platform.broker.state()
    assert state is not None
    os.kill(state.jvm.pid, signal.SIGSTOP)
    time.sleep(_SHORT_OUTAGE_SECONDS)
    os.kill(state.jvm.pid, signal.SIGCONT)
    demand(platform.await_healthy().run_id == host.run_id, "the run was replaced")


def freeze_broker_for_long(platform: LivePlatform) -> None:
    """Freezes the broker until several runs have failed: the streams come back when it does, without a person."""
    host, state = platform.await_healthy(), platform.broker.state()
    assert state is not None
    os.kill(state.jvm.pid, signal.SIGSTOP)
    try:
        platform.wait_for(lambda: platform.watch.phase is Phase.BACKOFF, "the group waits for the broker")
    finally:
        os.kill(state.jvm.pid, signal.SIGCONT)
    back = platform.await_host(host.run_id)
    platform.open_shop()
    failed = next(run for run in platform.runs() if run.run_id != back.run_id)
    demand(failed.exit_kind is ExitKind.UNAVAILABLE, f"the last run without a broker left as {failed.exit_kind}")


def kill_broker(platform: LivePlatform) -> None:
    host, state = platform.await_healthy(), platform.broker.state()
    assert state is not None
    os.kill(state.jvm.pid, signal.SIGKILL)
    platform.wait_for(lambda: (now := platform.broker.state()) is not None and now.jvm != state.jvm, "a broker")
    demand(platform.await_healthy().run_id == host.run_id, "the run was replaced")


def lock_database(platform: LivePlatform) -> None:
    host = platform.await_healthy()
    platform.lock_database(_SHORT_OUTAGE_SECONDS)
    demand(platform.await_healthy().run_id == host.run_id, "the run was replaced")


def lose_checkpoint(platform: LivePlatform) -> None:
    """A derived stream with rows and no checkpoint is refused, and not tried again until the checkpoint is back."""
    host = platform.await_healthy()
    say(platform, "pause")
    platform.wait_for(lambda: platform.watch.phase is Phase.HELD_OPERATOR, "the group is held")
    checkpoint = Path(platform.settings.lakehouse, "_checkpoints", "gold", "revenue_by_category")
    away = checkpoint.with_name("away")
    checkpoint.rename(away)
    say(platform, "resume")
    platform.await_held(Phase.NEEDS_ATTENTION)
    away.rename(checkpoint)
    say(platform, "resume")
    platform.await_host(host.run_id)
