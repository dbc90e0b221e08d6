"""The span of a stream's rows in event time, and what follows from it, in each language that asks.

What a row spans, when it is final, what an event touches and which events are refused is one rule each. SQL below is
read by DuckDB and by Spark alike, but for the spelling of a moment; tests/spark/test_result_span.py holds all dialects
against plain Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from platform_assets.streaming.moments import MICROSECOND, count_micros

if TYPE_CHECKING:
    import pyarrow.compute as pc

    from platform_assets.streaming.arrays import Int64s

Engine = Literal["duckdb", "spark"]


@dataclass(frozen=True)
class ResultSpan:
    """The span of a stream's rows in event time: when they are final, and which of them a late event touches.

    A row counts events from `start_column` to `end_column` (both columns of the table), and is final when the
    watermark has reached its end plus `inactivity`: the pause after which nothing can be added to it. An event is
    refused when the watermark has passed its time in the same way, or with `window` (size and slide) the end of one of
    its windows. `reach`: how long after an event a row that counts it may end; not counting what inactivity adds.
    `by_user`: a row counts events of one user, named in its column `user_column`, which the source calls so too and has
    as `roles.user_id`. `longest`, with `inactivity`: what goes on for longer is cut at its multiples since 1970 (see
    `long_sessions`). `of_pairs`: a row is a pair that a join has made of two events of one user, at `start_column` and
    at `end_column`, and counts nothing between them. A batch of it may have far more rows than it has read (a user
    with 4,000 views and 2,000 purchases makes 8,000,000), so they go to the table by way of the disk, in portions, and
    a late event is repaired by the pairs that it is in.
    """

    start_column: str
    end_column: str
    reach: timedelta
    inactivity: timedelta = timedelta(0)
    window: tuple[timedelta, timedelta] | None = None
    by_user: bool = False
    user_column: str = "user_id"
    longest: timedelta | None = None
    of_pairs: bool = False

    @property
    def comparable_after(self) -> timedelta:
        """How long after the first event that is known a row must begin to lack none of those that make it."""
        return self.reach + self.inactivity + (self.longest or timedelta(0))

    @property
    def longest_open(self) -> timedelta:
        """How far the watermark must be behind an event so that all rows that count it are final."""
        return self.reach + self.inactivity

    def final_at(self, end: datetime) -> datetime:
        """The watermark at which a row that ends then is final."""
        return end + self.inactivity


def in_words(length: timedelta) -> str:
    """A duration as Spark SQL reads it."""
    return f"{length // MICROSECOND} microseconds"


def as_moment(moment: datetime, engine: Engine) -> str:
    """SQL: a moment as a constant."""
    micros = count_micros(moment)
    return f"make_timestamptz({micros})" if engine == "duckdb" else f"timestamp_micros({micros})"


def has_ended(span: ResultSpan, row: str, watermark: str) -> str:
    """SQL: whether a row is final at a watermark, which is SQL too: nothing can be added to it any more."""
    return f"{row}.{span.end_column} + {_pause(span)} <= {watermark}"


def is_comparable(span: ResultSpan, row: str, watermark: datetime, start: datetime | None, engine: Engine) -> str:
    """SQL: whether a row is final and can be held against one that was computed from all events since `start`.

    `start` None: from all that there are. Otherwise rows that begin so near to it that they may lack some are not
    comparable; nor is a part of a long session that may not be listed yet at this watermark.
    """
    conditions = [has_ended(span, row, as_moment(watermark, engine))]
    if start is not None:
        conditions.append(f"{row}.{span.start_column} > {as_moment(start + span.comparable_after, engine)}")
    if span.longest is not None:
        conditions.append(f"NOT {_is_part_to_come(span, span.longest, row, watermark, engine)}")
    return " AND ".join(conditions)


def is_touched(span: ResultSpan, row: str, event: str) -> str:
    """SQL: whether an event (`event_time`, `user_id`) lies in a row, or too near to it to be apart from it.

    What is left of a session whose event was changed does not span the place where that was: so near is near enough. A
    pair is touched by an event at one of its ends.
    """
    start, end = f"{row}.{span.start_column}", f"{row}.{span.end_column}"
    same_user = f" AND {event}.user_id = {row}.{span.user_column}" if span.by_user else ""
    if span.of_pairs:
        return f"{event}.event_time IN ({start}, {end}){same_user}"
    return f"{event}.event_time BETWEEN {start} - {_pause(span)} AND {end} + {_pause(span)}{same_user}"


def is_continued(span: ResultSpan, row: str, event: str) -> str:
    """SQL: whether an event (`event_time`, `user_id`) comes so soon after the end of a user's row that it goes on."""
    end = f"{row}.{span.end_column}"
    return f"{row}.{span.user_column} = {event}.user_id AND {event}.event_time BETWEEN {end} AND {end} + {_pause(span)}"


def overlap(span: ResultSpan, one: str, other: str) -> str:
    """SQL: whether two rows of one user have a moment in common."""
    start, end = span.start_column, span.end_column
    common = f"{one}.{start} <= {other}.{end} AND {one}.{end} >= {other}.{start}"
    return f"{one}.{span.user_column} = {other}.{span.user_column} AND {common}"


def is_near(span: ResultSpan, first: datetime, last: datetime) -> pc.Expression:
    """Arrow: whether an event between these two moments may touch a row."""
    import pyarrow.compute as pc

    starts, ends = pc.field(span.start_column), pc.field(span.end_column)
    return (starts <= last + span.inactivity) & (ends >= first - span.inactivity)


def reaches_out(span: ResultSpan, first: datetime, last: datetime) -> pc.Expression:
    """Arrow: whether events outside of these two moments may belong to a row, too."""
    import pyarrow.compute as pc

    starts, ends = pc.field(span.start_column), pc.field(span.end_column)
    return (starts <= first + span.inactivity) | (ends >= last - span.inactivity)


def count_refused(event_micros: Int64s, span: ResultSpan, watermark_micros: int) -> Int64s:
    """Counts for each event how many of its windows are closed at a watermark; without windows 1 or 0."""
    import numpy as np

    if span.window is None:
        refused: Int64s = (event_micros + span.inactivity // MICROSECOND <= watermark_micros).astype(np.int64)
        return refused
    size, slide = (length // MICROSECOND for length in span.window)
    last_end = event_micros // slide * slide + size
    first_end = (event_micros - size) // slide * slide + slide + size
    counts: Int64s = np.maximum((np.minimum(last_end, watermark_micros) - first_end) // slide + 1, 0)
    return counts


def _is_part_to_come(span: ResultSpan, longest: timedelta, row: str, watermark: datetime, engine: Engine) -> str:
    """A part lies at one of the limits.

    That a session is longer than the longest is known as soon as it is; its parts are listed when the next limit is
    passed, and the pauses after it.
    """
    limit, pause = longest // MICROSECOND, span.inactivity // MICROSECOND
    micros = "epoch_us" if engine == "duckdb" else "unix_micros"
    start, end = f"{micros}({row}.{span.start_column})", f"{micros}({row}.{span.end_column})"
    settled = count_micros(watermark) - limit - 4 * pause
    at_limit = f"({start} % {limit} <= {pause} OR {end} % {limit} >= {limit - pause})"
    return f"({at_limit} AND {end} > {settled})"


def _pause(span: ResultSpan) -> str:
    return f"INTERVAL '{in_words(span.inactivity)}'"
