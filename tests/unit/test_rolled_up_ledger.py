"""Rolled-up accounts get the verdict that the batches' own get, whole or broken; so does a count in shares."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_assets.checks.acknowledged_losses import Losses
from platform_assets.checks.ledger_breaches import find_ledger_breaches, find_row_breaches
from platform_assets.checks.ledger_entries import Batches, Entry, entries_of_ledger
from platform_assets.checks.ledger_places import Places
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.ledgers.rolled_up import find_cuts, roll_up
from platform_assets.tables.platform import LEDGER

START = datetime(2026, 3, 1, 23, 59, 50, tzinfo=UTC)  # the days change between the batches
PARTITIONS = 2
FAULTS = ("none", "hole", "overlap", "lost account", "doubled account", "too many", "moved", "a gap outside")
Row = dict[str, Any]


@dataclass(frozen=True)
class History:
    """Batches, one account a partition, and by partition the offsets with a record."""

    rows: tuple[Row, ...]
    offsets: tuple[tuple[int, int], ...]


@st.composite
def histories(draw: st.DrawFn) -> History:
    rows: list[Row] = []
    offsets: list[tuple[int, int]] = []
    reached = [draw(st.integers(0, 5)) for _ in range(PARTITIONS)]
    for batch in range(draw(st.integers(1, 12))):
        arrived = START + timedelta(seconds=2 * batch)
        is_compacted = draw(st.sampled_from([None, None, False]))
        for partition in range(PARTITIONS):
            low, high = reached[partition], reached[partition] + draw(st.integers(0, 6))
            gaps = [[low + 1, low + 3]] if high - low > 3 and draw(st.booleans()) else []
            missing = {offset for start, end in gaps for offset in range(start, end)}
            read = [offset for offset in range(low, high) if offset not in missing]
            quarantined = draw(st.integers(0, len(read)))
            offsets += [(partition, offset) for offset in read]
            rows.append(
                {
                    "query": "q", "txn_app_id": "a" if batch < 9 else "b", "batch_id": batch, "table_version": batch,
                    "topic": "t", "kafka_partition": partition, "from_offset": low, "until_offset": high,
                    "rows_in": len(read), "accepted": len(read) - quarantined, "quarantined": quarantined,
                    "deduplicated": 0, "erased": draw(st.sampled_from([0, None])), "gaps": json.dumps(gaps),
                    "arrived_at": arrived, "is_compacted": is_compacted,
                }
            )  # fmt: skip
            reached[partition] = high
    return History(tuple(rows), tuple(offsets))


def break_it(rows: tuple[Row, ...], fault: str, at: int) -> list[Row]:
    """The accounts with one fault in one of them."""
    found = [dict(row) for row in rows]
    own = found[at % len(found)]
    if fault == "hole" and own["rows_in"]:
        own["until_offset"] -= 1
        own["rows_in"] -= 1
        own["accepted"] -= 1
    elif fault == "overlap" and own["from_offset"] > min(
        row["from_offset"] for row in found if row["kafka_partition"] == own["kafka_partition"]
    ):  # before the first of all there is nothing to overlap
        own["from_offset"] -= 1
        own["rows_in"] += 1
        own["accepted"] += 1
    elif fault == "lost account":
        found.remove(own)
    elif fault == "doubled account":
        found.append(dict(own))
    elif fault == "too many":
        own["accepted"] += 1
    elif fault == "moved":  # what is too many in one and too few in the next
        own["accepted"] += 1
        other = next((row for row in found if row["kafka_partition"] == own["kafka_partition"] and row is not own), own)
        other["accepted"] -= 1
    elif fault == "a gap outside":
        own["gaps"] = json.dumps([[own["until_offset"] + 2, own["until_offset"] + 3]])
        own["rows_in"] -= 1
        own["accepted"] -= 1
    return found


def as_table(rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows, build_arrow_schema(LEDGER))


def read(rows: pa.Table) -> list[Entry]:
    return entries_of_ledger(rows.sort_by("table_version").to_pylist())


def describe(entries: list[Entry]) -> dict[str, Any]:
    """All that the check says of accounts in sums, and their gaps."""
    names = ("rows_in", "accepted", "quarantined", "deduplicated", "erased")
    return {
        **{name: sum(getattr(entry, name) for entry in entries) for name in names},
        "batches": len(Batches(entries)),
        "gaps": sorted((e.kafka_partition, *gap, e.is_compacted or False) for e in entries for gap in e.gaps),
    }


@given(history=histories(), fault=st.sampled_from(FAULTS), at=st.integers(0, 30))
def test_rolled_up_accounts_are_judged_as_the_batches_are(history: History, fault: str, at: int) -> None:
    batches = as_table(break_it(history.rows, fault, at))
    rolled = roll_up(batches)
    found, of_rolled = (
        # An empty batch between two others may be the one that is named, or not.
        {re.sub(r" between batch.*", "", breach) for breach in find_ledger_breaches(read(rows))}
        for rows in (batches, rolled)
    )
    assert of_rolled == found
    assert describe(read(rolled)) == describe(read(batches))
    if fault == "none":
        assert found == set()
    elif fault == "too many":  # of others a range may be empty, or the last; what a gap hides, the rows show
        assert found


@settings(max_examples=50)
@given(history=histories(), fault=st.sampled_from(FAULTS), at=st.integers(0, 30), portion=st.integers(1, 9))
def test_it_does_not_matter_in_which_portions_accounts_are_rolled_up(
    history: History, fault: str, at: int, portion: int
) -> None:
    batches = as_table(break_it(history.rows, fault, at))
    whole, part = roll_up(batches), batches.slice(0, 0)
    for start in range(0, len(batches), portion):
        part = roll_up(pa.concat_tables([roll_up(part), roll_up(batches.slice(start, portion))]))
    if fault == "none":
        assert part.equals(whole)
    # Of an account that is there twice either may be the one that others join.
    assert bool(find_ledger_breaches(read(part))) == bool(find_ledger_breaches(read(whole)))
    assert describe(read(part)) == describe(read(whole))


def test_a_days_batches_are_one_row_with_all_that_was_in_them() -> None:
    rows = [
        {
            "query": "q", "txn_app_id": "a", "batch_id": batch, "table_version": 10 + batch, "topic": "t",
            "kafka_partition": 0, "from_offset": 10 * batch, "until_offset": 10 * batch + 10, "rows_in": 8,
            "accepted": 5, "quarantined": 1, "deduplicated": 1, "erased": 1,
            "gaps": json.dumps([[10 * batch, 10 * batch + 2]]), "arrived_at": START + timedelta(seconds=batch),
            "is_compacted": False,
        }
        for batch in range(20)
    ]  # fmt: skip
    first, second = roll_up(as_table(rows)).to_pylist()
    assert first == {
        **rows[0], "batch_id": 9, "table_version": 19, "until_offset": 100, "rows_in": 80, "accepted": 50,
        "quarantined": 10, "deduplicated": 10, "erased": 10, "arrived_at": rows[9]["arrived_at"],
        "gaps": json.dumps([[10 * batch, 10 * batch + 2] for batch in range(10)]),
        "first_batch_id": 0, "first_arrived_at": START, "batches": 10,
    }  # fmt: skip
    assert (second["from_offset"], second["first_batch_id"], second["batches"]) == (100, 10, 10)


def test_nothing_is_joined_across_a_log_that_began_again() -> None:
    row = {
        "query": "q", "txn_app_id": "a", "batch_id": 0, "table_version": 0, "topic": "t", "kafka_partition": 0,
        "from_offset": 0, "until_offset": 1, "rows_in": 1, "accepted": 1, "quarantined": 0, "deduplicated": 0,
        "gaps": "[]", "arrived_at": START,
    }  # fmt: skip
    later = row | {"batch_id": 1, "from_offset": 1, "until_offset": 2, "arrived_at": START + timedelta(seconds=2)}
    loss = {"topic": "t", "kafka_partition": 0, "until_offset": None, "acknowledged_at": START + timedelta(seconds=1)}
    assert len(roll_up(as_table([row, later]))) == 1
    assert len(roll_up(as_table([row, later]), find_cuts([loss]))) == 2
    assert len(roll_up(as_table([row, later]), find_cuts([loss | {"kafka_partition": 1}]))) == 1
    assert len(roll_up(as_table([row, later]), find_cuts([loss | {"until_offset": 3}]))) == 1


def place_rows(offsets: list[tuple[int, int]], folder: Path, name: str) -> Any:
    """A dataset of two files with these (partition, offset)."""
    rows = [
        {"topic": "t", "kafka_partition": p, "kafka_offset": o, "ingested_at": START, "quarantined_at": START}
        for p, o in offsets
    ]
    schema = pa.schema(
        [
            ("topic", pa.string()), ("kafka_partition", pa.int32()), ("kafka_offset", pa.int64()),
            ("ingested_at", pa.timestamp("us", "UTC")), ("quarantined_at", pa.timestamp("us", "UTC")),
        ]
    )  # fmt: skip
    table = pa.Table.from_pylist(rows, schema)
    middle, files = len(table) // 2, [folder / f"{name}{number}.parquet" for number in range(2)]
    for file, part in zip(files, (table.slice(0, middle), table.slice(middle)), strict=True):
        pq.write_table(part, file)
    return ds.dataset([str(file) for file in files])


ROW_FAULTS = ("none", "lost", "doubled", "in two tables", "nobody's", "before the first", "of another partition")


@settings(max_examples=60)
@given(
    history=histories(), fault=st.sampled_from(ROW_FAULTS), at=st.integers(0, 90), share=st.integers(1, 7),
    expired=st.integers(0, 1),
)  # fmt: skip
def test_rows_are_judged_alike_in_shares_and_by_rolled_up_accounts(
    history: History, fault: str, at: int, share: int, expired: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    accepted, quarantined = list(history.offsets), list[tuple[int, int]]()
    if accepted:
        picked = accepted[at % len(accepted)]
        changed = {"lost": [], "doubled": [picked, picked], "in two tables": [picked]}.get(fault, [picked])
        accepted = [offset for offset in accepted if offset != picked] + changed
        quarantined = [picked] if fault == "in two tables" else []
    last = {row["kafka_partition"]: row["until_offset"] for row in history.rows}
    accepted += {"nobody's": [(0, last[0] + 3)], "of another partition": [(7, 0)], "before the first": [(1, -2)]}.get(
        fault, []
    )
    folder = tmp_path_factory.mktemp("rows")
    tables = {
        "accepted": place_rows(accepted, folder, "accepted"),
        "quarantined": place_rows(quarantined, folder, "quarantined"),
    }
    batches, rolled = read(as_table(list(history.rows))), read(roll_up(as_table(list(history.rows))))
    expected = find_row_breaches(batches, tables, count_expired=lambda: expired)
    assert find_row_breaches(rolled, tables, count_expired=lambda: expired) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Places, "offsets_of_one_share", share)
        assert find_row_breaches(rolled, tables, count_expired=lambda: expired) == expected
    is_broken = (fault in ("nobody's", "before the first", "of another partition")) or (
        fault in ("doubled", "in two tables") and bool(history.offsets)
    )
    missing = int(fault == "lost" and bool(history.offsets))
    assert bool(expected) == (is_broken or missing != expired)


def test_of_rows_far_apart_only_the_rows_are_counted() -> None:
    """Counting by their span would take eight bytes an offset of it."""
    import tracemalloc

    entries = [Entry("a", 0, "t", 0, 0, 4_000_000, 4_000_000, 4_000_000, 0, 0, ())]
    rows = pa.table({"topic": ["t", "t"], "kafka_partition": [0, 0], "kafka_offset": [0, 3_999_999]})
    places = Places(entries, Losses(()))
    tracemalloc.start()
    places.add_rows("accepted", rows)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
    assert places.collect({}).missing == 3_999_998


def test_numbers_of_batches_are_those_of_all_partitions_together() -> None:
    entry = Entry("a", 9, "t", 0, 0, 0, 0, 0, 0, 0, (), first_batch_id=3)
    other, later = replace(entry, first_batch_id=7, batch_id=12), replace(entry, first_batch_id=None, batch_id=20)
    found = Batches([entry, replace(other, kafka_partition=1), later])
    assert len(found) == 11
    assert [number for number in range(25) if ("a", number) in found] == [*range(3, 13), 20]
    assert ("b", 4) not in found


def test_a_batch_without_offsets_that_comes_late_to_a_rolled_up_day_is_no_breach() -> None:
    def account(batch: int, low: int, high: int) -> Row:
        return {
            "query": "q", "txn_app_id": "a", "batch_id": batch, "table_version": batch, "topic": "t",
            "kafka_partition": 0, "from_offset": low, "until_offset": high, "rows_in": high - low,
            "accepted": high - low, "quarantined": 0, "deduplicated": 0, "erased": 0, "gaps": "[]",
            "arrived_at": START + timedelta(seconds=batch), "is_compacted": None,
        }  # fmt: skip

    day = roll_up(as_table([account(0, 0, 1), account(2, 1, 3)]))
    later = roll_up(pa.concat_tables([day, roll_up(as_table([account(1, 1, 1)]))]))
    assert find_ledger_breaches(read(later)) == []
    missed = roll_up(as_table([account(0, 0, 1), account(1, 2, 2)]))
    assert [breach.split(" between")[0] for breach in find_ledger_breaches(read(missed))] == [
        "t/0: offsets 1 to 1 were lost"
    ]
