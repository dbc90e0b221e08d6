"""The failure table, row by row: what is done to the platform, and what it must do about it.

Each fault is a function that strikes, waits for the promised reaction, and raises `ChaosError` where it does not come.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from jobs.supervision.group_lock import read_lock
from jobs.supervision.model import ExitKind, Phase, StopCause
from jobs.supervision.process import is_alive, kill
from tests.chaos.live_platform import LIMIT_SECONDS, ROOT, ChaosError, LivePlatform

# Long enough for a producer and Spark to notice, short of every limit.
_SHORT_OUTAGE_SECONDS = 20.0
# Two daemons launch one run twice within a few of these ticks, if they ever do.
_TWO_DAEMONS_SECONDS = 30.0
_UNSEEN_SECONDS = 15.0
# Past suspicion (60 s), short of being killed (another 75 s each for being asked and cancelled).
_SLEEP_SECONDS = 90.0
# From the first row that is taken out to the last.
_ERASING_SECONDS = 4.0
MIB = 1024 * 1024
_REPLAYED = "gold.sessions"


@dataclass(frozen=True)
class Fault:
    """One row. `shows` are the phases that the supervisor must show, in this order, others between them."""

    name: str
    strike: Callable[[LivePlatform], None]
    shows: tuple[Phase, ...]


def _kill_run(platform: LivePlatform) -> None:
    host = platform.await_healthy()
    kill(host.process)
    platform.await_host(host.run_id)


def _kill_jvm(platform: LivePlatform) -> None:
    host = platform.await_healthy()
    assert host.jvm is not None
    kill(host.jvm)
    platform.await_host(host.run_id)
    run = next(run for run in platform.runs() if run.run_id == host.run_id)
    _demand(run.status == "failure" and "JVM" in run.exit_reason, f"it ended {run.status}: {run.exit_reason}")
    _demand(platform.runs()[1].run_id == host.run_id, "it has more than one successor")


def _kill_workers(platform: LivePlatform) -> None:
    host = platform.await_healthy()
    for worker in platform.workers(host):
        worker.kill()
    platform.await_host(host.run_id)


def _freeze_run(platform: LivePlatform) -> None:
    """The process sleeps for good: it is suspected, asked, cancelled and killed."""
    host = platform.await_healthy()
    os.kill(host.process.pid, signal.SIGSTOP)
    platform.await_host(host.run_id)


def _freeze_jvm(platform: LivePlatform) -> None:
    """The run's process waits for it, and what is left of the run keeps the lock until it is killed too."""
    host = platform.await_healthy()
    assert host.jvm is not None
    os.kill(host.jvm.pid, signal.SIGSTOP)
    platform.await_host(host.run_id)


def _freeze_run_and_wake_it(platform: LivePlatform) -> None:
    """Suspicion ends when the heart beats again: nothing is restarted."""
    host = platform.await_healthy()
    os.kill(host.process.pid, signal.SIGSTOP)
    platform.wait_for(lambda: platform.watch.phase is Phase.SUSPECT, "the run is suspect")
    os.kill(host.process.pid, signal.SIGCONT)
    platform.wait_for(lambda: platform.watch.phase is Phase.RUNNING, "the run is trusted again")
    _demand(platform.host() is not None and platform.await_healthy().run_id == host.run_id, "the run was replaced")


def _freeze_all_and_wake_them(platform: LivePlatform) -> None:
    """Process and JVM sleep for longer than suspicion lasts: when they wake they find that they are to stop."""
    host = platform.await_healthy()
    assert host.jvm is not None
    for process in (host.process, host.jvm):
        os.kill(process.pid, signal.SIGSTOP)
    time.sleep(_SLEEP_SECONDS)
    for process in (host.process, host.jvm):
        os.kill(process.pid, signal.SIGCONT)
    platform.await_host(host.run_id)


def _fill_disk(platform: LivePlatform) -> None:
    """The disk has less free than the platform wants: it stops while there is room to, until there is more."""
    host, filler = platform.await_healthy(), platform.settings.home / "filler"
    limit = platform.settings.min_free_mib * MIB
    try:
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(filler.parent).free - limit + MIB)
        platform.await_held(Phase.NEEDS_ATTENTION)
    finally:
        filler.unlink()
    _say(platform, "resume")
    platform.await_host(host.run_id)


