"""Times of recordings: each notation is read as what it is, and what could be two things is refused."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.simulator.recorded_times import check_time_format, microseconds
from jobs.simulator.row_values import RowError
from platform_assets.errors import UsageError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Years in which a number of any unit is clear by itself.
CLEAR = st.datetimes(datetime.fromisoformat("2000-01-01"), datetime.fromisoformat("2032-06-01"))
SINCE_2000 = st.datetimes(datetime.fromisoformat("2000-01-01"), datetime.fromisoformat("9999-12-30"))


def count(moment: datetime) -> int:
    return (moment.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)


@given(SINCE_2000, st.integers(-14 * 60, 14 * 60))
def test_one_moment_is_read_the_same_in_every_notation_of_iso(naive: datetime, minutes: int) -> None:
    moment, expected = naive.replace(tzinfo=UTC), count(naive)
    for notation in (moment, naive, naive.isoformat(), f"{naive} UTC", f"{naive.isoformat()}Z", str(moment)):
        assert microseconds(notation) == microseconds(notation, "iso") == expected
    assert microseconds(naive.strftime("%Y%m%dT%H%M%S.%fZ")) == expected
    elsewhere = moment.astimezone(timezone(timedelta(minutes=minutes)))
    assert microseconds(elsewhere) == microseconds(elsewhere.isoformat()) == expected


@given(CLEAR)
def test_a_number_of_any_unit_is_clear_by_itself(naive: datetime) -> None:
    expected = count(naive)
    for number in (expected, expected * 1000):
        assert microseconds(number) == microseconds(str(number)) == expected
    for unit in (1000, 1_000_000):
        assert microseconds(expected // unit) == microseconds(float(expected // unit)) == expected // unit * unit
    assert microseconds(f"{expected // 1_000_000}.{expected % 1_000_000:06}") == expected


@given(SINCE_2000)
def test_a_format_that_is_said_is_read_back(naive: datetime) -> None:
    expected = count(naive)
    units = {"seconds": 1_000_000, "milliseconds": 1000, "microseconds": 1}
    for name, unit in units.items():
        number = expected // unit
        assert microseconds(number, name) == microseconds(str(number), name) == number * unit
    assert microseconds(expected * 1000, "nanoseconds") == expected
    for pattern in ("%Y%m%d%H%M%S", "%d/%m/%Y %H:%M:%S", "%Y-%j %H.%M.%S"):
        assert microseconds(naive.strftime(pattern), pattern) == expected // 1_000_000 * 1_000_000
    assert microseconds(naive.strftime("%Y%m%d%H%M%S%f"), "%Y%m%d%H%M%S%f") == expected
    day = count(datetime.combine(naive.date(), datetime.min.time()))
    for written in (naive.date(), str(naive.date()), f"{naive:%Y%m%d}", int(f"{naive:%Y%m%d}")):
        assert microseconds(written, "date") == day
        with pytest.raises(RowError, match="time_format"):
            microseconds(written)
    assert microseconds(naive.strftime("%G-W%V-%u"), "%G-W%V-%u") == day


@given(st.one_of(st.integers(-(10**25), 10**25), st.from_regex(r"\A[0-9]{1,20}\Z"), st.floats(), st.text(max_size=30)))
def test_whatever_is_read_by_itself_is_a_time_of_our_days_or_iso(value: Any) -> None:
    try:
        at = microseconds(value)
    except RowError as error:
        assert f"timestamp is {value!r}" in str(error)
        return
    if re.fullmatch(r"\d+", str(value).strip(), re.ASCII) or isinstance(value, float):
        assert count(datetime.fromisoformat("2000-01-01")) <= at < count(datetime.fromisoformat("2032-06-05"))
    else:
        assert "-" in str(value) or "T" in str(value) or "." in str(value) or "e" in str(value).lower()


@given(st.datetimes(datetime.fromisoformat("1970-01-01"), datetime.fromisoformat("2999-12-31")))
def test_digits_of_a_calendar_are_never_an_epoch(naive: datetime) -> None:
    for pattern in ("%Y%m%d", "%Y%m%d%H", "%Y%m%d%H%M", "%Y%m%d%H%M%S", "%Y%m%d%H%M%S%f", "%Y%m", "%H%M", "%Y"):
        written = naive.strftime(pattern)
        for value in (written, int(written)):
            with pytest.raises(RowError, match=re.escape(f"{value!r}")):
                microseconds(value)


@pytest.mark.parametrize(
    "value",
    ["20210131123000", "20210131", "0829", "2021-W05-7", "2018-09-20", date(2018, 9, 20), 20210131.0, "12:30",
     "2021-01", "", "soon", -5, 0, float("nan"), float("inf"), "1e999999999", "1_572_566_400", True, None, {},
     "2024-02-30", "2024-02-30T10:00:00", "2021-01-31T12"],
)  # fmt: skip
def test_what_is_no_clear_time_is_refused_with_its_text(value: Any) -> None:
    with pytest.raises(RowError, match="timestamp is"):
        microseconds(value)


@pytest.mark.parametrize(
    ("value", "time_format"),
    [("0", "seconds"), ("1572566400", "milliseconds"), (1572566400000, "microseconds"), ("soon", "seconds"),
     ("2021111", "%Y%m%d"), ("2021-01-31", "%Y%m%d"), ("20210230", "date"), ("2021-01-31T10:00:00", "date"),
     (1572566400, "iso"), ("20210131", "iso"), ("2021-01-31", "seconds")],
)  # fmt: skip
def test_what_is_not_of_the_format_is_refused(value: Any, time_format: str) -> None:
    with pytest.raises(RowError, match="timestamp is"):
        microseconds(value, time_format)


def test_a_pattern_with_a_zone_counts_by_it() -> None:
    assert microseconds("31/01/2021 12:30 +0200", "%d/%m/%Y %H:%M %z") == microseconds("2021-01-31T10:30:00Z")


@pytest.mark.parametrize("time_format", ["", "second", "%H%M", "%Y", "%m/%d", "%Q", "%Y-%m-%d %"])
def test_a_format_that_says_no_day_is_refused(time_format: str) -> None:
    with pytest.raises(UsageError, match="time_format"):
        check_time_format(time_format)
