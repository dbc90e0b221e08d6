"""What is known of each report's days: final or provisional, computed from what, and whether it must be computed again.

A day is *final* when the tables of the streams it follows from are complete until its end and beyond all that may be
open then (`report_sources`); before that it is provisional. What a final day still lacks is named: see
`day_exceptions`. A day is *stale* when rows of its inputs have changed since it was computed, or its own rows by anyone
but its report, or the report's code, or when it was provisional and is final now, or when it lacks something else. What
cannot be told any more counts as changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from types import MappingProxyType
from typing import Any

import msgspec

from platform_assets.reports.concurrent_runs import commit_over_others
from platform_assets.reports.daily_report import DailyReport, PinnedTable
from platform_assets.reports.days import ONE_DAY, DayRange
from platform_assets.reports.report_sources import ReportSource
from platform_assets.streaming.delta.changed_days import find_newest_changes, is_partitioned_by_day, read_changed_since
from platform_assets.streaming.delta.commit_log import CommitLog
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streaming.repair.expiry import find_expired
from platform_assets.tables.platform import CHANGED_DAYS, COMPLETE_UNTIL
from platform_assets.tables.spec import Column, TableSpec

FINAL, PROVISIONAL = "final", "provisional"

REPORT_DAYS = TableSpec(
    name="platform.report_days",
    description="The days of each report: whether they are final, and from which versions they were computed.",
    grain="report x day",
    key=("report", "report_date"),
    columns=(
        Column("report", "string", "The report's table", nullable=False),
        Column("report_date", "date", "The day (UTC)", nullable=False),
        Column("state", "string", "final, or provisional: more may come that belongs to the day", nullable=False),
        Column("report_rows", "bigint", "Rows of the day", nullable=False),
        Column("report_version", "bigint", "Version of the report's table that wrote the day", nullable=False),
        Column("inputs", "string", "JSON: version of each input that was read", nullable=False),
        Column("code_version", "string", "The report's code then", nullable=False),
        Column("computed_at", "timestamp", "When", nullable=False),
        Column("exceptions", "string", "JSON: how many late_events and open_sessions a final day still lacks"),
    ),
)


@dataclass(frozen=True)
class DayState:
    """One row of `platform.report_days`."""

    report: str
    report_date: date
    state: str
    report_rows: int
    report_version: int
    inputs: str
    code_version: str
    computed_at: datetime
    exceptions: str | None = None

    def read_inputs(self) -> dict[str, int]:
        """The version of each input, by its table's name."""
        return msgspec.json.decode(self.inputs, type=dict[str, int])


def read_final_until(lakehouse: Any, source: ReportSource) -> datetime | None:
    """The time until which a source's days are final now; None if a stream has no complete time yet.

    Read it before the inputs.
    """
    table = lakehouse.find_table(COMPLETE_UNTIL.name)
    rows = [] if table is None else table.to_pyarrow_table().to_pylist()
    complete = {row["query"]: row["complete_until"] for row in rows}
    times = [complete.get(query) for query in source.queries]
    known = [time for time in times if time is not None]
    return min(known) - source.longest_open if len(known) == len(times) else None


def state_of(day: date, final_until: datetime | None) -> str:
    """`final` or `provisional`."""
    return FINAL if final_until is not None and DayRange(day, day).end <= final_until else PROVISIONAL


def find_stale_days(
    report: DailyReport,
    days: DayRange,
    inputs: Sequence[PinnedTable],
    final_until: datetime | None,
    lakehouse: Any,
    changes: InputChanges,
    look_from: date = date.min,
    exceptions: Mapping[date, str] = MappingProxyType({}),
) -> list[date]:
    """The days that must be computed from these versions of the inputs.

    Days before `look_from` are looked at only where something says that they may have changed: `platform.changed_days`,
    or that the streams have come to their end since. `exceptions`: what final days lack now. Days of which an input has
    expired stay as they are.
    """
    if (kept_from := read_kept_from(lakehouse, report)) > days.last:
        return []
    days = DayRange(max(days.first, kept_from), days.last)
    pinned = {table.name: table.version for table in inputs}
    code_version = report.code_version
    states = {state.report_date: state for state in read_states(lakehouse, report.table.name, days)}
    asked = {day for day in days.days() if day >= look_from}
    if look_from > days.first:
        asked |= {day for day in changes.name_days(report, states, pinned) if days.first <= day <= days.last}
        asked |= {day for day, state in states.items() if not _is_as(state, final_until, exceptions)}
        states = {day: state for day, state in states.items() if day in asked}
    stale = {
        day
        for day in asked
        if (state := states.get(day)) is None
        or state.code_version != code_version
        or not _is_as(state, final_until, exceptions)
    }
    fresh = [state for state in states.values() if state.report_date not in stale]
    stale |= {state.report_date for state in fresh if changes.touch(report, state, pinned)}
    stale |= _find_rewritten(report, fresh, lakehouse)
    return sorted(stale)