def _stick(platform: LivePlatform) -> None:
    """The broker is frozen until the query that waits for it counts as stuck."""
    host, state = platform.await_healthy(), platform.broker.state()
    assert state is not None
    os.kill(state.jvm.pid, signal.SIGSTOP)
    try:
        platform.wait_for(lambda: platform.watch.phase is Phase.STOPPING, "the stuck run is stopped")
    finally:
        os.kill(state.jvm.pid, signal.SIGCONT)
    platform.await_host(host.run_id)
    platform.open_shop()
    (run,) = (run for run in platform.runs() if run.run_id == host.run_id)
    _demand(run.stop_cause is StopCause.STUCK, f"the run was stopped as {run.stop_cause}")


def _freeze_broker(platform: LivePlatform) -> None:
    host, state = platform.await_healthy(), platform.broker.state()
    assert state is not None
    os.kill(state.jvm.pid, signal.SIGSTOP)
    time.sleep(_SHORT_OUTAGE_SECONDS)
    os.kill(state.jvm.pid, signal.SIGCONT)
    _demand(platform.await_healthy().run_id == host.run_id, "the run was replaced")


def _kill_broker(platform: LivePlatform) -> None:
    host, state = platform.await_healthy(), platform.broker.state()
    assert state is not None
    os.kill(state.jvm.pid, signal.SIGKILL)
    platform.wait_for(lambda: (now := platform.broker.state()) is not None and now.jvm != state.jvm, "a broker")
    _demand(platform.await_healthy().run_id == host.run_id, "the run was replaced")


def _interrupt_run(platform: LivePlatform) -> None:
    host = platform.await_healthy()
    os.kill(host.process.pid, signal.SIGTERM)
    platform.await_host(host.run_id)
    (run,) = (run for run in platform.runs() if run.run_id == host.run_id)
    _demand((run.status, run.exit_kind) == ("success", ExitKind.INTERRUPTED), f"it ended {run.status}")


def _terminate_run(platform: LivePlatform) -> None:
    host = platform.await_healthy()
    platform.instance.run_coordinator.cancel_run(host.run_id)
    platform.await_held(Phase.HELD_OPERATOR)
    _demand(is_alive(host.process) is False, "the terminated process lives")
    _say(platform, "resume")
    platform.await_host(host.run_id)


def _report_failed(platform: LivePlatform) -> None:
    """Dagster calls the run failed while its process lives, as its monitor does when it loses sight of it."""
    host = platform.await_healthy()
    run = platform.instance.get_run_by_id(host.run_id)
    assert run is not None
    platform.instance.report_run_failed(run, "Said so by a test.")
    platform.await_host(host.run_id)


def _launch_by_hand(platform: LivePlatform) -> None:
    """A person launches the job beside the run that lives: it waits or is refused, and never writes."""
    host = platform.await_healthy()
    before = len(platform.runs())
    platform.launch("streaming_job")
    refused = platform.wait_for(
        lambda: next((run for run in platform.runs()[:-before] if run.is_finished), None), "the second run has ended"
    )
    _demand(refused.exit_kind is ExitKind.OWNED, f"the second run left as {refused.exit_kind}")
    _demand(platform.await_healthy().run_id == host.run_id, "the first run was replaced")


def _drain_beside(platform: LivePlatform) -> None:
    host = platform.await_healthy()
    drain = platform.run("drain")
    _demand(drain.returncode == 1 and "is owned by run" in drain.stderr, f"the drain said: {drain.stderr}")
    _demand(platform.await_healthy().run_id == host.run_id, "the run was replaced")


def _start_platform_twice(platform: LivePlatform) -> None:
    host = platform.await_healthy()
    second = platform.run("up")
    _demand(second.returncode == 1 and "Another Headrace daemon" in second.stderr, f"it said: {second.stderr}")
    _demand(platform.await_healthy().run_id == host.run_id, "the run was replaced")


def _run_two_daemons(platform: LivePlatform) -> None:
    """A second daemon that goes past our lock, while a run dies: the successor is one run, or the other is refused."""
    host = platform.await_healthy()
    command = [_program("dagster-daemon"), "run", "-w", str(ROOT / "workspace.yaml")]
    with (platform.settings.home / "second_daemon.log").open("ab") as log:
        second = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        time.sleep(_TWO_DAEMONS_SECONDS)
        kill(host.process)
        platform.await_host(host.run_id)
        platform.await_healthy()
    finally:
        second.terminate()
        second.wait()


