"""What a supervisor and its hosts have on record is read as older code wrote it: each literal text is that code's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.supervision.cursor import format_cursor, parse_cursor
from jobs.supervision.group_lock import hold_group_lock, lock_path, read_lock
from jobs.supervision.lease import HostReport, read_control, read_report, read_stop, write_heartbeat, write_stop
from jobs.supervision.model import Control, Heartbeat, Phase, StopCause, StopRecord, SupervisorState
from resources.processes import ProcessIdentity

PROCESS, JVM = ProcessIdentity("vm", 29470, "b6287171:3146086"), ProcessIdentity("vm", 29512, "b6287171:3146301")

BEAT = (
    '{"v": 1, "run_id": "0b5d7c1e", "at": 1795891850.25, '
    '"process": {"host": "vm", "pid": 29470, "start": "b6287171:3146086"}, "phase": "running", "epoch": 3, '
    '"jvm": {"host": "vm", "pid": 29512, "start": "b6287171:3146301"}, "stalled_query": "events", '
    '"stalled_seconds": 12.5, "queries": {"events": {"batch_id": 4, "rate": 1.5, "held_since": null}}}'
)
STARTING = (
    '{"v": 1, "run_id": "0b5d7c1e", "at": 1795891850.25, '
    '"process": {"host": "vm", "pid": 29470, "start": "b6287171:3146086"}, "phase": "starting", "epoch": 0, '
    '"jvm": null, "stalled_query": "", "stalled_seconds": 0.0, "queries": {}}'
)
STOP = (
    '{"v": 1, "run_id": "0b5d7c1e", "cause": "hung", "why": "no sign of life; caf\\u00e9", "at": 1795891900.0, '
    '"cancelled_at": 1795891930.5, "killed_at": null}'
)
CONTROL = (
    '{"v": 1, "paused": true, "paused_by": "ann", "pause_reason": "for a move", "forgiven_runs": ["a", "b"], '
    '"restart_runs": ["c"], "paused_streams": {"events": "bob"}, "streams_restart_at": {"sessions": 1795892168.300572}}'
)
CURSOR = (
    '{"g": {"phase": "RUNNING", "phase_since": 1795891850.3, "paused_streams": ["events"], "reason": "all is well", '
    '"run_id": "0b5d"}, "h": {"phase": "BACKOFF", "phase_since": 5, "paused_streams": [], '
    '"reason": "fails \\udcff", "run_id": ""}}'
)
LOCK = (
    '{"v": 1, "mode": "run", "run_id": "r1", '
    '"process": {"host": "elsewhere", "pid": 29470, "start": "b6287171:3146086"}, "since": 1795891850.4467218}'
)


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def put(instance: dg.DagsterInstance, kind: str, text: str) -> None:
    instance.daemon_cursor_storage.set_cursor_values({f"headrace/{kind}/g": text})


def read_text(instance: dg.DagsterInstance, kind: str) -> str:
    [text] = instance.daemon_cursor_storage.get_cursor_values({f"headrace/{kind}/g"}).values()
    return text


def test_heartbeats_are_read_and_written_as_before(instance: dg.DagsterInstance) -> None:
    beat = Heartbeat("0b5d7c1e", 1795891850.25, PROCESS, "running", 3, JVM, "events", 12.5)
    running = HostReport(beat, {"events": {"batch_id": 4, "rate": 1.5, "held_since": None}})
    starting = HostReport(Heartbeat("0b5d7c1e", 1795891850.25, PROCESS, "starting"))
    for text, report in ((BEAT, running), (STARTING, starting)):
        put(instance, "heartbeat", text)
        assert read_report(instance, "g") == report
        write_heartbeat(instance, "g", report)
        assert read_text(instance, "heartbeat") == text


def test_requests_and_stops_are_read_as_before_and_stops_written_so(instance: dg.DagsterInstance) -> None:
    put(instance, "control", CONTROL)
    put(instance, "stop", STOP)
    stop = StopRecord("0b5d7c1e", StopCause.HUNG, "no sign of life; café", 1795891900.0, 1795891930.5)
    assert read_control(instance, "g") == Control(
        True, "ann", "for a move", ("a", "b"), ("c",), {"events": "bob"}, {"sessions": 1795892168.300572}, stop
    )
    write_stop(instance, "g", stop)
    assert read_text(instance, "stop") == STOP


def test_a_field_that_newer_code_writes_is_left_out(instance: dg.DagsterInstance) -> None:
    newer = {**json.loads(BEAT), "memory": 5}
    newer["process"] |= {"container": "c1"}
    put(instance, "heartbeat", json.dumps(newer))
    put(instance, "stop", json.dumps({**json.loads(STOP), "by": "ann"}))
    report, stop = read_report(instance, "g"), read_stop(instance, "g")
    assert report is not None and report.heartbeat.process == PROCESS
    assert stop is not None and stop.cause is StopCause.HUNG


@pytest.mark.parametrize("lacking", ["run_id", "at", "process", "phase"])
def test_a_heartbeat_that_lacks_what_it_must_have_is_an_error(instance: dg.DagsterInstance, lacking: str) -> None:
    put(instance, "heartbeat", json.dumps({k: v for k, v in json.loads(BEAT).items() if k != lacking}))
    with pytest.raises(ValueError, match=lacking):
        read_report(instance, "g")


# Half a surrogate pair is what Python makes of a command line's bytes that are no UTF-8.
TEXTS = st.text(st.characters(exclude_categories=()), max_size=8)
TIMES = st.floats(0, 4e9)
PROCESSES = st.builds(ProcessIdentity, TEXTS, st.integers(1, 2**22), TEXTS)
BEATS = st.builds(Heartbeat, TEXTS, TIMES, PROCESSES, TEXTS, st.integers(0), st.none() | PROCESSES, TEXTS, TIMES)
STOPS = st.builds(StopRecord, TEXTS, st.sampled_from(StopCause), TEXTS, TIMES, st.none() | TIMES, st.none() | TIMES)


@given(beat=BEATS, stop=STOPS)
def test_any_heartbeat_and_any_stop_survive_the_storage(
    instance: dg.DagsterInstance, beat: Heartbeat, stop: StopRecord
) -> None:
    write_heartbeat(instance, "g", HostReport(beat))
    write_stop(instance, "g", stop)
    assert read_report(instance, "g") == HostReport(beat)
    assert read_stop(instance, "g") == stop


def test_the_cursor_is_read_and_written_as_before() -> None:
    states = {
        "g": SupervisorState(Phase.RUNNING, 1795891850.3, ("events",), "all is well", "0b5d"),
        "h": SupervisorState(Phase.BACKOFF, 5, (), "fails \udcff", ""),
    }
    assert parse_cursor(CURSOR) == states
    assert format_cursor(states) == CURSOR
    first = '{"g": {"phase": "RUNNING", "phase_since": 5.0, "paused_streams": []}}'
    assert parse_cursor(first) == {"g": SupervisorState(Phase.RUNNING, 5.0)}
    newer = '{"g": {"phase": "RUNNING", "phase_since": 5.0, "paused_streams": [], "memory": 1}}'
    assert parse_cursor(newer) == parse_cursor(first)


BROKEN = ["", "no JSON", "null", "[]", "1", '{"g": 1}', '{"g": {}}']


@pytest.mark.parametrize("text", [None, *BROKEN, CURSOR.replace("RUNNING", "RESTING"), CURSOR.replace("5", '"5"')])
def test_a_cursor_that_is_none_is_forgotten(text: str | None) -> None:
    assert parse_cursor(text) == {}


TENTHS = st.integers(0, 40_000_000_000).map(lambda tenths: tenths / 10)
STATES = st.builds(SupervisorState, st.sampled_from(Phase), TENTHS, st.lists(TEXTS).map(tuple), TEXTS, TEXTS)


@given(st.dictionaries(TEXTS, STATES))
def test_any_state_survives_the_cursor(states: dict[str, SupervisorState]) -> None:
    assert parse_cursor(format_cursor(states)) == states


def test_the_lock_names_its_owner_as_before_and_to_older_code(tmp_path: Path) -> None:
    with hold_group_lock(tmp_path, "g", "run", "r1"):
        mine = json.loads(lock_path(tmp_path, "g").read_text())
        assert mine.keys() == json.loads(LOCK).keys() and mine["process"].keys() == json.loads(LOCK)["process"].keys()
        lock_path(tmp_path, "g").write_text(LOCK)
        lock = read_lock(tmp_path, "g")
    assert (lock.owner_mode, lock.owner_run_id, lock.owner_alive) == ("run", "r1", None)
    assert lock.owner == replace(PROCESS, host="elsewhere")
    assert lock.text == "run r1 (pid 29470 on elsewhere)"
