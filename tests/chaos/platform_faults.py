"""What is done to the platform around the run: daemons, code server, drains, schedules, power.

Each strikes, waits for the promised reaction, and raises `ChaosError` where it does not come.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import dagster as dg

from jobs.supervision.group_lock import read_lock
from jobs.supervision.model import StopCause
from resources.processes import kill
from tests.chaos.fault import demand
from tests.chaos.live_platform import ROOT, LivePlatform

# Two daemons launch one run twice within a few of these ticks, if they ever do.
_TWO_DAEMONS_SECONDS = 30.0
_UNSEEN_SECONDS = 15.0


def drain_during_run(platform: LivePlatform) -> None:
    host = platform.await_healthy()
    drain = platform.run("drain")
    demand(drain.returncode == 1 and "is owned by run" in drain.stderr, f"the drain said: {drain.stderr}")
    demand(platform.await_healthy().run_id == host.run_id, "the run was replaced")


def start_platform_twice(platform: LivePlatform) -> None:
    host = platform.await_healthy()
    second = platform.run("up")
    demand(second.returncode == 1 and "Another Headrace daemon" in second.stderr, f"it said: {second.stderr}")
    demand(platform.await_healthy().run_id == host.run_id, "the run was replaced")


def run_two_daemons(platform: LivePlatform) -> None:
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


def kill_code_server(platform: LivePlatform) -> None:
    host = platform.await_healthy()
    for server in platform.services("grpc"):
        server.kill()
    struck = time.time()
    platform.wait_for(lambda: _last_tick(platform) > struck, "the supervisor ticks again")
    demand(platform.await_healthy().run_id == host.run_id, "the run was replaced")


def kill_daemon(platform: LivePlatform) -> None:
    """The platform says so and ends, streams last; its service manager (systemd, a container) starts it again."""
    host = platform.await_healthy()
    (daemon,) = (p for p in platform.services("dagster-daemon") if p.ppid() == platform.up_pid)
    daemon.kill()
    demand(platform.wait_for_end() == 1, "the platform did not say that it failed")
    platform.start()
    platform.await_host(host.run_id)


def kill_services(platform: LivePlatform) -> None:
    """The streams go on without a platform; the next one adopts them."""
    host = platform.await_healthy()
    platform.kill_services()
    time.sleep(_UNSEEN_SECONDS)
    platform.start()
    demand(platform.await_healthy().run_id == host.run_id, "the run was replaced")


def change_settings(platform: LivePlatform) -> None:
    """A new platform with other settings finds the old one's run: it is replaced between two batches."""
    host = platform.await_healthy()
    platform.kill_services()
    platform.start(HEADRACE_TRIGGER_SECONDS="0.9")  # instead of 1.0
    platform.await_host(host.run_id)
    (run,) = (run for run in platform.runs() if run.run_id == host.run_id)
    demand(run.stop_cause is StopCause.UPGRADE and run.status == "success", f"it ended {run.status}")


def lose_power(platform: LivePlatform) -> None:
    host = platform.await_healthy()
    platform.kill_everything()
    platform.start()
    platform.await_host(host.run_id)


def restart_platform(platform: LivePlatform) -> None:
    """SIGTERM, as a container gets it: batches end, then everything does."""
    host = platform.await_healthy()
    demand(platform.stop() == 0, "the platform did not end well")
    demand(not read_lock(platform.settings.home, platform.group.name).held, "something still holds the group")
    platform.start()
    platform.await_host(host.run_id)


def go_by_schedule(platform: LivePlatform) -> None:
    """The streams catch up once a minute instead of running all day; then they run all day again."""
    host = platform.await_healthy()
    platform.stop()
    platform.start_services(HEADRACE_STREAMING_MODE="scheduled", HEADRACE_DRAIN_CRON="* * * * *")
    drained = dg.RunsFilter(job_name="drain_streams", statuses=[dg.DagsterRunStatus.SUCCESS])
    platform.wait_for(lambda: platform.instance.get_runs_count(drained), "a drain has caught up")
    platform.stop()
    platform.start(HEADRACE_STREAMING_MODE="continuous")
    platform.await_host(host.run_id)


def _last_tick(platform: LivePlatform) -> float:
    states = platform.instance.all_instigator_state()
    (sensor,) = (state for state in states if state.name == "stream_supervisor")
    ticks = platform.instance.get_ticks(sensor.instigator_origin_id, sensor.selector_id, limit=1)
    return ticks[0].timestamp if ticks else 0.0


def _program(name: str) -> str:
    return str(Path(sys.executable).parent / name)