def _kill_code_server(platform: LivePlatform) -> None:
    host = platform.await_healthy()
    for server in platform.services("grpc"):
        server.kill()
    struck = time.time()
    platform.wait_for(lambda: _last_tick(platform) > struck, "the supervisor ticks again")
    _demand(platform.await_healthy().run_id == host.run_id, "the run was replaced")


def _kill_daemon(platform: LivePlatform) -> None:
    """The platform says so and ends, streams last; whoever keeps it (systemd, a container) starts it again."""
    host = platform.await_healthy()
    (daemon,) = (p for p in platform.services("dagster-daemon") if p.ppid() == platform.up_pid)
    daemon.kill()
    _demand(platform.wait_for_end() == 1, "the platform did not say that it failed")
    platform.start()
    platform.await_host(host.run_id)


def _kill_services(platform: LivePlatform) -> None:
    """The streams go on without a platform; the next one adopts them."""
    host = platform.await_healthy()
    platform.kill_services()
    time.sleep(_UNSEEN_SECONDS)
    platform.start()
    _demand(platform.await_healthy().run_id == host.run_id, "the run was replaced")


def _change_settings(platform: LivePlatform) -> None:
    """A new platform with other settings finds the old one's run: it is replaced between two batches."""
    host = platform.await_healthy()
    platform.kill_services()
    platform.start(HEADRACE_TRIGGER_SECONDS="0.9")  # instead of 1.0
    platform.await_host(host.run_id)
    (run,) = (run for run in platform.runs() if run.run_id == host.run_id)
    _demand(run.stop_cause is StopCause.UPGRADE and run.status == "success", f"it ended {run.status}")


def _lose_power(platform: LivePlatform) -> None:
    host = platform.await_healthy()
    platform.kill_everything()
    platform.start()
    platform.await_host(host.run_id)


def _restart_platform(platform: LivePlatform) -> None:
    """SIGTERM, as a container gets it: batches end, then everything does."""
    host = platform.await_healthy()
    _demand(platform.stop() == 0, "the platform did not end well")
    _demand(not read_lock(platform.settings.home, platform.group.name).held, "something still holds the group")
    platform.start()
    platform.await_host(host.run_id)


def _go_by_schedule(platform: LivePlatform) -> None:
    """The streams catch up once a minute instead of running all day; then they run all day again."""
    host = platform.await_healthy()
    platform.stop()
    platform.start_services(HEADRACE_STREAMING_MODE="scheduled", HEADRACE_DRAIN_CRON="* * * * *")
    drained = dg.RunsFilter(job_name="drain_streams", statuses=[dg.DagsterRunStatus.SUCCESS])
    platform.wait_for(lambda: platform.instance.get_runs_count(drained), "a drain has caught up")
    platform.stop()
    platform.start(HEADRACE_STREAMING_MODE="continuous")
    platform.await_host(host.run_id)


def _lock_database(platform: LivePlatform) -> None:
    host = platform.await_healthy()
    platform.lock_database(_SHORT_OUTAGE_SECONDS)
    _demand(platform.await_healthy().run_id == host.run_id, "the run was replaced")


def _crash_again_and_again(platform: LivePlatform) -> None:
    """Each run is killed before it commits. The group is held, and a person's resume ends that."""
    host = platform.await_healthy()
    last = host.run_id
    kill(host.process)
    while platform.watch.phase is not Phase.HELD_CRASH_LOOP:
        victim = platform.starting_host(last)
        if victim is not None:
            kill(victim.process)
            last = victim.run_id
        time.sleep(0.2)
    platform.await_held(Phase.HELD_CRASH_LOOP)
    _say(platform, "resume")
    platform.await_host(last)


def _lose_checkpoint(platform: LivePlatform) -> None:
    """A derived stream with rows and no checkpoint is refused, and not tried again until the checkpoint is back."""
    host = platform.await_healthy()
    _say(platform, "pause")
    platform.wait_for(lambda: platform.watch.phase is Phase.HELD_OPERATOR, "the group is held")
    checkpoint = Path(platform.settings.lakehouse, "_checkpoints", "gold", "revenue_by_category")
    away = checkpoint.with_name("away")
    checkpoint.rename(away)
    _say(platform, "resume")
    platform.await_held(Phase.NEEDS_ATTENTION)
    away.rename(checkpoint)
    _say(platform, "resume")
    platform.await_host(host.run_id)


