"""The host loop and the asset events, with an engine double that fails the way engines do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import dagster as dg
import pytest

from jobs.supervision.host import Application, HostEnd, HostPhase, StreamRequests, host_group
from jobs.supervision.model import ExitKind
from jobs.supervision.table_events import EVENT_INTERVAL_SECONDS, AssetEvent, TableEvents
from platform_assets.errors import HeadraceError, MissingTopicError, QueryFailedError
from platform_assets.streaming.progress import QueryProgress
from platform_assets.streaming.stream_spec import KafkaStream
from platform_assets.topics.events import TOPIC
from resources.processes import ProcessIdentity


def progress(batch_id: int, rows: int = 0, side_version: int = 0) -> dict[str, QueryProgress]:
    at = None if batch_id < 0 else "2026-01-01T00:00:00Z"
    versions = {"silver.events": batch_id, "silver.quarantined_events": side_version}
    return {"events": QueryProgress("events", "q", batch_id, rows, 10.0, 5, None, versions, at, False)}


@dataclass
class ScriptedGroup:
    """Ends by `dies_of` or `finishes` at its n-th look."""

    dies_of: HeadraceError | None = None
    finishes_after: int = 1_000_000
    calls: list[str] = field(default_factory=list)
    followed: list[tuple[frozenset[str], Mapping[str, float]]] = field(default_factory=list)
    looks: int = 0

    def start(self, *, bounded: bool = False, paused: frozenset[str] = frozenset()) -> None:
        self.calls.append(" ".join(["start", *(["bounded"] if bounded else []), *sorted(paused)]))

    def reconcile(self, paused: frozenset[str], restart_at: Mapping[str, float]) -> None:
        self.followed.append((paused, restart_at))

    def progress(self) -> Mapping[str, QueryProgress]:
        return progress(self.looks)

    def failure(self) -> HeadraceError | None:
        self.looks += 1
        return self.dies_of

    def is_finished(self) -> bool:
        return self.looks >= self.finishes_after

    def stop(self, grace_seconds: float) -> None:
        self.calls.append(f"stop {grace_seconds:g}")


@dataclass
class Recorder:
    """Records phases; at the n-th beat does what a test asks for."""

    stop_after: int | None = None
    signal_after: int | None = None
    phases: list[str] = field(default_factory=list)
    requests: StreamRequests = field(default_factory=StreamRequests)

    def report(self, phase: HostPhase, progress: Mapping[str, QueryProgress], jvm: ProcessIdentity | None) -> None:
        self.phases.append(phase)
        if self.signal_after is not None and self.phases.count("running") == self.signal_after:
            os.kill(os.getpid(), signal.SIGTERM)

    def read_requests(self) -> StreamRequests:
        return self.requests

    def read_stop(self, *, signalled: bool) -> tuple[ExitKind, str] | None:
        if self.stop_after is not None and self.phases.count("running") >= self.stop_after:
            return ExitKind.STOPPED, "asked"
        return (ExitKind.INTERRUPTED, "signal") if signalled else None


def run_host(
    group: ScriptedGroup, port: Recorder, jvm_pid: int | None = None, bounded: bool = False, jvm_output: str = ""
) -> HostEnd:
    @contextmanager
    def application() -> Iterator[Application]:
        group.calls.append("open")
        yield Application(lambda: group, jvm_pid, lambda: jvm_output)
        group.calls.append("close")

    return host_group(application, port, grace_seconds=60, bounded=bounded)


def test_stop_record_ends_the_loop_after_the_batches_in_flight() -> None:
    group, port = ScriptedGroup(), Recorder(stop_after=1)
    assert run_host(group, port) == HostEnd(False, ExitKind.STOPPED, "asked")
    assert group.calls == ["open", "start", "stop 60", "close"]
    assert port.phases == ["starting", "starting", "running", "stopping"]


def test_signal_ends_the_loop_at_once_and_its_handler_is_gone_after() -> None:
    before = signal.getsignal(signal.SIGTERM)
    group = ScriptedGroup()
    assert run_host(group, Recorder(signal_after=1)).kind is ExitKind.INTERRUPTED
    assert group.calls[-2:] == ["stop 60", "close"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_failed_query_raises_its_error_and_the_others_get_a_short_grace() -> None:
    group = ScriptedGroup(dies_of=MissingTopicError("Gone. Create it."))
    with pytest.raises(MissingTopicError, match="Create it"):
        run_host(group, Recorder())
    assert "stop 10" in group.calls


HEAP_DEATH = "OpenJDK warning\nTerminating due to java.lang.OutOfMemoryError: GC overhead limit exceeded\n"
CODE_CACHE_DEATH = "Caused by: java.lang.VirtualMachineError: Out of space in CodeCache for method handle intrinsic\n"


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("", "the queries. They go on .* look for an out-of-memory kill"),
        (
            HEAP_DEATH,
            "of java.lang.OutOfMemoryError: GC overhead limit exceeded. They .* raise HEADRACE_SPARK_HEAP_MIB",
        ),
        (CODE_CACHE_DEATH, "of a full code cache. They .*ReservedCodeCacheSize"),
    ],
    ids=["killed", "heap", "code cache"],
)
def test_dead_jvm_is_named_instead_of_the_failures_it_causes(output: str, why: str) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as jvm:

        class Dying(ScriptedGroup):
            def failure(self) -> HeadraceError | None:
                jvm.kill()
                jvm.wait()
                raise ConnectionRefusedError("py4j")

        with pytest.raises(QueryFailedError, match=f"JVM .pid {jvm.pid}. died under .*{why}"):
            run_host(Dying(), Recorder(), jvm_pid=jvm.pid, jvm_output=output)


def test_connection_that_is_refused_before_the_jvm_is_gone_is_its_death_too() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as jvm:

        class Dying(ScriptedGroup):
            def failure(self) -> HeadraceError | None:
                threading.Timer(0.3, jvm.kill).start()
                raise ConnectionRefusedError("py4j")

        with pytest.raises(QueryFailedError, match="died"):
            run_host(Dying(), Recorder(), jvm_pid=jvm.pid)


def test_error_of_ours_with_a_living_jvm_stays_loud() -> None:
    class Broken(ScriptedGroup):
        def failure(self) -> HeadraceError | None:
            raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        run_host(Broken(), Recorder())


def test_requests_for_single_streams_reach_the_group_from_its_start_on() -> None:
    group = ScriptedGroup()
    run_host(group, Recorder(stop_after=1, requests=StreamRequests(frozenset({"sessions"}), {"events": 7.0})))
    assert group.calls[1] == "start sessions"
    assert group.followed == [(frozenset({"sessions"}), {"events": 7.0})]


def test_bounded_group_ends_when_everything_is_read() -> None:
    group = ScriptedGroup(finishes_after=1)
    end = run_host(group, Recorder(), bounded=True)
    assert end.finished
    assert group.calls == ["open", "start bounded", "stop 60", "close"]


# --- asset events


STREAM = KafkaStream(TOPIC, 1.0)


def publish(*steps: tuple[float, dict[str, QueryProgress]]) -> list[AssetEvent]:
    logged: list[AssetEvent] = []
    events = TableEvents([STREAM], logged.append)
    for now, facts in steps:
        events.publish(facts, now)
    return logged


def test_first_commit_is_logged_at_once_with_numbers_as_numbers() -> None:
    first = publish((0.0, progress(-1)), (2.0, progress(0, rows=7)))[0]
    assert isinstance(first, dg.AssetMaterialization)
    assert first.asset_key == dg.AssetKey(["silver", "events"])
    values = {name: entry.value for name, entry in first.metadata.items()}
    assert values["spark/batch_id"] == 0 and values["spark/rows"] == 7
    assert values["kafka/lag_records"] == 5 and values["delta/version"] == 0
    assert isinstance(values["spark/rows_per_second"], float)


def test_busy_stream_costs_one_event_per_interval() -> None:
    steps = [(float(second), progress(second, rows=second)) for second in range(0, 3601, 2)]
    events = [e for e in publish(*steps) if e.asset_key == dg.AssetKey(["silver", "events"])]
    assert len(events) == 1 + 3600 / EVENT_INTERVAL_SECONDS
    assert events[-1].metadata["spark/rows"].value == EVENT_INTERVAL_SECONDS


def test_idle_stream_is_observed_and_never_materialized() -> None:
    events = publish(*[(float(second), progress(0)) for second in range(0, 4 * int(EVENT_INTERVAL_SECONDS) + 1, 2)])
    kinds = [type(e).__name__ for e in events if e.asset_key == dg.AssetKey(["silver", "events"])]
    assert kinds == ["AssetMaterialization", *["AssetObservation"] * 4]


def test_side_table_is_logged_only_when_its_version_moved() -> None:
    at = EVENT_INTERVAL_SECONDS
    steps = [(0.0, progress(0)), (at, progress(1)), (2 * at, progress(2, side_version=1))]
    side = [e for e in publish(*steps) if e.asset_key == dg.AssetKey(["silver", "quarantined_events"])]
    assert [e.metadata["delta/version"].value for e in side] == [0, 1]
