"""Two hosts that share Dagster's storage, each with a home and so with locks of its own: a group has one owner."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest

from jobs.definitions.stream_supervisor import build_stream_supervisor
from jobs.definitions.streaming_job import build_streaming_job
from jobs.operations import backup
from jobs.operations.forgetting.command import Erasure
from jobs.operations.lakehouse_copy import LakehouseCopy
from jobs.operations.recompute import recompute_stream
from jobs.platform.services import prepare_environment
from jobs.supervision import group_lease, owned_groups
from jobs.supervision.dagster_home import ensure_dagster_home, find_dagster_home
from jobs.supervision.group_lease import GroupLease, identify_myself
from jobs.supervision.held_group import hold_group
from jobs.supervision.lease import HostReport, read_control, read_lease, swap_heartbeat, write_control, write_heartbeat
from jobs.supervision.lease_owner import OPERATING, RELEASED, Hold, judge_lease
from jobs.supervision.model import ExitKind, Heartbeat
from jobs.supervision.owned_groups import OwnedGroups, own_groups
from jobs.supervision.policy import Policy
from jobs.supervision.run_host_port import RunHostPort
from jobs.supervision.run_records import build_run_config, build_run_tags, read_run, record_exit
from jobs.supervision.table_events import TableEvents
from platform_assets.errors import GroupOwnedError, InstanceUnavailableError
from platform_assets.streaming.stream_spec import KafkaStream, StreamGroup
from platform_assets.topics.events import TOPIC
from resources.processes import ProcessIdentity
from resources.settings import Settings

GROUP = StreamGroup("clickstream", (KafkaStream(TOPIC, 1.0),))
JOB = build_streaming_job([GROUP])
LAUNCHER = "run_launcher:\n  module: jobs.supervision.launcher\n  class: LocalHealthRunLauncher\n"
HOLDER = """
import sys
from pathlib import Path
from jobs.supervision.owned_groups import own_groups
from resources.settings import Settings
with own_groups(["clickstream"], "backup", Settings(home=Path(sys.argv[1]), kafka_bootstrap_servers="")):
    print("owned", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """SQLite, in a folder that a person has made for both hosts."""
    home = tmp_path / "shared"
    home.mkdir()
    (home / "dagster.yaml").write_text(LAUNCHER)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.get() as instance:
        yield instance


@pytest.fixture
def on_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Settings]:
    """Makes this process one of the named host from here on; returns the settings there."""
    monkeypatch.setattr(group_lease, "_SILENCE_SECONDS", 0.0)
    monkeypatch.setattr(owned_groups, "_PATIENCE_SECONDS", 0.0)

    def move(name: str) -> Settings:
        monkeypatch.setattr(socket, "gethostname", lambda: name)
        return Settings(home=tmp_path / name, lakehouse=str(tmp_path / "lakehouse"), kafka_bootstrap_servers="")

    return move


def start_run(instance: dg.DagsterInstance) -> str:
    config, tags = build_run_config(GROUP.name), build_run_tags(GROUP.name, "")
    run = instance.create_run_for_job(JOB, run_config=config, tags=tags)
    for kind in (dg.DagsterEventType.RUN_STARTING, dg.DagsterEventType.RUN_START):
        instance.report_dagster_event(dg.DagsterEvent(kind.value, JOB.name), run_id=run.run_id)
    return run.run_id


def host_run(instance: dg.DagsterInstance) -> tuple[str, RunHostPort]:
    run_id = start_run(instance)
    events = TableEvents([], lambda event: None)
    return run_id, RunHostPort(instance, GROUP.name, run_id, events, logging.getLogger(__name__))


def end_run(instance: dg.DagsterInstance, run_id: str) -> None:
    record_exit(instance, run_id, ExitKind.STOPPED, "paused")
    instance.report_dagster_event(dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, JOB.name), run_id=run_id)


def own(settings: Settings, wait_seconds: float = 0.0) -> OwnedGroups:
    """What a command does, that ends at once."""
    with own_groups([GROUP.name], "backup", settings, wait_seconds=wait_seconds) as owned:
        owned.demand()
        return owned