def _replay(platform: LivePlatform) -> None:
    """A table is made again beside the live stream, and put in its place."""
    host = platform.await_healthy()
    _swap(platform)
    platform.await_host(host.run_id)


def _kill_replay(platform: LivePlatform) -> None:
    """It dies between the rows and the state of its swap; called again it finishes that."""
    host, home = platform.await_healthy(), platform.settings.home
    replay = platform.start_command("replay", _REPLAYED.split(".")[1], "--swap")
    platform.wait_for(lambda: read_lock(home, platform.group.name).owner_mode == "replay", "the replay holds the group")
    with platform.crash_point("after", f"lakehouse/{_REPLAYED}"):  # now it alone writes there
        code = replay.wait(LIMIT_SECONDS)
    _demand(code == -signal.SIGKILL, f"the replay ended with {code}")
    platform.wait_for(lambda: platform.watch.phase is Phase.HELD_OPERATOR, "the group stays paused")
    platform.wait_for(lambda: not read_lock(home, f"replay-{_REPLAYED.split('.')[1]}").held, "its JVM is dead")
    _swap(platform)
    platform.await_host(host.run_id)


def _forget(platform: LivePlatform) -> None:
    """Somebody asks to be forgotten while the shop is open."""
    host = platform.await_healthy()
    _erase(platform, platform.busiest_user())
    platform.await_host(host.run_id)


def _kill_forgetting(platform: LivePlatform) -> None:
    """It dies in its middle; called again it does the rest."""
    host, home, user = platform.await_healthy(), platform.settings.home, platform.busiest_user()
    forgetting = platform.start_command("forget-user", user, "--reason", "asked to")
    platform.wait_for(platform.is_erasing, "rows are being taken out")
    time.sleep(random.uniform(0, _ERASING_SECONDS))
    forgetting.kill()
    forgetting.wait()
    platform.wait_for(lambda: platform.watch.phase is Phase.HELD_OPERATOR, "the group stays paused")
    platform.wait_for(lambda: not read_lock(home, "replay-sessions").held, "its JVM is dead")
    _erase(platform, user)
    platform.await_host(host.run_id)


def _erase(platform: LivePlatform, user: str) -> None:
    done = platform.run("forget-user", user, "--reason", "asked to")
    _demand(done.returncode == 0 and "; 0 have the user" in done.stdout, f"it said: {done.stdout}{done.stderr}")


def _swap(platform: LivePlatform) -> None:
    done = platform.run("replay", _REPLAYED.split(".")[1], "--swap")
    _demand(done.returncode == 0 and "has the replayed rows" in done.stdout, f"it said: {done.stdout}{done.stderr}")


def _kill_at(moment: str, table: str) -> Fault:
    """The run's process dies by kill -9 right before or after its next commit to a table."""

    def strike(platform: LivePlatform) -> None:
        host = platform.await_healthy()
        with platform.crash_point(moment, table):
            platform.await_host(host.run_id)
        assert host.jvm is not None
        _demand(is_alive(host.jvm) is False, "the dead run's JVM lives beside its successor")

    return Fault(f"killed {moment} a commit to {table}", strike, (Phase.LAUNCHING, Phase.RUNNING))


