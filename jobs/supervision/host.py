"""The host loop: one Spark application that runs a stream group until it is told to stop, is done, or fails.

The supervised run and `drain` share it. It knows neither Dagster nor Spark: sessions, the engine and the outside
world (heartbeats, stop records, events) are given to it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from jobs.supervision.model import ExitKind
from platform_assets.errors import HeadraceError, QueryFailedError
from resources.processes import ProcessIdentity, identify, is_alive
from resources.stop_signals import StopSignals

if TYPE_CHECKING:
    from platform_assets.streaming.progress import QueryProgress

# A kill of the JVM or of a query is seen within one beat, and a stop record is obeyed within one. Each beat costs
# about 10 ms (one write, one read, a few py4j calls); every half second it would show in an idle laptop's battery.
BEAT_SECONDS = 2.0
# After one query has failed the others get this long for their batches in flight: the failure must not wait for a
# batch that hangs for the same reason.
_GRACE_AFTER_FAILURE_SECONDS = 10.0

# A killed process closes its sockets before it is gone: on a machine under load the first refused connection came
# seconds earlier, and read as a bug.
_JVM_DEATH_SECONDS = 10.0

HostPhase = Literal["starting", "running", "stopping"]


class RunningGroup(Protocol):
    """The engine, as far as the loop needs it: `streaming.query_group.QueryGroup`, which says what each call does."""

    def start(self, *, bounded: bool = False, paused: frozenset[str] = frozenset()) -> None:
        """Starts the queries but those of `paused` streams; `bounded` ones end when they have read what was there."""
        ...

    def reconcile(self, paused: frozenset[str], restart_at: Mapping[str, float]) -> None:
        """Stops and starts single queries, each at a batch boundary."""
        ...

    def progress(self) -> Mapping[str, QueryProgress]:
        """How far each query is."""
        ...

    def failure(self) -> HeadraceError | None:
        """Why the first query died that did."""
        ...

    def is_finished(self) -> bool:
        """Whether all bounded queries came to their end."""
        ...

    def stop(self, grace_seconds: float) -> None:
        """Waits for batches in flight and stops the queries. Never raises for a dead JVM."""
        ...


@dataclass(frozen=True)
class StreamRequests:
    """Which streams a person wants paused, and which started again (seconds since the epoch of the wish)."""

    paused: frozenset[str] = frozenset()
    restart_at: Mapping[str, float] = field(default_factory=dict)


class HostPort(Protocol):
    """The world around the loop. Called from the loop's thread only, every `BEAT_SECONDS` and at changes of phase."""

    def read_requests(self) -> StreamRequests:
        """What people want of single streams. Must not raise for trouble that passes."""
        ...

    def report(self, phase: HostPhase, progress: Mapping[str, QueryProgress], jvm: ProcessIdentity | None) -> None:
        """Takes a sign of life. Must not raise for trouble that passes."""
        ...

    def read_stop(self, *, signalled: bool) -> tuple[ExitKind, str] | None:
        """Whether to stop now, and why. `signalled`: SIGINT or SIGTERM has arrived; the answer is never None then."""
        ...


@dataclass(frozen=True)
class Application:
    """A Spark application that is up. `build_group` makes the engine over it; `jvm_pid` is None where there is none.

    `read_jvm_output` gives the end of what the JVM itself has printed, also when it is dead.
    """

    build_group: Callable[[], RunningGroup]
    jvm_pid: int | None
    read_jvm_output: Callable[[], str] = str


@dataclass(frozen=True)
class HostEnd:
    """How the loop ended without a failure. `finished`: bounded mode came to its end."""

    finished: bool
    kind: ExitKind
    reason: str


def host_group(
    open_application: Callable[[], AbstractContextManager[Application]],
    port: HostPort,
    *,
    grace_seconds: float,
    bounded: bool = False,
    signals: StopSignals | None = None,
) -> HostEnd:
    """Runs the group. The caller holds the group's lock and has passed its descriptor to `open_application`.

    Returns after a stop or, in bounded mode, when everything is read. Raises the first `HeadraceError` that a query,
    the start or the JVM's death causes. In every case the queries and Spark are down when it returns or raises.
    """
    with signals or StopSignals() as stop:
        port.report("starting", {}, None)
        asked = port.read_stop(signalled=stop.received.is_set()) if stop.received.is_set() else None
        if asked is not None:
            return HostEnd(False, *asked)
        with open_application() as application:
            stop.install()
            jvm = identify(application.jvm_pid) if application.jvm_pid is not None else None
            port.report("starting", {}, jvm)
            grace = _GRACE_AFTER_FAILURE_SECONDS
            with _named_jvm_death(jvm, application.read_jvm_output):
                group = application.build_group()
                try:
                    if not stop.received.is_set():
                        group.start(bounded=bounded, paused=port.read_requests().paused)
                    end = _watch(group, port, stop, jvm, bounded)
                    grace = grace_seconds
                    return end
                finally:
                    group.stop(min(grace, grace_seconds))


def _watch(
    group: RunningGroup, port: HostPort, stop: StopSignals, jvm: ProcessIdentity | None, bounded: bool
) -> HostEnd:
    progress: Mapping[str, QueryProgress] = {}
    while True:
        asked = port.read_stop(signalled=stop.received.is_set())
        if asked is not None:
            port.report("stopping", progress, jvm)
            return HostEnd(False, *asked)
        if jvm is not None and is_alive(jvm) is False:
            raise QueryFailedError("Spark's JVM is dead.")  # `_named_jvm_death` says of what
        failure = group.failure()
        if failure is not None:
            raise failure
        if not bounded:
            requests = port.read_requests()
            group.reconcile(requests.paused, requests.restart_at)
        finished = bounded and group.is_finished()
        progress = group.progress()
        port.report("running", progress, jvm)
        if finished:
            return HostEnd(True, ExitKind.STOPPED, "everything is read")
        stop.received.wait(BEAT_SECONDS)


@contextmanager
def _named_jvm_death(jvm: ProcessIdentity | None, read_output: Callable[[], str]) -> Iterator[None]:
    """Raises the JVM's death instead of the errors that it causes: refused connections, queries that end together."""
    try:
        yield
    except Exception as error:
        patience = 0.0 if isinstance(error, HeadraceError) else _JVM_DEATH_SECONDS
        if jvm is not None and _is_dead_within(jvm, patience):
            raise _jvm_died(jvm, read_output()) from error
        raise  # with a living JVM it is what it says, or a bug that stays loud


def _is_dead_within(process: ProcessIdentity, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_alive(process) is not False:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True


def _jvm_died(jvm: ProcessIdentity, output: str) -> QueryFailedError:
    if said := re.search(r"java\.lang\.OutOfMemoryError.*", output):
        why, what = f" of {said.group()}", "its heap is too small: raise HEADRACE_SPARK_HEAP_MIB."
    elif "Out of space in CodeCache" in output:
        why, what = (
            " of a full code cache",
            (
                "its code cache is too small: add -XX:ReservedCodeCacheSize=480m to spark.driver.extraJavaOptions in "
                "HEADRACE_SPARK_CONF."
            ),
        )
    else:
        why, what = "", "the machine is short of memory: look for an out-of-memory kill."
    return QueryFailedError(
        f"Spark's JVM (pid {jvm.pid}) died under the queries{why}. They go on from their checkpoints at the next "
        f"start; if it dies again, {what}"
    )