def age(instance: dg.DagsterInstance, seconds: float) -> None:
    """Makes the last heartbeat older, as that of a host that is frozen or dead."""
    seen = read_lease(instance, GROUP.name)
    assert seen.heartbeat is not None
    beat = seen.heartbeat
    old = Heartbeat(beat.run_id, beat.at - seconds, beat.process, beat.phase, beat.epoch)
    assert swap_heartbeat(instance, GROUP.name, seen.text, HostReport(old))


def test_a_command_is_refused_while_a_run_lives_on_another_host_and_goes_on_when_that_has_ended(
    instance: dg.DagsterInstance, on_host: Callable[[str], Settings]
) -> None:
    on_host("host-a")
    run_id, port = host_run(instance)
    port.report("running", {}, None)
    settings = on_host("host-b")
    words = rf"clickstream is owned by run {run_id[:8]} \(pid {os.getpid()} on host-a, heard of \d+ s ago\).*30 s after"
    with pytest.raises(GroupOwnedError, match=words):
        own(settings)
    record_exit(instance, run_id, ExitKind.STOPPED, "paused")
    with pytest.raises(GroupOwnedError, match="host-a"):  # it finishes its batches
        own(settings)
    end_run(instance, run_id)
    own(settings)


def test_a_run_that_was_killed_on_another_host_holds_its_group_until_its_heartbeat_is_old(
    instance: dg.DagsterInstance, on_host: Callable[[str], Settings]
) -> None:
    on_host("host-a")
    run_id, port = host_run(instance)
    port.report("running", {}, None)
    run = instance.get_run_by_id(run_id)
    assert run is not None
    instance.report_run_failed(run, "its process is gone")  # says another process, which may be wrong
    settings = on_host("host-b")
    with pytest.raises(GroupOwnedError, match="host-a"):
        own(settings)
    age(instance, 31)
    own(settings)
    with pytest.raises(GroupOwnedError, match="Another host has taken over"):
        port.check_lease()
    assert port.read_stop(signalled=False) is not None


def test_a_run_does_not_host_a_group_that_an_operation_owns_on_another_host(
    instance: dg.DagsterInstance, on_host: Callable[[str], Settings]
) -> None:
    with own_groups([GROUP.name], "recompute", on_host("host-b")) as owned:
        on_host("host-a")
        with pytest.raises(GroupOwnedError, match=r"a recomputation that is being prepared .*on host-b"):
            host_run(instance)
        owned.demand()
    run_id, _ = host_run(instance)
    lease = read_lease(instance, GROUP.name)
    assert lease.heartbeat is not None and (lease.heartbeat.run_id, lease.heartbeat.epoch) == (run_id, 2)


