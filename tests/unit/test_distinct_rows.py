"""A stream that counts distinct values gets each once, and the ledger's count of rows stays what it was."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.streaming.derive.distinct_rows import STANDS_FOR, keep_distinct
from platform_assets.streaming.stream_spec import TableSource
from platform_assets.topics.events import EVENTS

pytestmark = pytest.mark.unit

SCHEMA = pa.schema([("event_time", pa.timestamp("us", tz="UTC")), ("user_id", pa.string()), ("amount", pa.float64())])
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Around 1970, for a window's beginning is counted from there, and around a change of summer time in many zones.
TIMES = st.one_of(
    st.integers(-200_000_000, 200_000_000).map(lambda micros: EPOCH + timedelta(microseconds=micros)),
    st.integers(0, 7_200_000_000).map(
        lambda micros: datetime(2024, 3, 31, tzinfo=UTC) + timedelta(microseconds=micros)
    ),
)
ROWS = st.lists(st.tuples(TIMES, st.sampled_from(["a", "b", None]), st.sampled_from([0.5, None])), max_size=40)


def _table(rows: list[tuple[datetime, str | None, float | None]]) -> pa.Table:
    return pa.table([list(column) for column in zip(*rows, strict=True)] or [[], [], []], schema=SCHEMA)


def _counted(table: pa.Table) -> Counter[tuple[object, ...]]:
    found: Counter[tuple[object, ...]] = Counter()
    for row in table.to_pylist():
        key = (row["event_time"], row["user_id"], row["amount"])
        assert key not in found
        found[key] = row[STANDS_FOR]
    return found


@given(ROWS, ROWS, st.sampled_from([1, 7, 60, 300, 3600]))
def test_each_distinct_row_comes_once_and_says_how_many_it_stands_for(
    first: list[tuple[datetime, str | None, float | None]],
    second: list[tuple[datetime, str | None, float | None]],
    seconds: int,
) -> None:
    within = timedelta(seconds=seconds)
    expected = Counter((EPOCH + (time - EPOCH) // within * within, *rest) for time, *rest in first + second)
    whole = keep_distinct(_table(first + second), "event_time", within)
    assert whole.schema.names == [*SCHEMA.names, STANDS_FOR]
    assert _counted(whole) == expected
    # What was reduced before counts as what it stands for.
    reduced = keep_distinct(_table(first), "event_time", within)
    more = pa.concat_tables(
        [reduced, _table(second).append_column(STANDS_FOR, pa.array([1] * len(second), pa.int64()))]
    )
    assert _counted(keep_distinct(more, "event_time", within)) == expected


@pytest.mark.parametrize("within", [timedelta(milliseconds=1500), timedelta(seconds=-1)])
def test_only_whole_seconds_are_taken(within: timedelta) -> None:
    with pytest.raises(ValueError, match=r"silver\.events: distinct_within must be whole seconds"):
        TableSource(
            table=EVENTS, columns=("user_id",), time_column="event_time", watermark_delay=within, distinct_within=within
        )
