"""Heartbeats, stop records and people's requests, in the Dagster instance's key-value storage.

That storage (`daemon_cursor_storage`, not a public name in Dagster 1.13; a test covers our use) takes 3 ms a write,
does not grow, and is the same in SQLite and Postgres, so that hosts need no second place to meet. Each value is JSON
with a version; a value of another version reads as absent, and a field that this code does not know is left out. A
value that lacks a field, or has another type in it, is an error.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import dagster as dg
import msgspec

from jobs.supervision.model import Control, Heartbeat, StopCause, StopRecord
from jobs.supervision.run_records import read_runs

_VERSION = 1
# The supervisor judges no more than these unless a crash loop is set to be longer than eight failures.
_JUDGED_RUNS = 25

ControlCommand = Literal["pause", "resume", "restart"]


@dataclass(frozen=True)
class HostReport:
    """A heartbeat with what people want to see as well.

    That is plain progress values by query name, and by process (`host`, `jvm`, `workers`) what it uses.
    """

    heartbeat: Heartbeat
    queries: dict[str, dict[str, Any]] = field(default_factory=dict)
    processes: dict[str, dict[str, float]] = field(default_factory=dict)


def write_heartbeat(instance: dg.DagsterInstance, group: str, report: HostReport) -> None:
    """Called by the host every few seconds, and at each change of its phase."""
    _write(instance, f"headrace/heartbeat/{group}", _as_value(report))


@dataclass(frozen=True)
class LeaseRecord:
    """The heartbeat that holds a group's lease, and its text in the storage: what a swap expects to find there."""

    text: str | None
    heartbeat: Heartbeat | None


def read_lease(instance: dg.DagsterInstance, group: str) -> LeaseRecord:
    """Reads what a following `swap_heartbeat` is based on."""
    key = f"headrace/heartbeat/{group}"
    text = instance.daemon_cursor_storage.get_cursor_values({key}).get(key)
    report = _parse_report(_parse(text))
    return LeaseRecord(text, None if report is None else report.heartbeat)


def swap_heartbeat(instance: dg.DagsterInstance, group: str, seen: str | None, report: HostReport) -> str | None:
    """Writes a heartbeat where the text `seen` still stands (None: nothing), in one step; returns its text.

    Returns None, and writes nothing, where somebody has written since. Of two holders that have seen the same one wins.
    """
    from dagster._core.storage.runs.schema import KeyValueStoreTable as Values
    from dagster._core.storage.runs.sql_run_storage import SqlRunStorage
    from sqlalchemy.exc import IntegrityError

    storage, key = instance.daemon_cursor_storage, f"headrace/heartbeat/{group}"
    assert isinstance(storage, SqlRunStorage)  # SQLite, Postgres and in memory
    text = _format(_as_value(report))
    try:
        with storage.connect() as connection:
            if seen is None:
                connection.execute(Values.insert().values(key=key, value=text))
                return text
            is_seen = (Values.c.key == key) & (Values.c.value == seen)
            return text if connection.execute(Values.update().where(is_seen).values(value=text)).rowcount else None
    except IntegrityError:  # the key is there since
        return None


@dataclass(frozen=True)
class GroupRecords:
    """All that is on record about a group."""

    report: HostReport | None
    control: Control


def read_records(instance: dg.DagsterInstance, groups: Sequence[str]) -> dict[str, GroupRecords]:
    """Reads what `read_report` and `read_control` return for each group, in one query."""
    keys = {f"headrace/{kind}/{group}" for kind in ("heartbeat", "control", "stop") for group in groups}
    values = _read(instance, keys)
    return {
        group: GroupRecords(
            _parse_report(values.get(f"headrace/heartbeat/{group}")),
            _parse_control(values.get(f"headrace/control/{group}"), values.get(f"headrace/stop/{group}")),
        )
        for group in groups
    }


def read_report(instance: dg.DagsterInstance, group: str) -> HostReport | None:
    """The last heartbeat of any host of the group, with its queries' progress; None when there never was one."""
    return read_records(instance, [group])[group].report


def _parse_report(value: dict[str, Any] | None) -> HostReport | None:
    if value is None:
        return None
    return HostReport(msgspec.convert(value, Heartbeat), value["queries"], value.get("processes", {}))