# Between each pair of steps in which a batch is written, and beside it the accounts of batches.
CRASH_POINTS = (
    _kill_at("before", "silver.deduplicated_events"),
    _kill_at("after", "silver.deduplicated_events"),
    _kill_at("after", "silver.quarantined_events"),
    _kill_at("after", "silver.events"),
    _kill_at("before", "platform.late_events"),
    _kill_at("after", "platform.late_events"),
    _kill_at("before", "gold.sessions"),
    _kill_at("after", "gold.sessions"),
    _kill_at("after", "gold.view_to_purchase"),
    _kill_at("after", "platform.ledger"),
    _kill_at("after", "platform.hop_ledger"),
)
FAULTS = (
    *CRASH_POINTS,
    Fault("kill -9 of the run's process", _kill_run, (Phase.LAUNCHING, Phase.RUNNING)),
    Fault("kill -9 of the JVM", _kill_jvm, (Phase.LAUNCHING, Phase.RUNNING)),
    Fault("kill -9 of Spark's Python processes", _kill_workers, (Phase.LAUNCHING, Phase.RUNNING)),
    Fault("SIGTERM to the run's process", _interrupt_run, (Phase.LAUNCHING, Phase.RUNNING)),
    Fault("Terminate, then resume", _terminate_run, (Phase.HELD_OPERATOR, Phase.LAUNCHING, Phase.RUNNING)),
    Fault("Dagster calls a living run failed", _report_failed, (Phase.LAUNCHING, Phase.RUNNING)),
    Fault("a second run is launched by hand", _launch_by_hand, (Phase.RUNNING,)),
    Fault("a drain beside the run", _drain_beside, (Phase.RUNNING,)),
    Fault("a second platform on the home", _start_platform_twice, (Phase.RUNNING,)),
    Fault("two daemons, and a kill -9", _run_two_daemons, (Phase.LAUNCHING, Phase.RUNNING)),
    Fault("broker away for 20 s", _freeze_broker, (Phase.RUNNING,)),
    Fault("kill -9 of the broker", _kill_broker, (Phase.RUNNING,)),
    Fault("a query stuck for longer than its limit", _stick, (Phase.STOPPING, Phase.LAUNCHING, Phase.RUNNING)),
    Fault("the run's process sleeps, and wakes", _freeze_run_and_wake_it, (Phase.SUSPECT, Phase.RUNNING)),
    Fault("process and JVM sleep for 90 s", _freeze_all_and_wake_them, (Phase.SUSPECT, Phase.RUNNING)),
    Fault("disk nearly full", _fill_disk, (Phase.NEEDS_ATTENTION, Phase.LAUNCHING, Phase.RUNNING)),
    Fault("the run's process hangs", _freeze_run, (Phase.SUSPECT, Phase.STOPPING, Phase.LAUNCHING, Phase.RUNNING)),
    Fault("the JVM hangs", _freeze_jvm, (Phase.SUSPECT, Phase.STOPPING, Phase.ORPHAN, Phase.LAUNCHING, Phase.RUNNING)),
    Fault("kill -9 of the code server", _kill_code_server, (Phase.RUNNING,)),
    Fault("kill -9 of the daemon", _kill_daemon, (Phase.LAUNCHING, Phase.RUNNING)),
    Fault("kill -9 of all of Dagster for 15 s", _kill_services, (Phase.RUNNING,)),
    Fault("changed settings", _change_settings, (Phase.STOPPING, Phase.LAUNCHING, Phase.RUNNING)),
    Fault("SIGTERM to the platform, and a start", _restart_platform, (Phase.LAUNCHING, Phase.RUNNING)),
    Fault("on a schedule, and back", _go_by_schedule, (Phase.DISABLED, Phase.LAUNCHING, Phase.RUNNING)),
    Fault("power fails", _lose_power, (Phase.LAUNCHING, Phase.RUNNING)),
    Fault("Dagster's database away for 20 s", _lock_database, (Phase.RUNNING,)),
    Fault("a checkpoint is lost", _lose_checkpoint, (Phase.NEEDS_ATTENTION, Phase.LAUNCHING, Phase.RUNNING)),
    Fault("a table is replayed", _replay, (Phase.HELD_OPERATOR, Phase.LAUNCHING, Phase.RUNNING)),
    Fault("a replay is killed in its swap", _kill_replay, (Phase.HELD_OPERATOR, Phase.LAUNCHING, Phase.RUNNING)),
    Fault("a user is forgotten", _forget, (Phase.HELD_OPERATOR, Phase.LAUNCHING, Phase.RUNNING)),
    Fault("a forgetting is killed", _kill_forgetting, (Phase.HELD_OPERATOR, Phase.LAUNCHING, Phase.RUNNING)),
    Fault(
        "killed at each start", _crash_again_and_again,
        (Phase.BACKOFF, Phase.HELD_CRASH_LOOP, Phase.LAUNCHING, Phase.RUNNING),
    ),
)  # fmt: skip


def _last_tick(platform: LivePlatform) -> float:
    states = platform.instance.all_instigator_state()
    (sensor,) = (state for state in states if state.name == "stream_supervisor")
    ticks = platform.instance.get_ticks(sensor.instigator_origin_id, sensor.selector_id, limit=1)
    return ticks[0].timestamp if ticks else 0.0


def _say(platform: LivePlatform, command: str) -> None:
    done = platform.run(command, platform.group.name)
    _demand(done.returncode == 0, f"headrace {command} said: {done.stderr}")


def _program(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _demand(truth: bool, otherwise: str) -> None:
    if not truth:
        raise ChaosError(otherwise)
