"""What is done to a run: to its process, its JVM, its workers, by Dagster and by people.

Each strikes, waits for the promised reaction, and raises `ChaosError` where it does not come.
"""

from __future__ import annotations

import os
import signal
import time

from jobs.supervision.model import ExitKind, Phase
from resources.processes import is_alive, kill
from tests.chaos.fault import demand, say
from tests.chaos.live_platform import LivePlatform

# Past suspicion (60 s), short of being killed (another 75 s each for being asked and cancelled).
_SLEEP_SECONDS = 90.0


def kill_run(platform: LivePlatform) -> None:
    host = platform.await_healthy()
    kill(host.process)
    platform.await_host(host.run_id)


def kill_jvm(platform: LivePlatform) -> None:
    host = platform.await_healthy()
    assert host.jvm is not None
    kill(host.jvm)
    platform.await_host(host.run_id)
    run = next(run for run in platform.runs() if run.run_id == host.run_id)
    demand(run.status == "failure" and "JVM" in run.exit_reason, f"it ended {run.status}: {run.exit_reason}")
    demand(platform.runs()[1].run_id == host.run_id, "it has more than one successor")


def kill_workers(platform: LivePlatform) -> None:
    host = platform.await_healthy()
    for worker in platform.workers(host):
        worker.kill()
    platform.await_host(host.run_id)


def freeze_run(platform: LivePlatform) -> None:
    """The process sleeps for good: it is suspected, asked, cancelled and killed."""
    host = platform.await_healthy()
    os.kill(host.process.pid, signal.SIGSTOP)
    platform.await_host(host.run_id)


def freeze_jvm(platform: LivePlatform) -> None:
    """The run's process waits for it, and what is left of the run keeps the lock until it is killed too."""
    host = platform.await_healthy()
    assert host.jvm is not None
    os.kill(host.jvm.pid, signal.SIGSTOP)
    platform.await_host(host.run_id)


def freeze_run_and_wake_it(platform: LivePlatform) -> None:
    """Suspicion ends when the heartbeat returns: nothing is restarted."""
    host = platform.await_healthy()
    os.kill(host.process.pid, signal.SIGSTOP)
    platform.wait_for(lambda: platform.watch.phase is Phase.SUSPECT, "the run is suspect")
    os.kill(host.process.pid, signal.SIGCONT)
    platform.wait_for(lambda: platform.watch.phase is Phase.RUNNING, "the run is trusted again")
    demand(platform.host() is not None and platform.await_healthy().run_id == host.run_id, "the run was replaced")


def freeze_all_and_wake_them(platform: LivePlatform) -> None:
    """Process and JVM sleep for longer than suspicion lasts: when they wake they find that they are to stop."""
    host = platform.await_healthy()
    assert host.jvm is not None
    for process in (host.process, host.jvm):
        os.kill(process.pid, signal.SIGSTOP)
    time.sleep(_SLEEP_SECONDS)
    for process in (host.process, host.jvm):
        os.kill(process.pid, signal.SIGCONT)
    platform.await_host(host.run_id)


def interrupt_run(platform: LivePlatform) -> None:
    host = platform.await_healthy()
    os.kill(host.process.pid, signal.SIGTERM)
    platform.await_host(host.run_id)
    (run,) = (run for run in platform.runs() if run.run_id == host.run_id)
    demand((run.status, run.exit_kind) == ("success", ExitKind.INTERRUPTED), f"it ended {run.status}")


def terminate_run(platform: LivePlatform) -> None:
    host = platform.await_healthy()
    platform.instance.run_coordinator.cancel_run(host.run_id)
    platform.await_held(Phase.HELD_OPERATOR)
    demand(is_alive(host.process) is False, "the terminated process lives")
    say(platform, "resume")
    platform.await_host(host.run_id)


def report_failed(platform: LivePlatform) -> None:
    """Dagster calls the run failed while its process lives, as its monitor does when it loses sight of it."""
    host = platform.await_healthy()
    run = platform.instance.get_run_by_id(host.run_id)
    assert run is not None
    platform.instance.report_run_failed(run, "Said so by a test.")
    platform.await_host(host.run_id)


def launch_by_hand(platform: LivePlatform) -> None:
    """A person launches the job while a run lives: it waits or is refused, and never writes."""
    host = platform.await_healthy()
    before = len(platform.runs())
    platform.launch("streaming_job")
    refused = platform.wait_for(
        lambda: next((run for run in platform.runs()[:-before] if run.is_finished), None), "the second run has ended"
    )
    demand(refused.exit_kind is ExitKind.OWNED, f"the second run left as {refused.exit_kind}")
    demand(platform.await_healthy().run_id == host.run_id, "the first run was replaced")


def crash_again_and_again(platform: LivePlatform) -> None:
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
    say(platform, "resume")
    platform.await_host(last)