def _is_as(state: DayState, final_until: datetime | None, exceptions: Mapping[date, str]) -> bool:
    day = state.report_date
    return state.state == state_of(day, final_until) and state.exceptions == exceptions.get(day)


def read_kept_from(lakehouse: Any, report: DailyReport) -> date:
    """The first day of which no input has expired, nor any of the days around it that it takes rows from."""
    expired = find_expired(lakehouse)
    kept = [
        expired[source.table.name].until + (source.neighbours + source.earlier) * ONE_DAY
        for source in report.inputs
        if source.is_read and source.table.name in expired
    ]
    return max(kept, default=date.min)


def read_states(lakehouse: Any, report: str, days: DayRange) -> list[DayState]:
    """What is known of these days of a report."""
    table = lakehouse.find_table(REPORT_DAYS.name)
    rows = [] if table is None else table.to_pyarrow_table().to_pylist()
    own = [row for row in rows if row["report"] == report and days.first <= row["report_date"] <= days.last]
    return [DayState(**row) for row in own]


def write_states(lakehouse: Any, states: Sequence[DayState], days: DayRange) -> None:
    """Puts these in the place of what was known of their report's days, in one commit."""
    import pyarrow as pa
    from deltalake import write_deltalake

    data = pa.Table.from_pylist([vars(state) for state in states], build_arrow_schema(REPORT_DAYS))
    predicate = f"report = '{states[0].report}' and {days.predicate('report_date')}"

    def write() -> None:
        table = create_table(lakehouse.table_uri(REPORT_DAYS.name), REPORT_DAYS, lakehouse.storage_options())
        write_deltalake(table, data, mode="overwrite", predicate=predicate)

    commit_over_others(write)


class InputChanges:
    """What has changed in the reports' inputs. One for all reports of a run: their logs are read once."""

    def __init__(self, lakehouse: Any) -> None:
        self._lakehouse = lakehouse
        table = lakehouse.find_table(CHANGED_DAYS.name)
        self._rows: Iterable[Mapping[str, Any]] = [] if table is None else table.to_pyarrow_table().to_pylist()
        self._found: dict[tuple[str, int, int], set[date] | None] = {}

    def name_days(self, report: DailyReport, states: Mapping[date, DayState], pinned: Mapping[str, int]) -> set[date]:
        """Days that `platform.changed_days` has with a newer version than they were computed from, or never were.

        And those that were computed from another table in an input's place. Without the commits since the group wrote
        `platform.changed_days` last, which are a minute's.
        """
        read: dict[date, dict[str, int]] = {day: state.read_inputs() for day, state in states.items()}
        sources = {source.table.name: source for source in report.inputs}
        replaced = {day for day, versions in read.items() if any(versions.get(n, 0) > v for n, v in pinned.items())}
        return replaced | {
            day
            for row in self._rows
            if row["table_name"] in sources and row["day"] is not None
            for day in sources[row["table_name"]].days_touched(row["day"])
            if (day not in read and day == row["day"])
            or (day in read and row["version"] > read[day].get(row["table_name"], -1))
        }

    def find_before(self, day: date) -> set[date]:
        """Days before this one of which `platform.changed_days` knows rows."""
        return {row["day"] for row in self._rows if row["day"] is not None and row["day"] < day}

    def touch(self, report: DailyReport, state: DayState, pinned: Mapping[str, int]) -> bool:
        """Whether rows of the inputs that the day depends on have changed since it was computed, or may have."""
        read = state.read_inputs()
        for source in report.inputs:
            if is_partitioned_by_day(source.table):
                since = read.get(source.table.name)
                changed = None if since is None else self._find(source.table, since, pinned[source.table.name])
                if changed is None or changed & source.days_read(state.report_date):
                    return True
        return False

    def _find(self, spec: TableSpec, since: int, until: int) -> set[date] | None:
        if since > until:
            return None  # another table in the same place
        key = (spec.name, since, until)
        if key not in self._found:
            self._found[key] = read_changed_since(self._rows, _log_of(self._lakehouse, spec), spec, since, until)
        return self._found[key]


def _find_rewritten(report: DailyReport, states: Sequence[DayState], lakehouse: Any) -> set[date]:
    """The days whose rows somebody else has changed since the report wrote them, or may have changed."""
    if not states:
        return set()
    oldest, newest = min(state.report_version for state in states), lakehouse.delta_table(report.table.name).version()
    changed, whole_since = find_newest_changes(_log_of(lakehouse, report.table), report.day_column, oldest, newest)
    return {
        state.report_date
        for state in states
        if not whole_since <= state.report_version <= newest or changed.get(state.report_date, 0) > state.report_version
    }


def _log_of(lakehouse: Any, spec: TableSpec) -> CommitLog:
    return CommitLog(lakehouse.table_uri(spec.name), "", lakehouse.storage_options())
