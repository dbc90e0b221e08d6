"""Kafka records that hold lists: what their rows are, and what the batch's account and the audit say of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.checks.ledger_breaches import find_row_breaches
from platform_assets.checks.ledger_entries import Entry
from platform_assets.errors import GroupOwnedError, TopicSpecError
from platform_assets.streaming.checkpoint.checkpoint import OffsetRange, PlannedBatch
from platform_assets.streaming.context import KafkaIngest, StreamContext
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.delta_tables import create_table, open_table
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.streaming.derive.late_events import as_late, build_repairs
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.ingest.event_writer import EventWriter
from platform_assets.streaming.ingest.record_files import WrittenRecords, write_records
from platform_assets.streaming.ingest.record_parser import parse_batch, parsed_schema
from platform_assets.streaming.register.forgotten_users import Register, new_row
from platform_assets.streaming.stream_spec import KafkaStream
from platform_assets.streaming.topic_spec import EventTime, Record, Topic
from platform_assets.tables.platform import ERASED_RECORDS, LATE_EVENTS
from tests import order_lists, orders
from tests.generated_cases import examples
from tests.integration.test_any_topic import over

pytestmark = pytest.mark.unit

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MICROS = int(NOW.timestamp()) * 1_000_000
MAX_BYTES = 4_000
HORIZON = 600_000_000
ORDER: dict[str, Any] = {
    "order-number": "o1", "line": 1, "at": int(NOW.timestamp()) * 1000, "customer": 7, "state": "open", "total": 12.5,
}  # fmt: skip
PLACE = ["kafka_partition", "kafka_offset"]


def as_kafka_batch(values: Sequence[bytes | None], places: Sequence[tuple[int, int]]) -> pa.RecordBatch:
    return pa.record_batch(
        {
            "key": pa.array([b"k"] * len(values), pa.binary()),
            "value": pa.array(values, pa.binary()),
            "partition": pa.array([partition for partition, _ in places], pa.int32()),
            "offset": pa.array([offset for _, offset in places], pa.int64()),
            "timestamp": pa.array([NOW] * len(values), pa.timestamp("us", tz="UTC")),
        }
    )


def parse(topic: Topic, values: Sequence[bytes | None], max_bytes: int = MAX_BYTES) -> list[dict[str, Any]]:
    batch = as_kafka_batch(values, [(0, offset) for offset in range(len(values))])
    parsed = parse_batch(batch, topic, MICROS, max_bytes, EventRules())
    assert parsed.schema == parsed_schema(topic)
    rows: list[dict[str, Any]] = parsed.to_pylist()
    return rows


def dump(*found: Any) -> bytes:
    return json.dumps(found).encode()


def test_each_record_of_a_list_is_a_row_with_its_place() -> None:
    rows = parse(order_lists.TOPIC, [dump(ORDER, {**ORDER, "line": 2, "note": 1}), dump(ORDER)])
    assert [(r["kafka_offset"], r["record_index"], r["record_length"], r["line"]) for r in rows] == [
        (0, 0, 2, 1), (0, 1, 2, 2), (1, 0, 1, 1),
    ]  # fmt: skip
    assert rows[1]["unknown_fields"] == '{"note":1}' and rows[0]["_value"] is rows[0]["_reason"] is None


@pytest.mark.parametrize(
    ("value", "reason", "said"),
    [
        (None, "tombstone", "the value is null"),
        (b"[]", "bad_value", "the array has no record"),
        (json.dumps(ORDER).encode(), "wrong_type", "the value is a JSON object, not an array of records"),
        (b"5", "wrong_type", "the value is a JSON number, not an array of records"),
        (b"[{}", "not_json", "Expecting"),
        (b"[" * 3_000, "not_json", "nested too deeply"),
        (dump(*[ORDER] * 50), "oversized", f"at most {MAX_BYTES} are accepted"),
        (dump(ORDER, {**ORDER, "line": -1}, {}), "negative_amount", "[1] line is -1"),
        (dump({}, {**ORDER, "line": -1}), "missing_field", "[0] number is missing or null"),
        (dump(ORDER, [ORDER]), "wrong_type", "[1] the value is a JSON array, not an object"),
        (dump(ORDER, None), "wrong_type", "[1] the value is a JSON null, not an object"),
        (b'[{"a": "\xff"}]', "not_json", "utf-8"),
    ],
)
def test_a_list_is_rejected_as_a_whole(value: bytes | None, reason: str, said: str) -> None:
    rows = parse(order_lists.TOPIC, [dump(ORDER), value, dump(ORDER, ORDER)])
    assert [(row["kafka_offset"], row["record_index"]) for row in rows] == [(0, 0), (1, None), (2, 0), (2, 1)]
    row = rows[1]
    assert (row["_reason"], row["_value"], row["_key"]) == (reason, value, b"k")
    assert said in row["_detail"] and row["event_id"] is row["event_time"] is row["record_length"] is None


changes = st.dictionaries(
    st.sampled_from([*ORDER, "x", "items"]), st.integers(-3, 3) | st.text(max_size=3), max_size=2
)  # fmt: skip
elements = st.one_of(
    st.just(ORDER), changes.map(lambda change: {**ORDER, **change}),
    st.none() | st.integers(0, 3) | st.lists(st.none(), max_size=1),
)  # fmt: skip


@given(st.lists(st.lists(elements, max_size=4) | st.just(ORDER) | st.none(), max_size=6))
def test_a_list_is_what_its_records_are_one_by_one(sent: list[Any]) -> None:
    """Against a parser of single records, which knows nothing of lists."""
    values = [None if one is None else json.dumps(one).encode() for one in sent]
    expected = []
    for offset, found in enumerate(sent):
        is_list = isinstance(found, list) and len(found) > 0
        alone = parse(orders.TOPIC, [json.dumps(one).encode() for one in found]) if is_list else []
        bad = next(((index, row) for index, row in enumerate(alone) if row["_reason"] is not None), None)
        if alone and bad is None:
            place = {"kafka_offset": offset, "record_length": len(alone)}
            expected += [row | place | {"record_index": index} for index, row in enumerate(alone)]
            continue
        whole = "tombstone" if found is None else "bad_value" if isinstance(found, list) else "wrong_type"
        reason = bad[1]["_reason"] if bad else whole
        expected.append({"kafka_offset": offset, "_reason": reason, "_value": values[offset]})
        if bad:
            expected[-1]["_detail"] = f"[{bad[0]}] {bad[1]['_detail']}"[:300]
    rows = parse(order_lists.TOPIC, values)
    assert len(rows) == len(expected)
    for row, wanted in zip(rows, expected, strict=True):
        assert row | wanted == row


@given(st.binary(max_size=30) | st.binary(max_size=20).map(lambda inner: b"[" + inner + b"]"))
def test_no_bytes_end_the_stream(value: bytes) -> None:
    (row,) = parse(order_lists.TOPIC, [value])
    assert row["_reason"] is not None and row["_value"] == value


def test_a_topic_without_lists_has_no_such_columns() -> None:
    for table in orders.TOPIC.tables:
        assert not {"record_index", "record_length"} & {column.name for column in table.columns}
        assert table.key == ("topic", *PLACE)


def test_a_field_may_not_have_the_name_of_the_place() -> None:
    class Row(Record):
        at: str
        record_index: int

    with pytest.raises(TopicSpecError, match="record_index"):
        Topic("rows", "Rows.", "rows", Row, EventTime("at"), values=order_lists.TOPIC.values)
    Topic("rows", "Rows.", "rows", Row, EventTime("at"))


# A list is its ids, each with what it says and its customer; None: one that is refused.
Sent = list[tuple[int, int, int]] | None
one_sent = st.tuples(st.integers(0, 5), st.integers(0, 1), st.integers(0, 2))
lists_sent = st.none() | st.lists(one_sent, min_size=1, max_size=4)
FORGOTTEN = 2
steps = st.lists(
    st.tuples(
        st.integers(0, 400), st.lists(st.tuples(st.integers(0, 1), lists_sent), max_size=5),
        st.sampled_from([None, 0, 1, 2, 3]), st.sampled_from([1, 2, 100]), st.booleans(),
    ),
    min_size=1, max_size=4,
)  # fmt: skip


class World:
    """The writer of the stream in a process that dies, and a plain list of what must be in its tables."""

    def __init__(self, root: str) -> None:
        self.stream = KafkaStream(order_lists.TOPIC, 0.0)
        self._left: int | None = None
        self.context = StreamContext(
            root, {}, "earliest", 100, 1.0, MAX_BYTES, HORIZON, EventRules(),
            ingest={self.stream.name: KafkaIngest("t")}, check_lease=self._count, read_records=lambda *_: iter(()),
        )  # fmt: skip
        Register(self.context).write(str(FORGOTTEN), new_row("me", "asked", NOW))
        self.writer = EventWriter(self.stream, self.context)
        self.next_offsets = [0, 0]
        self.kept: list[tuple[int, tuple[int, int], tuple[int, int, int], int]] = []
        self.expected: dict[str, list[Any]] = {"accepted": [], "repeated": [], "refused": [], "erased": []}
        self.entries: list[Entry] = []

    def _count(self) -> None:
        if self._left is not None:
            if self._left == 0:
                raise GroupOwnedError("The process dies here.")
            self._left -= 1

    def take(self, number: int, arrival: int, sent: list[tuple[int, Sent]], dies_at: int | None, portion: int) -> None:
        begun = list(self.next_offsets)
        placed = []
        for partition, found in sent:
            placed.append(((partition, self.next_offsets[partition]), found))
            self.next_offsets[partition] += 1
        ranges = tuple(OffsetRange("t", p, begun[p], self.next_offsets[p]) for p in (0, 1))
        planned = PlannedBatch(number, arrival, ranges)
        if dies_at is not None:
            self._left = dies_at
            try:
                self._write(planned, placed, portion)
            except GroupOwnedError:
                pass
            self._left = None
            self.writer = EventWriter(self.stream, self.context)
        self._write(planned, placed, portion)
        self._judge(arrival, placed, ranges)

    def _write(self, planned: PlannedBatch, placed: list[Any], portion: int) -> None:
        parts = [placed[start : start + portion] for start in range(0, len(placed), portion)]
        written = [self._run_task(part, planned) for part in parts]
        self.writer._write_tables(self.writer._judge(written, planned), planned, "app", None)

    def _run_task(self, placed: list[Any], planned: PlannedBatch) -> WrittenRecords:
        arrival = planned.arrival_micros
        values = [
            b"[{}]" if found is None
            else dump(
                *(
                    {**ORDER, "order-number": f"o{i}", "total": said, "customer": who, "at": arrival // 1000}
                    for i, said, who in found
                )
            )
            for _, found in placed
        ]  # fmt: skip
        batch = as_kafka_batch(values, [place for place, _ in placed])
        return write_records(dataclasses.replace(self.writer._order(planned), read=lambda *_: iter([batch])), [])

    def _judge(self, arrival: int, placed: list[Any], ranges: tuple[OffsetRange, ...]) -> None:
        verdicts: dict[tuple[int, int], str] = {}
        for place, found in sorted(placed, key=lambda one: one[0]):
            verdicts[place] = "refused" if found is None else "erased"
            if found is None:
                self.expected["refused"].append(place)
                continue
            if any(who == FORGOTTEN for *_, who in found):
                self.expected["erased"].append(place)
            for index, (identity, said, who) in enumerate(found):
                if who == FORGOTTEN:
                    continue
                fields = (said, who, arrival)
                recent = (kept for kept in self.kept if kept[0] == identity and kept[3] > arrival - HORIZON)
                if (before := next(recent, None)) is not None:
                    self.expected["repeated"].append((*place, index, *before[1], before[2] == fields))
                    verdicts[place] = "repeated" if verdicts[place] == "erased" else verdicts[place]
                else:
                    self.kept.append((identity, place, fields, arrival))
                    self.expected["accepted"].append((*place, index, len(found)))
                    verdicts[place] = "accepted"
        for each in ranges:
            own = [verdict for place, verdict in verdicts.items() if place[0] == each.kafka_partition]
            counts = [own.count(name) for name in ("accepted", "refused", "repeated", "erased")]
            accepted, refused, repeated, erased = counts
            self.entries.append(
                Entry(
                    "app", len(self.entries) // 2, "t", each.kafka_partition, each.from_offset, each.until_offset,
                    sum(counts), accepted, refused, repeated, (), arrival, erased,
                )
            )  # fmt: skip

    def rows(self, table: str, columns: list[str]) -> list[tuple[Any, ...]]:
        found = open_table(self.context.table_uri(table)).to_pyarrow_table(columns=columns)
        return sorted(tuple(row.values()) for row in found.to_pylist())

    def tables(self) -> dict[str, pa.Table]:
        names = [*(table.name for table in self.stream.tables), ERASED_RECORDS.name]
        found = (open_table(self.context.table_uri(name)).to_pyarrow_table() for name in names)
        return dict(zip(("accepted", "quarantined", "deduplicated", "erased"), found, strict=True))

    def commits(self) -> list[CommitInfo]:
        table = open_table(self.context.table_uri(self.stream.main_table.name))
        infos = (CommitInfo.parse(entry.get("userMetadata")) for entry in reversed(table.history()))
        return [info for info in infos if info is not None and info.transaction is not None]


@examples(60, quick=5)
@given(found=steps)
def test_tables_and_accounts_are_those_of_a_plain_list(
    found: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The process may die at any commit, and the batch runs again."""
    world, arrival = World(str(tmp_path_factory.mktemp("lists"))), MICROS
    for number, (pause, sent, dies_at, portion, restarts) in enumerate(found):
        arrival += pause * 1_000_000
        world.take(number, arrival, sent, dies_at, portion)
        if restarts:
            world.writer = EventWriter(world.stream, world.context)
    accepted, quarantined, deduplicated = (table.name for table in world.stream.tables)
    expected = {name: sorted(rows) for name, rows in world.expected.items()}
    kept = ["kept_partition", "kept_offset", "is_same_content"]
    assert world.rows(accepted, [*PLACE, "record_index", "record_length"]) == expected["accepted"]
    assert world.rows(deduplicated, [*PLACE, "record_index", *kept]) == expected["repeated"]
    assert world.rows(quarantined, PLACE) == expected["refused"]
    assert world.rows(ERASED_RECORDS.name, PLACE) == expected["erased"]
    written = [part for info in world.commits() for part in info.partitions or []]
    names = ("accepted", "quarantined", "deduplicated", "erased", "rows_in", "gaps")
    assert [[part[name] for name in names] for part in written] == [
        [e.accepted, e.quarantined, e.deduplicated, e.erased, e.rows_in, []] for e in world.entries
    ]
    # What a stream over the table is to read are rows.
    assert sum(info.rows or 0 for info in world.commits()) == len(expected["accepted"])
    assert find_row_breaches(world.entries, world.tables(), is_list=True) == []


