"""Which older day of a report is compared next to those of its newest commit: each in its turn, one an hour."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from platform_assets.reports.daily_report import DailyReport
from platform_assets.reports.day_states import (
    FINAL,
    InputChanges,
    read_final_until,
    read_kept_from,
    read_states,
    state_of,
)
from platform_assets.reports.days import DayRange

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deltalake import DeltaTable

# Days whose inputs have changed wait for their next computation, and are passed over: but not a year of them an hour.
_DAYS_TRIED = 10

_ALL_DAYS = DayRange(date.min, date.max)


def choose_older_day(
    lakehouse: Any, report: DailyReport, inputs: Mapping[str, DeltaTable], newest: DayRange, now: datetime
) -> date | None:
    """A final day outside `newest` whose rows still must follow from `inputs` (by name), by the turn of the hour.

    The versions that an old day was computed from are gone, but where no row of the inputs has changed for it since,
    the present ones hold the same. None: there is no such day among those tried.
    """
    final_until, kept_from = read_final_until(lakehouse, report.source), read_kept_from(lakehouse, report)
    states = [
        state
        for state in read_states(lakehouse, report.table.name, _ALL_DAYS)
        if not newest.first <= state.report_date <= newest.last
        and state.report_date >= kept_from
        and state.state == state_of(state.report_date, final_until) == FINAL
    ]
    if not states:
        return None
    states.sort(key=lambda state: state.report_date)
    turn = int(now.astimezone(UTC).timestamp() // 3600) % len(states)
    pinned = {name: table.version() for name, table in inputs.items()}
    changes = InputChanges(lakehouse)
    for state in (states[turn:] + states[:turn])[:_DAYS_TRIED]:
        if not changes.touch(report, state, pinned):
            return state.report_date
    return None