def test_a_run_that_finds_the_group_owned_says_so_and_the_supervisor_waits_until_the_operation_ends(
    instance: dg.DagsterInstance, on_host: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sensor_settings = on_host("host-a")
    sensor = build_stream_supervisor([GROUP], JOB, sensor_settings)

    def tick() -> dg.SensorResult:
        result = sensor(dg.build_sensor_context(instance))
        assert isinstance(result, dg.SensorResult)
        return result

    monkeypatch.setattr("jobs.definitions.streaming_job.load_settings", lambda: sensor_settings)
    with own_groups([GROUP.name], "backup", on_host("host-b")):
        on_host("host-a")
        config = build_run_config(GROUP.name)
        done = JOB.execute_in_process(instance=instance, run_config=config, raise_on_error=False)
        run = read_run(instance, done.run_id)
        assert run is not None and run.exit_kind is ExitKind.OWNED and "on host-b" in run.exit_reason
        held = tick()
        assert not held.run_requests
        assert "ORPHAN: the lock is held by a backup" in str(held.skip_reason) and "on host-b" in str(held.skip_reason)
        write_control(instance, GROUP.name, "pause", "ann", "a move")
        assert "HELD_OPERATOR: paused by ann" in str(tick().skip_reason)
        write_control(instance, GROUP.name, "resume", "ann")
    assert tick().run_requests


def test_a_group_that_rests_stays_paused_for_as_long_as_an_operation_of_another_host_owns_it(
    instance: dg.DagsterInstance, on_host: Callable[[str], Settings]
) -> None:
    settings = on_host("host-b")
    with hold_group(GROUP, "forget", settings, instance, "ann", "a user") as owned:
        assert read_control(instance, GROUP.name).paused
        owned.demand()
    assert not read_control(instance, GROUP.name).paused


def test_a_group_is_held_once_its_run_on_another_host_has_ended(
    instance: dg.DagsterInstance, on_host: Callable[[str], Settings]
) -> None:
    on_host("host-a")
    run_id, _ = host_run(instance)
    quick = {"supervisor_interval_seconds": 1, "stop_grace_seconds": 0}
    settings = on_host("host-b").model_copy(update=quick)
    with (
        pytest.raises(GroupOwnedError, match=r"on host-a.*is paused now"),
        hold_group(GROUP, "forget", settings, instance, "ann", "a user"),
    ):
        pytest.fail("a run of another host has it")
    assert read_control(instance, GROUP.name).paused
    end_run(instance, run_id)
    with hold_group(GROUP, "forget", settings, instance, "ann", "a user"):
        pass
    assert not read_control(instance, GROUP.name).paused


def test_an_operation_that_slept_and_was_replaced_stops_before_its_next_step(
    instance: dg.DagsterInstance, on_host: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.supervision.owned_groups.BEAT_SECONDS", 1e6)
    settings, steps = on_host("host-b"), []
    with (
        pytest.raises(GroupOwnedError, match="Another host has taken over the stream group clickstream"),
        own_groups([GROUP.name], "forget", settings) as owned,
    ):
        owned.demand()
        steps.append("first")
        age(instance, 31)
        on_host("host-a")
        host_run(instance)
        on_host("host-b")
        owned.demand()
        steps.append("a step that nobody can take back")
    assert steps == ["first"]


def test_an_operation_that_was_replaced_unseen_fails_at_its_end_and_leaves_the_other_one_its_lease(
    instance: dg.DagsterInstance, on_host: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.supervision.owned_groups.BEAT_SECONDS", 1e6)
    with pytest.raises(GroupOwnedError, match="taken over"), own_groups([GROUP.name], "backup", on_host("host-b")):
        age(instance, 31)
        on_host("host-a")
        run_id, port = host_run(instance)
    port.check_lease()
    lease = read_lease(instance, GROUP.name)
    assert lease.heartbeat is not None and lease.heartbeat.run_id == run_id


def test_an_operation_that_lives_is_heard_of(
    instance: dg.DagsterInstance, on_host: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clock may be behind: it beats while the other host listens."""
    monkeypatch.setattr("jobs.supervision.owned_groups.BEAT_SECONDS", 0.05)

    def listen(_: float) -> None:
        """Returns at the next beat: on a loaded machine that may take longer than any time."""
        before, deadline = read_lease(instance, GROUP.name), time.monotonic() + 60
        while read_lease(instance, GROUP.name) == before and time.monotonic() < deadline:
            time.sleep(0.01)

    with own_groups([GROUP.name], "backup", on_host("host-b")):
        other = on_host("host-a")
        clock = SimpleNamespace(time=lambda: 1.0, monotonic=time.monotonic, sleep=listen)
        monkeypatch.setattr(group_lease, "time", clock)
        with pytest.raises(GroupOwnedError, match="on host-b"):
            own(other)


def test_what_nobody_can_take_back_is_not_begun_while_the_storage_does_not_say_whose_the_group_is(
    instance: dg.DagsterInstance, on_host: Callable[[str], Settings], tmp_path: Path
) -> None:
    database = tmp_path / "shared" / "history" / "runs.db"
    with own_groups([GROUP.name], "forget", on_host("host-b")) as owned:
        moved = database.rename(tmp_path / "runs.db")
        try:
            with pytest.raises(InstanceUnavailableError, match="does not say who owns the stream group clickstream"):
                owned.demand()
            owned.check_lease()  # a stream's batch, which its table's transaction guards
        finally:
            database.unlink(missing_ok=True)
            moved.rename(database)
        owned.demand()


def test_two_that_claim_at_once_are_one_owner(instance: dg.DagsterInstance) -> None:
    me = identify_myself()

    def report(name: str) -> Callable[[int], HostReport]:
        return lambda epoch: HostReport(Heartbeat(name, time.time(), me, OPERATING, epoch))

    for seen in (read_lease(instance, "g"), None):  # the first heartbeat ever, and one that follows another
        seen = seen or read_lease(instance, "g")
        first, second = GroupLease(instance, "g", "first"), GroupLease(instance, "g", "second")
        assert first.claim(seen, report("first"))
        assert not second.claim(seen, report("second"))
        assert not first.is_replaced() and first.beat(report("first")(first.epoch))


def test_a_heartbeat_that_an_older_epoch_left_behind_is_written_over(instance: dg.DagsterInstance) -> None:
    """Code that knows of no swap may do so, when it sleeps in the middle of its heartbeat."""
    me = identify_myself()
    lease = GroupLease(instance, "g", "new")
    write_heartbeat(instance, "g", HostReport(Heartbeat("old", time.time(), me, "running", 4)))
    beat = HostReport(Heartbeat("new", time.time(), me, "running", 5))
    assert lease.claim(lease.read(), lambda epoch: beat) and lease.epoch == 5
    write_heartbeat(instance, "g", HostReport(Heartbeat("old", time.time(), me, "running", 4)))
    assert lease.beat(beat)
    found = lease.read().heartbeat
    assert found is not None and found.run_id == "new"
    write_heartbeat(instance, "g", HostReport(Heartbeat("newer", time.time(), me, "running", 6)))
    assert not lease.beat(beat)


def test_an_operation_that_is_killed_holds_its_group_until_its_heartbeat_is_old(
    instance: dg.DagsterInstance, on_host: Callable[[str], Settings], tmp_path: Path
) -> None:
    """Nobody waits on its own host: there the process is seen to be dead."""
    mine = Settings(home=tmp_path / "home")
    command = [sys.executable, "-c", HOLDER, str(mine.home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "owned\n"
        with pytest.raises(GroupOwnedError, match=rf"a backup \(pid {holder.pid}"):
            own(Settings(home=tmp_path / "another home of this machine"))
        holder.send_signal(signal.SIGKILL)
    beat = read_lease(instance, GROUP.name).heartbeat
    assert beat is not None and beat.phase == OPERATING
    with pytest.raises(GroupOwnedError, match=rf"a backup \(pid {holder.pid} on .*If that host is dead, its hold ends"):
        own(on_host("host-b"))
    age(instance, 31)
    own(on_host("host-b"))
    on_host(beat.process.host)
    write_heartbeat(instance, GROUP.name, HostReport(beat))
    own(mine)


def test_a_derived_stream_is_not_recomputed_while_its_group_runs_on_another_host(
    instance: dg.DagsterInstance, on_host: Callable[[str], Settings]
) -> None:
    """The command finds the shared instance by itself."""
    from platform_assets.streams import load_stream_groups

    [group] = [group for group in load_stream_groups() if group.name == GROUP.name]
    on_host("host-a")
    run_id, _ = host_run(instance)
    settings = on_host("host-b")
    with pytest.raises(GroupOwnedError, match="on host-a"):
        recompute_stream(group, "sessions", settings)
    end_run(instance, run_id)
    recompute_stream(group, "sessions", settings)


def test_a_backup_that_was_replaced_while_it_copied_is_none(
    instance: dg.DagsterInstance, on_host: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(owned_groups, "BEAT_SECONDS", 1e6)
    settings = on_host("host-b")

    def copy_slowly(*_: object) -> None:
        age(instance, 31)
        on_host("host-a")
        host_run(instance)
        on_host("host-b")

    monkeypatch.setattr(LakehouseCopy, "complete", copy_slowly)
    place = tmp_path / "copy"
    with pytest.raises(GroupOwnedError, match="Another host has taken over"):
        backup.back_up([GROUP], settings, str(place))
    assert not (place / backup.MANIFEST).exists()


def test_an_erasure_removes_no_files_of_a_group_that_it_does_not_own(tmp_path: Path) -> None:
    """VACUUM would take what another host is about to commit."""
    removed: list[str] = []

    class Eraser:
        def vacuum(self) -> None:
            removed.append("files")

    class Owned:
        def __init__(self, looks: int) -> None:
            self.looks = looks

        def demand(self) -> None:
            self.looks -= 1
            if self.looks < 0:
                raise GroupOwnedError("Another host has it.")

    erasure = Erasure.__new__(Erasure)
    erasure._erasers = {"silver.events": Eraser(), "silver.transactions": Eraser()}  # type: ignore[dict-item]
    with pytest.raises(GroupOwnedError):
        erasure.remove_files(Owned(1).demand)
    assert removed == ["files"]


def test_hosts_share_the_instance_that_a_person_has_made_for_them_and_no_other_home_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, another = Settings(home=tmp_path / "a"), Settings(home=tmp_path / "b")
    monkeypatch.setenv("DAGSTER_HOME", str(ensure_dagster_home(another)))
    assert find_dagster_home(settings) == tmp_path / "a" / "dagster"
    shared = tmp_path / "shared"
    shared.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(shared))
    for text, found in (("", "a/dagster"), ("telemetry:\n  enabled: false\n", "a/dagster"), (LAUNCHER, "shared")):
        (shared / "dagster.yaml").write_text(text)
        assert find_dagster_home(settings) == tmp_path / found
    assert prepare_environment(settings)["DAGSTER_HOME"] == str(shared)
    assert not (tmp_path / "a" / "dagster").exists()


def test_without_an_instance_the_lock_is_all_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with own_groups([GROUP.name], "backup", Settings(home=tmp_path)) as owned:
        owned.demand()
        owned.check_lease()
    assert not (tmp_path / "dagster").exists()


def test_an_instance_that_does_not_open_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("storage:\n  sqlite:\n    base_dir: /dev/null/nowhere\n")
    settings = Settings(home=tmp_path)
    with pytest.raises(InstanceUnavailableError, match="does not answer"), own_groups(["g"], "backup", settings):
        pytest.fail("nobody knows who owns it")


def test_a_dagster_home_that_is_not_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(home=tmp_path / "home")
    monkeypatch.setenv("DAGSTER_HOME", str(settings.dagster_home))
    assert find_dagster_home(settings) == settings.dagster_home and caplog.text == ""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "typing-error"))
    assert find_dagster_home(settings) == settings.dagster_home
    assert f"DAGSTER_HOME={tmp_path}/typing-error has no dagster.yaml written for Headrace" in caplog.text


THERE = ProcessIdentity("host-a", 5, "boot:1")


@pytest.mark.parametrize(
    ("phase", "seconds", "alive", "hold"),
    [
        ("running", 29, None, Hold.HELD),
        ("running", 31, None, Hold.SILENT),
        ("running", -29, None, Hold.HELD),  # that host's clock is ahead
        ("running", -31, None, Hold.SILENT),
        ("starting", 299, None, Hold.HELD),
        ("starting", 301, None, Hold.SILENT),
        ("stopping", 89, None, Hold.HELD),
        ("stopping", 91, None, Hold.SILENT),
        (OPERATING, 29, None, Hold.HELD),
        (OPERATING, 31, None, Hold.SILENT),
        (RELEASED, 0, None, Hold.FREE),
        (OPERATING, 0, False, Hold.FREE),
        (OPERATING, 31, True, Hold.SILENT),  # it is over, and could not say so: the process does other things since
        ("running", 1e6, True, Hold.HELD),  # another home of this machine: it hangs
        ("running", 0, False, Hold.FREE),
    ],
)
def test_how_long_a_heartbeat_holds_a_group(phase: str, seconds: float, alive: bool | None, hold: Hold) -> None:
    beat = Heartbeat("r", 1000.0 - seconds, THERE, phase, 1)
    assert judge_lease(beat, None, alive, 1000.0, Policy()) is hold


def test_a_group_that_nobody_ever_ran_is_free() -> None:
    assert judge_lease(None, None, None, 0.0, Policy()) is Hold.FREE