def test_two_records_of_one_list_that_were_late_together_are_listed_and_repaired_each(tmp_path: Path) -> None:
    """The table is one by older code, which had no such column."""
    context = StreamContext(str(tmp_path), {}, "earliest", 1, 1.0, 1, None)
    older = dataclasses.replace(LATE_EVENTS, columns=LATE_EVENTS.columns[:-1], key=("query", "topic", *PLACE))
    create_table(context.table_uri(older.name), older)
    stream = over(order_lists.TOPIC.tables[0])
    row = {"event_time": NOW, "event_id": None, "customer": "7", **place(4, 0, 2)}
    two = [{**row, "event_id": "a"}, {**row, "event_id": "b", "record_index": 1}]
    events = as_late(pa.Table.from_pylist(two), stream.source)
    rows, late = build_repairs(stream, events, NOW), DeltaWriter(LATE_EVENTS, context)
    for _ in range(2):
        late.put(rows, "true", CommitInfo(CommitKind.REPAIR, stream.name))
    found = open_table(context.table_uri(older.name)).to_pyarrow_table().to_pylist()
    assert sorted((row["event_id"], row["record_index"]) for row in found) == [("a", 0), ("b", 1)]


def place(offset: int, index: int | None = None, length: int | None = None) -> dict[str, Any]:
    where = {"topic": "t", "kafka_partition": 0, "kafka_offset": offset}
    return where if index is None else where | {"record_index": index, "record_length": length}


