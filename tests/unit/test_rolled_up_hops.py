"""The rolled-up account of a hop gets the verdict that the batches' own gets, and is as short as may be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.checks.hop_ledger import _count, _find_versions, find_hop_breaches
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table, open_table
from platform_assets.streaming.ledgers.ledger_days import LedgerDays
from platform_assets.streaming.ledgers.rolled_up_hops import roll_up_hops
from platform_assets.tables.platform import HOP_LEDGER

START = datetime(2026, 3, 1, 23, 59, 30, tzinfo=UTC)
FAULTS = ("none", "hole", "doubled", "miscounted", "another version")
Row = dict[str, Any]


def hop(batch: int, version: int, until: int, rows: int, *, is_known: bool = True, at: datetime = START) -> Row:
    return {
        "query": "q", "txn_app_id": "headrace/q/a", "first_batch_id": batch, "batch_id": batch,
        "source_table": "silver.events", "from_version": version, "from_files": -1, "until_version": until,
        "until_files": -1, "rows_passed": rows + 1, "rows_in": rows, "rows_read": rows if is_known else None,
        "rows_out": 1, "rows_late": 0, "rows_in_state": batch if is_known else None,
        "rows_expired": 1 if is_known else None, "planned_at": at + timedelta(seconds=2 * batch),
    }  # fmt: skip


@st.composite
def histories(draw: st.DrawFn) -> list[Row]:
    rows, version = [], -1
    for batch in range(draw(st.integers(1, 30))):
        until = version + draw(st.integers(0, 3))
        rows.append(hop(batch, version, until, draw(st.integers(0, 5)), is_known=draw(st.integers(0, 5)) > 0))
        version = until
    return rows


def break_it(rows: list[Row], fault: str, at: int) -> list[Row]:
    found = [dict(row) for row in rows]
    own = found[at % len(found)]
    if fault == "hole":
        found.remove(own)
    elif fault == "doubled":
        found.append(dict(own))
    elif fault == "miscounted":
        own["rows_read"] = own["rows_in"] + 1
    elif fault == "another version":
        own["from_version"] += 1
    return found


def as_table(rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows, build_arrow_schema(HOP_LEDGER))


@given(rows=histories(), fault=st.sampled_from(FAULTS), at=st.integers(0, 30), apart=st.integers(0, 2))
def test_rolled_up_hops_are_judged_as_the_batches_are(rows: list[Row], fault: str, at: int, apart: int) -> None:
    batches = as_table(break_it(rows, fault, at))
    if not len(batches):
        return
    rolled = roll_up_hops(batches)
    source = sum(batches["rows_passed"].to_pylist()) + apart
    assert len(find_hop_breaches(rolled, source)) == len(find_hop_breaches(batches, source))
    assert _count(rolled) == _count(batches)
    has_first = 0 in batches["first_batch_id"].to_pylist()
    assert has_first or find_hop_breaches(rolled, source), "a query's first batch is missed"
    # With which state a query began only its first batch says.
    assert not has_first or _find_versions(rolled) == _find_versions(batches)
    assert roll_up_hops(rolled).equals(rolled)


def test_a_days_batches_are_one_row_behind_the_first() -> None:
    rows = roll_up_hops(as_table([hop(n, n - 1, n, 2) for n in range(20)])).to_pylist()
    assert [(row["first_batch_id"], row["batch_id"], row["batches"]) for row in rows] == [
        (0, 0, 1), (1, 14, 14), (15, 19, 5),
    ]  # fmt: skip
    assert (rows[1]["from_version"], rows[1]["until_version"], rows[1]["rows_in"]) == (0, 14, 28)
    assert (rows[1]["rows_in_state"], rows[1]["rows_expired"]) == (14, 14)


def test_the_table_is_rolled_up_and_its_writer_finds_where_it_was(tmp_path: Path) -> None:
    context = StreamContext(str(tmp_path), {}, "earliest", 1, 1.0, 1, None)
    table = create_table(context.table_uri(HOP_LEDGER.name), HOP_LEDGER)
    write_deltalake(table, as_table([hop(n, n - 1, n, 2) for n in range(15)]), mode="append")
    days = LedgerDays(context, ["q"], HOP_LEDGER)
    assert days.roll_up(START + timedelta(days=2))
    rows = open_table(context.table_uri(HOP_LEDGER.name)).to_pyarrow_table().sort_by("batch_id").to_pylist()
    assert [row["batch_id"] for row in rows] == [0, 14]
    assert not days.roll_up(START + timedelta(days=2))