def _as_value(report: HostReport) -> dict[str, Any]:
    used = {"processes": report.processes} if report.processes else {}
    return {**asdict(report.heartbeat), "queries": report.queries, **used}


def write_stop(instance: dg.DagsterInstance, group: str, record: StopRecord) -> None:
    """Asks the host of `record.run_id` to stop; it polls for this with every heartbeat."""
    _write(instance, f"headrace/stop/{group}", asdict(record))


def read_stop(instance: dg.DagsterInstance, group: str) -> StopRecord | None:
    """The last stop that was asked for in this group; it may be about a run that ended long ago."""
    return read_control(instance, group).stop


def request_shutdown(instance: dg.DagsterInstance, group: str, why: str) -> str | None:
    """Asks the group's host to stop with no supervisor's help, as a platform does that goes down.

    Returns the id of the run that was asked, or None when no host has ever reported. The run ends cleanly and is
    started again by the next supervisor that ticks: stop the daemon before, or at once after.
    """
    report = read_report(instance, group)
    if report is None:
        return None
    run_id = report.heartbeat.run_id
    write_stop(instance, group, StopRecord(run_id, StopCause.SHUTDOWN, why, time.time()))
    return run_id


def write_control(
    instance: dg.DagsterInstance,
    group: str,
    command: ControlCommand,
    by: str,
    reason: str = "",
    stream: str = "",
) -> None:
    """Records a person's request; the supervisor acts on it at its next tick.

    `pause` stops the group and holds it. `resume` ends every hold (pause, Terminate, crash loop, terminal error).
    `restart` does the same and replaces a run that is live. With a `stream` it is about this one only, which the
    group's host stops, holds or starts while the others go on; a pause of a stream outlives the group's runs.
    """
    control = read_control(instance, group)
    if stream:
        control = _control_stream(control, stream, command, f"{by} ({reason})" if reason else by)
    elif command == "pause":
        control = replace(control, paused=True, paused_by=by, pause_reason=reason)
    else:
        runs = read_runs(instance, group, _JUDGED_RUNS)
        ended = tuple(run.run_id for run in runs if run.is_finished)
        living = tuple(run.run_id for run in runs if not run.is_finished) if command == "restart" else ()
        control = replace(
            control, paused=False, paused_by="", pause_reason="", forgiven_runs=ended, restart_runs=living
        )
    value = asdict(control)
    del value["stop"]
    _write(instance, f"headrace/control/{group}", value)


def _control_stream(control: Control, stream: str, command: ControlCommand, who: str) -> Control:
    paused = {name: why for name, why in control.paused_streams.items() if name != stream}
    if command == "pause":
        return replace(control, paused_streams={**paused, stream: who})
    restarts = (
        {**control.streams_restart_at, stream: time.time()} if command == "restart" else control.streams_restart_at
    )
    return replace(control, paused_streams=paused, streams_restart_at=restarts)


def read_control(instance: dg.DagsterInstance, group: str) -> Control:
    """What people asked for, and the last stop."""
    return read_records(instance, [group])[group].control


def _parse_control(control: dict[str, Any] | None, stop: dict[str, Any] | None) -> Control:
    # A record of an older version may know more, which is left out: a pause outlives an upgrade.
    asked = msgspec.convert(control or {}, Control)
    return replace(asked, stop=None if stop is None else msgspec.convert(stop, StopRecord))


def _write(instance: dg.DagsterInstance, key: str, value: dict[str, Any]) -> None:
    instance.daemon_cursor_storage.set_cursor_values({key: _format(value)})


def _format(value: dict[str, Any]) -> str:
    return json.dumps({"v": _VERSION, **value})


def _parse(text: str | None) -> dict[str, Any] | None:
    # Not by msgspec: a reason may have half a surrogate pair, from the bytes of a command line.
    value: dict[str, Any] = json.loads(text) if text else {}
    return value if value.pop("v", None) == _VERSION else None


def _read(instance: dg.DagsterInstance, keys: Set[str]) -> dict[str, dict[str, Any]]:
    found = instance.daemon_cursor_storage.get_cursor_values(set(keys)).items()
    return {key: value for key, text in found if (value := _parse(text)) is not None}