def audit(expired: int = 0, requeued: Sequence[int] = (), **tables: list[dict[str, Any]]) -> list[str]:
    schema = pa.schema({"topic": pa.string(), "kafka_partition": pa.int32(), "kafka_offset": pa.int64()})
    longer = pa.schema([*schema, ("record_index", pa.int32()), ("record_length", pa.int32())])
    rows = {
        name: pa.Table.from_pylist(of, longer if name in ("accepted", "deduplicated") else schema)
        for name, of in tables.items()
    }
    # A list that was requeued has a mark for each of its records.
    marks = [place(offset) | {"requeued_at": NOW} for offset in requeued for _ in range(2)]
    entries = [Entry("a", 0, "t", 0, 10, 13, 3, 3, 0, 0, ())]
    return find_row_breaches(entries, rows, requeued=marks, count_expired=lambda: expired, is_list=True)


WHOLE = [place(10, 0, 2), place(10, 1, 2), place(11, 0, 1), place(12, 0, 3), place(12, 2, 3)]
REPEAT = [place(12, 1, 3)]


def test_an_offset_is_in_one_place_where_its_records_are_accepted_repeated_and_erased() -> None:
    assert audit(accepted=WHOLE, deduplicated=REPEAT) == []
    assert audit(accepted=WHOLE, deduplicated=[], erased=[place(12)]) == []
    assert audit(accepted=WHOLE[:3], deduplicated=[], quarantined=[place(12)]) == []
    assert audit(accepted=WHOLE, deduplicated=REPEAT, quarantined=[place(10)], requeued=[10]) == []


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"accepted": WHOLE[:-1], "deduplicated": REPEAT}, ["t/0/12[2] is lost: no table."]),
        ({"accepted": WHOLE[1:], "deduplicated": []}, ["t/0/10[0] is lost: no table. So are 1 others: t/0/12[1]."]),
        ({"accepted": WHOLE[:2] + WHOLE[3:], "deduplicated": REPEAT}, ["t/0/11 is lost: no table."]),
        ({"accepted": [*WHOLE, WHOLE[1]], "deduplicated": REPEAT}, ["t/0/10[1] is in more than one place: accepted."]),
        (
            {"accepted": WHOLE, "deduplicated": [*REPEAT, WHOLE[0]]},
            ["t/0/10[0] is in more than one place: deduplicated."],
        ),
        (
            {"accepted": [*WHOLE, WHOLE[4]], "deduplicated": [], "erased": [place(12)]},
            ["t/0/12[2] is in more than one place: accepted."],
        ),
        (
            {"accepted": WHOLE, "deduplicated": REPEAT, "quarantined": [place(10)]},
            ["t/0/10 is in more than one place: accepted and quarantined."],
        ),
        (
            {"accepted": [*WHOLE, place(40, 0, 1)], "deduplicated": REPEAT},
            ["t/0/40 was read by no recorded batch: accepted."],
        ),
    ],
)
def test_what_is_lost_or_doubled_in_a_list_is_named(tables: dict[str, Any], said: list[str]) -> None:
    assert audit(**tables) == said


def test_what_has_expired_of_a_list_is_no_loss_and_hides_no_more_than_it_is() -> None:
    assert audit(accepted=WHOLE[2:], deduplicated=REPEAT, expired=2) == [], "a whole list"
    assert audit(accepted=WHOLE[:-1], deduplicated=REPEAT, expired=1) == []
    (said,) = audit(accepted=WHOLE[1:-1], deduplicated=REPEAT, expired=1)
    assert said.startswith("1 of 2 records in no table are lost")


def test_a_batch_in_flight_is_not_looked_at() -> None:
    assert audit(accepted=WHOLE, deduplicated=[*REPEAT, place(13, 0, 9)]) == []
