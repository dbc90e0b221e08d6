"""Moments as Spark, Delta and Arrow count them: in whole microseconds since 1970, UTC."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
MICROS_PER_DAY = 24 * 3600 * 1_000_000


def count_micros(moment: datetime) -> int:
    """The microseconds from 1970 to a moment. Not by `timestamp()`: a float does not hold every microsecond."""
    return (moment - EPOCH) // MICROSECOND


def at_micros(micros: int) -> datetime:
    """The moment that is this many microseconds after 1970."""
    return EPOCH + micros * MICROSECOND


FIRST_MICROS, LAST_MICROS = count_micros(datetime(1, 1, 1, tzinfo=UTC)), count_micros(datetime.max.replace(tzinfo=UTC))
"""The first and the last moment that Python has."""


def find_midnight(day: date) -> datetime:
    """The moment at which a day begins."""
    return datetime.combine(day, time(), UTC)


def as_delta_sql(moment: datetime) -> str:
    """A moment in the SQL of delta-rs, to compare a column with when it deletes or replaces rows.

    delta-rs cannot compare its own `timestamp '...'`, of nanoseconds, with a column of ours.
    """
    text = moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    return f"""arrow_cast('{text}', 'Timestamp(Microsecond, Some("UTC"))')"""
