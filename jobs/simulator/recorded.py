"""Replays a recorded clickstream of the user's own."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from jobs.simulator.mapping import RowMapping, derived_event_id
from jobs.simulator.producer import Pace
from jobs.simulator.recorded_times import iso
from jobs.simulator.replay_tally import ReplayTally
from jobs.simulator.row_files import Format, RowFile, format_of
from jobs.simulator.row_values import RowError
from jobs.simulator.simulated_topic import Record
from jobs.simulator.time_survey import DAY, HOUR, TimeSurvey
from platform_assets.errors import UsageError

TimeMode = Literal["original", "compressed", "present"]

# A paced replay sorts this many rows at a time by their times: some megabytes.
_SORTED_ROWS = 10_000

# (time in microseconds since 1970, row number, event without its timestamp).
_TimedEvent = tuple[int, int, dict[str, Any]]


@dataclass
class Recording:
    """A file of events, and how to turn its rows into records. Take `records` once; `tally` is then what happened.

    A row that cannot become a record at all (no time, no user, no type, a text where a number belongs, not JSON) is
    not sent but counted and shown, or with `strict` ends the replay. Any other row is sent as it is: whether the event
    is good is for the stream to judge, which keeps what it refuses. A row without its topic's id gets one that is
    always the same for this row.

    `time`: `original` leaves timestamps alone and sends as fast as possible; `compressed` leaves them alone and paces
    the records, `speed` times as fast as they happened; `present` shifts them: with `anchor` `first` the first row
    happens now and the rest follows at `speed` (1: as recorded), with `last` the latest row has just happened
    and all is sent at once.

    Where times say when or as what a row is sent (all but `original`), rows that `TimeSurvey` finds more than
    `far_days` from the rest count as rows that cannot become a record. A paced replay sends the rows in the order of
    their times, as far as one is at most 10,000 rows from its place, and shortens a silence for which it would wait
    longer than `longest_wait` seconds.
    """

    path: Path
    format: Format | None = None
    mapping: RowMapping = field(default_factory=RowMapping)
    time: TimeMode = "original"
    speed: float | None = None
    anchor: Literal["first", "last"] = "first"
    strict: bool = False
    far_days: float = 1.0
    longest_wait: float = 3600.0
    tally: ReplayTally = field(default_factory=ReplayTally)

    def __post_init__(self) -> None:
        if not self.path.is_file():
            raise UsageError(f"The recording {self.path} is not a file. Check the path.")
        self.file = RowFile(self.path, self.format or format_of(self.path))
        if self.speed is not None and not 0 < self.speed < float("inf"):
            raise UsageError(f"speed is {self.speed}. Give a number above 0.")
        if self.speed is not None and self.pace is None:
            raise UsageError("speed needs a paced replay. Take time compressed, or present with anchor first.")
        if not self.far_days * DAY >= HOUR:
            raise UsageError(f"far_days is {self.far_days}. Give at least 0.05 (an hour), or inf for no limit.")
        if not self.longest_wait > 0:
            raise UsageError(f"longest_wait is {self.longest_wait}. Give seconds above 0, or inf for no limit.")

    @property
    def pace(self) -> Pace:
        """When a record leaves, for `send_records`."""
        if self.time == "compressed":
            return self.speed or 60.0
        return "wall_clock" if self.time == "present" and self.anchor == "first" else None

    def records(self, now: int) -> Iterator[Record]:
        """Records in the file's order, or of their times when paced; a send time is never before the one before.

        `now` is microseconds since 1970. Raises `UsageError`, with the row's number, for a bad row when strict, and
        for a file that is not what its format says.
        """
        bounds = None if self.time == "original" else self._bounds()
        events = self._events(bounds)
        if self.pace is None:
            shift = now - bounds[1] if bounds else 0
            return self._encoded((at + shift, at + shift, number, event) for at, number, event in events)
        return self._encoded(self._paced(self._sorted(events), now))

    def _bounds(self) -> tuple[int, int]:
        column, survey = self.mapping.column_of("timestamp"), TimeSurvey()
        for _, row in self.file.rows([column]):
            try:
                if not isinstance(row, RowError):
                    survey.add(self.mapping.time(row))
            except RowError:
                continue  # the second reading names the row
        bounds = survey.bounds(self.far_days * DAY)
        if bounds is None:
            raise UsageError(f"No row of {self.path} has a time in column {column!r}. Map a column to timestamp.")
        return bounds

    def _events(self, bounds: tuple[int, int] | None) -> Iterator[_TimedEvent]:
        for number, row in self.file.rows():
            try:
                if isinstance(row, RowError):
                    raise row
                event, at = self.mapping.event(row)
                if bounds and not bounds[0] <= at <= bounds[1]:
                    first, last = iso(bounds[0]), iso(bounds[1])
                    raise RowError(f"timestamp is {iso(at)}, far from the rest ({first} to {last}; --far-days)")
                if derived := self.mapping.fields.derived_id:
                    event.setdefault(derived, derived_event_id(row, number))
            except (RowError, OverflowError) as error:
                self._refuse(number, error)
                continue
            self.tally.note_order(number, at)
            yield at, number, event

    def _sorted(self, events: Iterator[_TimedEvent]) -> Iterator[_TimedEvent]:
        # Numbers of rows differ, so that no two events are ever compared.
        waiting: list[_TimedEvent] = []
        for timed in events:
            if len(waiting) < _SORTED_ROWS:
                heapq.heappush(waiting, timed)
            else:
                yield heapq.heappushpop(waiting, timed)
        while waiting:
            yield heapq.heappop(waiting)

    def _paced(self, events: Iterator[_TimedEvent], now: int) -> Iterator[tuple[int, int, int, dict[str, Any]]]:
        """(send time, timestamp, row number, event): see `Pace` for what a send time is."""
        is_present = self.pace == "wall_clock"
        speed = self.speed or (1.0 if is_present else 60.0)
        limit = self.longest_wait * 1e6 * speed
        first: int | None = None
        latest = cut = 0
        for at, number, event in events:
            if first is None:
                first = latest = at
            if at < latest:
                self.tally.sent_unordered += 1
            excess = at - latest - limit
            if excess > 0:
                cut += round(excess)
                self.tally.silences += 1
            latest = max(latest, at)
            sent_at = now + round((at - first - cut) / speed) if is_present else at - cut
            self.tally.paced_row = (number, at)
            yield sent_at, sent_at if is_present else at, number, event

    def _encoded(self, events: Iterator[tuple[int, int, int, dict[str, Any]]]) -> Iterator[Record]:
        latest = 0
        for sent_at, at, number, event in events:
            try:
                event["timestamp"] = iso(at)
                value = msgspec.json.encode(event, enc_hook=str)
            except (OverflowError, msgspec.EncodeError) as error:
                self._refuse(number, error)
                continue
            latest = max(latest, sent_at)
            self.tally.records += 1
            yield latest, str(event[self.mapping.fields.key]).encode(), value

    def _refuse(self, number: int, error: Exception) -> None:
        text = f"row {number:,}: {error}"
        if self.strict:
            raise UsageError(f"{self.path}, {text}. Fix the row or the mapping, or leave out strict.")
        self.tally.refuse(text)
