"""Sessions whose events were changed after they were read: repaired step by step as the watermark goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.derive.late_events import build_repairs
from platform_assets.streaming.repair.repair_difference import compare
from platform_assets.streaming.repair.touched_by_events import find_touched
from platform_assets.streams.sessions import STREAM
from platform_assets.tables.platform import LATE_EVENTS

pytestmark = pytest.mark.unit

AT = datetime(2026, 3, 1, tzinfo=UTC)
GAP = 30
SCHEMA = build_arrow_schema(STREAM.main_table)
NOW = datetime(2026, 11, 1, tzinfo=UTC)

Place = tuple[str, int]
"""User and minute of an event."""


def find_sessions(events: Iterable[Place]) -> list[tuple[str, int, int, int]]:
    """User, first and last minute, and number of events of each session."""
    found: list[tuple[str, int, int, int]] = []
    for user, minute in sorted(events):
        if found and found[-1][0] == user and minute - found[-1][2] <= GAP:
            found[-1] = (user, found[-1][1], minute, found[-1][3] + 1)
        else:
            found.append((user, minute, minute, 1))
    return found


def as_table(sessions: Iterable[tuple[str, int, int, int]]) -> pa.Table:
    rows = [
        {
            "user_id": user, "session_start": AT + timedelta(minutes=start), "event_count": count,
            "session_end": AT + timedelta(minutes=end), "session_date": (AT + timedelta(minutes=start)).date(),
        }
        for user, start, end, count in sessions
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, SCHEMA)


def is_closed(session: tuple[str, int, int, int], watermark: int) -> bool:
    return session[2] + GAP <= watermark


class Table:
    """`gold.sessions` as the stream and its repairs write it."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, datetime], Mapping[str, object]] = {}

    def write(self, rows: pa.Table) -> None:
        for row in rows.to_pylist():
            self.rows[row["user_id"], row["session_start"]] = row

    def remove(self, rows: pa.Table) -> None:
        for row in rows.to_pylist():
            del self.rows[row["user_id"], row["session_start"]]

    def read(self) -> pa.Table:
        return pa.Table.from_pylist(list(self.rows.values()), SCHEMA)


def list_changed(before: Mapping[int, Place], after: Mapping[int, Place]) -> pa.Table:
    """Each event that was changed, at its old place and at its new one, as a replay lists it."""
    places = [
        (key, place) for key in before.keys() | after.keys() for place in {before.get(key), after.get(key)} if place
    ]
    changed = [(key, place) for key, place in places if before.get(key) != after.get(key)]
    events = [
        {
            "topic": "t", "kafka_partition": 0, "kafka_offset": key, "event_id": str(key), "user_id": user,
            "event_time": AT + timedelta(minutes=minute), "event_type": "page_view",
        }
        for key, (user, minute) in changed
    ]  # fmt: skip
    names = ("topic", "kafka_partition", "kafka_offset", "event_id", "event_time", "user_id")
    schema = pa.schema([*(build_arrow_schema(LATE_EVENTS).field(name) for name in names), ("event_type", pa.string())])
    return build_repairs(STREAM, pa.Table.from_pylist(events, schema), NOW, 1)


places = st.tuples(st.sampled_from(["u", "v"]), st.integers(0, 12).map(lambda n: n * 10))
events = st.dictionaries(st.integers(0, 9), places, min_size=3)


@pytest.mark.parametrize("examples", [8, pytest.param(40, marks=pytest.mark.long)])
def test_the_table_becomes_what_the_changed_events_give(examples: int) -> None:
    looks = given(events, events, st.integers(0, 5), st.integers(1, 5))
    settings(max_examples=examples, deadline=None)(looks(repair_and_compare))()


def repair_and_compare(before: dict[int, Place], edits: dict[int, Place], first_look: int, step: int) -> None:
    # Every event was read before it was changed: the stream goes on with the state that it has.
    after = {key: place for key, place in {**before, **edits}.items() if key % 3 or key not in before.keys() & edits}
    pending, table, written = list_changed(before, after), Table(), -1
    state, twin = find_sessions(before.values()), as_table(find_sessions(after.values()))
    for watermark in range(10 * first_look, 160 + 10 * step, 10 * step):
        if not len(pending):  # nothing is repaired any more
            break
        table.write(as_table(s for s in state if is_closed(s, watermark) and not is_closed(s, written)))
        written = watermark
        moment = AT + timedelta(minutes=watermark)
        late = pending.filter(pc.field("event_time") <= moment - timedelta(minutes=GAP))
        present = table.read()
        touched = find_touched(twin, late, STREAM, find_touched(present, late, STREAM))
        found = compare(touched, present, late, STREAM, moment)
        table.remove(found.stale)
        table.write(found.rows)
        closed = {(row["kafka_offset"], row["user_id"], row["event_time"]) for row in found.closed.to_pylist()}
        kept = [(r["kafka_offset"], r["user_id"], r["event_time"]) not in closed for r in pending.to_pylist()]
        pending = pending.filter(pa.array(kept, pa.bool_()))
        # Sessions that nothing waits for are right at every moment.
        waiting = {row["user_id"] for row in pending.to_pylist()}
        right = [
            r
            for r in twin.to_pylist()
            if r["user_id"] not in waiting and r["session_end"] <= moment - timedelta(minutes=GAP)
        ]
        assert [r for r in _ordered(table.read()) if r["user_id"] not in waiting] == _ordered(
            pa.Table.from_pylist(right, SCHEMA)
        )
    assert len(pending) == 0
    table.write(as_table(s for s in state if not is_closed(s, written)))
    assert _ordered(table.read()) == _ordered(twin)


def _ordered(rows: pa.Table) -> list[dict[str, object]]:
    found: list[dict[str, object]] = rows.sort_by(
        [("user_id", "ascending"), ("session_start", "ascending")]
    ).to_pylist()
    return found
