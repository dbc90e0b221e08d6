"""Parses Kafka records into typed rows, vectorised over Arrow batches. Runs inside Spark's Python workers.

One row in, one row out (of a list of records: a row each): a record that breaks the contract keeps its raw bytes and
gets a `reason`, so that a single pass over Kafka feeds every table of the stream.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute

from platform_assets.streaming.arrow_types import as_arrow
from platform_assets.streaming.change_events import ChangeEvents
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.formats.registered_schema import SchemaSource, require_source
from platform_assets.streaming.ingest.changes import open_changes
from platform_assets.streaming.ingest.column_records import read_columns
from platform_assets.streaming.ingest.event_clock import UTC_MICROS
from platform_assets.streaming.ingest.opened_records import OpenedRecords
from platform_assets.streaming.ingest.opened_values import OpenedValues, open_values
from platform_assets.streaming.ingest.reasons import Reason, RejectedRecordError
from platform_assets.streaming.ingest.record_columns import NOT_HELD, build_column, find_not_held
from platform_assets.streaming.ingest.record_contract import NOT_PLAIN, ParsedRecord, RecordContract, compile_contract
from platform_assets.streaming.ingest.record_lists import PLACE_IN_LIST, ListBatch
from platform_assets.streaming.ingest.rejected_rows import put_in_order
from platform_assets.streaming.ingest.text_sets import are_in
from platform_assets.streaming.ingest.unpacked_values import unpack
from platform_assets.streaming.moments import MICROS_PER_DAY
from platform_assets.streaming.topic_spec import RegistryValues, Topic
from platform_assets.streaming.topic_tables import HEADERS_TYPE

REFUSALS = ("_reason", "_detail", "_key", "_value", "_headers")
"""Columns of a rejected record; the last one where records are made of headers too. No field begins like this: a topic
may well have a field that is called value."""


@lru_cache(maxsize=64)
def parsed_schema(topic: Topic) -> pa.Schema:
    """The columns of a parsed record; a rejected one has a reason and raw bytes, and null in the others.

    They are those of the topic's table of accepted records, but for `topic` and `ingested_at`; and the `REFUSALS`.
    """
    own = {column.name: as_arrow(column.type) for column in topic.tables[0].columns}
    types = (pa.string(), pa.string(), pa.binary(), pa.binary(), as_arrow(HEADERS_TYPE))
    first = dict(zip(REFUSALS[: 4 + topic.has_headers], types, strict=False))
    return pa.schema(first | {name: of for name, of in own.items() if name not in ("topic", "ingested_at")})


def parse_batch(
    batch: pa.RecordBatch, topic: Topic, arrival_micros: int, max_bytes: int, rules: EventRules,
    schemas: SchemaSource | None = None,
) -> pa.RecordBatch:  # fmt: skip
    """(key, value, partition, offset, timestamp) of Kafka records as rows of `parsed_schema`, in the same order.

    A list of records is a row each, in its order; one row if it is rejected. Judges the plain records in bulk, the odd
    ones by `RecordContract.parse`: the same verdicts, a quarter cheaper. Values that schemas of a registry wrote are
    opened first, and judged in their JSON form; compressed ones are unpacked before that. Of a change event the row is
    judged, with what the change says of itself. Of some topics the batch has `headers` too (`Topic.has_headers`).
    Raises what `open_values` raises, for topics of a registry only.
    """
    if topic.compression is None and not topic.has_headers:
        return _parse(batch, topic, arrival_micros, max_bytes, rules, schemas)
    unpacked = unpack(batch, topic, max_bytes, schemas)
    if topic.has_headers and topic.is_registered:
        max_bytes = sys.maxsize  # their sizes have been judged, and JSON may be longer than what it stands for
    parsed = pa.RecordBatch.from_pylist([], parsed_schema(topic))
    if len(unpacked.batch):
        parsed = _parse(unpacked.batch, topic, arrival_micros, max_bytes, rules, schemas)
    return unpacked.restore(parsed)


def _parse(
    batch: pa.RecordBatch, topic: Topic, arrival_micros: int, max_bytes: int, rules: EventRules,
    schemas: SchemaSource | None,
) -> pa.RecordBatch:  # fmt: skip
    contract = compile_contract(topic)
    if isinstance(topic.values, RegistryValues) and not topic.has_headers:
        return _parse_opened(batch, contract, arrival_micros, max_bytes, rules, require_source(topic, schemas))
    if isinstance(topic.values, ChangeEvents):
        changes = OpenedRecords(open_changes(batch, topic, max_bytes, schemas), contract)
        return _Batch(batch, contract, arrival_micros, max_bytes, rules, changes).build()
    if not topic.is_list:
        return _Batch(batch, contract, arrival_micros, max_bytes, rules).build()
    lists = ListBatch.split(batch, max_bytes)
    if not len(lists.elements):
        return lists.collapse(pa.RecordBatch.from_pylist([], parsed_schema(topic)))
    return lists.collapse(_Batch(lists.elements, contract, arrival_micros, max_bytes, rules).build())


def _parse_opened(
    batch: pa.RecordBatch, contract: RecordContract, arrival_micros: int, max_bytes: int, rules: EventRules,
    source: SchemaSource,
) -> pa.RecordBatch:  # fmt: skip
    """Reads as columns what can be read so, and the rest record by record."""
    opened = OpenedValues()
    found = read_columns(batch, contract, source, opened, arrival_micros, max_bytes, rules)
    is_left = np.ones(len(batch), dtype=bool)
    for each in found:
        is_left[each.rows] = False
    schema = parsed_schema(contract.topic)
    parts = [each.build(batch, schema) for each in found]
    left = np.flatnonzero(is_left)
    if len(left) or not found:
        rest = batch.take(pa.array(left)) if found else batch
        opened = open_values(rest.column("value").to_pylist(), contract.topic, source, max_bytes, opened)
        parts.append(_Batch(rest, contract, arrival_micros, max_bytes, rules, OpenedRecords(opened, contract)).build())
    if len(parts) == 1:
        return parts[0]
    return put_in_order(parts, [*(each.rows for each in found), left])


class _Batch:
    """The records of a batch while they are judged. Lists are parallel: one item a record."""

    def __init__(
        self, batch: pa.RecordBatch, contract: RecordContract, arrival_micros: int, max_bytes: int, rules: EventRules,
        opened: OpenedRecords | None = None,
    ) -> None:  # fmt: skip
        self._batch, self._contract, self._rules = batch, contract, rules
        self._arrival_micros, self._max_bytes = arrival_micros, max_bytes
        self._values = batch.column("value").to_pylist()
        self._opened = opened
        self._unknown: dict[int, str] = {} if opened is None else opened.unknown
        self._rejected: dict[int, RejectedRecordError] = {}
        self._records, odd = self._decode() if opened is None else opened.fill(len(self._values))
        times = list(map(attrgetter(contract.topic.event_time.field), self._records))
        self._micros, is_timely = contract.clock.read_all(times, arrival_micros, rules)
        odd.update(np.flatnonzero(~is_timely).tolist())
        if (event_id := contract.id_field) is not None:
            ids = list(map(attrgetter(event_id.name), self._records))
            odd.update(np.flatnonzero(are_in(ids, rules.placeholder_ids)).tolist())
        self._find_misspelled(odd)
        self._find_rule_breakers(odd)
        self._judge_odd(odd)

    def build(self) -> pa.RecordBatch:
        """The rows."""
        columns = self._build_fields()
        accepted = np.ones(len(self._records), dtype=bool)
        accepted[list(self._rejected)] = False
        is_accepted = pa.array(accepted)
        columns |= self._build_times(is_accepted) | self._build_refusals(is_accepted)
        columns["unknown_fields"] = self._scatter(self._unknown)
        for name in ("partition", "offset", "timestamp"):
            columns[f"kafka_{name}"] = self._batch.column(name)
        user = self._contract.topic.subject
        if user is not None:
            found = pa.array(are_in(columns[user], self._rules.anonymous_users))
            columns["is_anonymous"] = self._when(is_accepted, found)
        if self._contract.topic.is_list:
            columns |= {name: self._batch.column(name) for name in PLACE_IN_LIST}
        schema = parsed_schema(self._contract.topic)
        arrays = [columns[name].cast(schema.field(name).type) for name in schema.names]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _decode(self) -> tuple[list[Any], set[int]]:
        """The records, and which are judged one by one."""
        lengths = pa.compute.binary_length(self._batch.column("value"))
        oversized = pa.compute.greater(lengths, self._max_bytes).fill_null(True)
        odd: set[int] = set(np.flatnonzero(oversized).tolist())
        decode, nothing = self._contract.decode_plain, self._contract.nothing
        values = [None if row in odd else value for row, value in enumerate(self._values)] if odd else self._values
        records: list[Any] = []
        decoded = map(decode, values)
        while len(records) < len(values):
            try:
                # What was decoded before an error stays in the list.
                records.extend(decoded)
            except NOT_PLAIN:
                odd.add(len(records))
                records.append(nothing)
        return records, odd

    def _find_misspelled(self, odd: set[int]) -> None:
        """Adds the records with a text that has another spelling: a decoder takes it as it is."""
        for each in self._contract.spelled_texts:
            texts = list(map(attrgetter(each.name), self._records))
            if wrong := {text for text in set(texts) if not self._contract.is_spelled(each, text)}:
                odd.update(row for row, text in enumerate(texts) if text in wrong)

    def _find_rule_breakers(self, odd: set[int]) -> None:
        """Adds the records that break one of the topic's own rules; what else is wrong with them comes first."""
        for row in range(len(self._records)) if self._contract.topic.rules else ():
            if row not in odd and self._contract.check_rules(self._records[row]) is not None:
                odd.add(row)

    def _judge_odd(self, odd: set[int]) -> None:
        for row in odd:
            try:
                self._records[row], self._micros[row], unknown = self._parse(row)
                if unknown is not None:
                    self._unknown[row] = unknown
            except RejectedRecordError as error:
                self._reject(row, error)

    def _parse(self, row: int) -> ParsedRecord:
        if self._opened is None:
            return self._contract.parse(self._values[row], self._max_bytes, self._arrival_micros, self._rules)
        return self._contract.parse_slowly(self._opened.read_text(row), self._arrival_micros, self._rules)

    def _reject(self, row: int, error: RejectedRecordError) -> None:
        self._rejected[row] = error
        self._records[row], self._micros[row] = self._contract.nothing, 0
        self._unknown.pop(row, None)

    def _build_fields(self) -> dict[str, pa.Array]:
        """The columns of the fields; a record with a value that its column does not hold is of a wrong type."""
        contract = self._contract
        if (complete := contract.topic.complete) is not None:
            for row, record in enumerate(self._records):
                if row not in self._rejected and not contract.is_partial(record):
                    complete(record)
        builders = _builders(contract.topic)
        columns: dict[str, pa.Array] = {}
        not_held: dict[int, str] = {}
        by_field = self._transpose()
        for name, build in builders.items():
            try:
                columns[name] = build(by_field[name], self._rules)
            except NOT_HELD:
                for row, said in find_not_held(build, by_field[name], self._rules).items():
                    not_held.setdefault(row, f"{name}: {said}")
        for row, said in not_held.items():
            self._reject(row, self._explain_not_held(row, said))
        if not_held:
            by_field = self._transpose()
            columns = {name: build(by_field[name], self._rules) for name, build in builders.items()}
        if len(contract.topic.event_id) > 1:
            # The time has no column of its own; by the moment, two spellings of one are one.
            known = columns | {contract.topic.event_time.field: pa.array(self._micros)}
            columns["event_id"] = _join_ids([known[name] for name in contract.topic.event_id])
        return columns

    def _explain_not_held(self, row: int, said: str) -> RejectedRecordError:
        """The reason by the contract; in Arrow's own words where the contract has none."""
        try:
            value = self._values[row] if self._opened is None else self._opened.read_text(row)
            self._contract.parse_slowly(value, self._arrival_micros, self._rules)
        except RejectedRecordError as error:
            return error
        return RejectedRecordError(Reason.WRONG_TYPE, said)

    def _transpose(self) -> dict[str, Sequence[Any]]:
        names = [field.name for field in self._contract.fields]
        values = zip(*map(msgspec.structs.astuple, self._records), strict=True)
        return dict(zip(names, values, strict=True))

    def _build_times(self, is_accepted: pa.Array) -> dict[str, pa.Array]:
        days = (self._micros // MICROS_PER_DAY).astype(np.int32)
        return {
            "event_time": self._when(is_accepted, pa.array(self._micros).cast(UTC_MICROS)),
            "event_date": self._when(is_accepted, pa.array(days).cast(pa.date32())),
        }

    def _build_refusals(self, is_accepted: pa.Array) -> dict[str, pa.Array]:
        found = {
            "_reason": self._scatter({row: str(error.reason) for row, error in self._rejected.items()}),
            "_detail": self._scatter({row: error.detail for row, error in self._rejected.items()}),
        }
        for name in ("key", "value"):
            raw = self._batch.column(name).cast(pa.binary())
            empty = pa.nulls(len(raw), pa.binary())
            found[f"_{name}"] = pa.compute.if_else(is_accepted, empty, raw) if self._rejected else empty
        # Raw headers are put where raw values are, in the place of those that were made of them (`unpacked_values`).
        found["_headers"] = pa.nulls(len(self._records), as_arrow(HEADERS_TYPE))
        return found

    def _when(self, is_accepted: pa.Array, array: pa.Array) -> pa.Array:
        if not self._rejected:
            return array
        return pa.compute.if_else(is_accepted, array, pa.scalar(None, array.type))

    def _scatter(self, found: Mapping[int, str]) -> pa.Array:
        rows = len(self._records)
        return pa.array([found.get(row) for row in range(rows)], pa.string()) if found else pa.nulls(rows, pa.string())


@lru_cache(maxsize=64)
def _builders(topic: Topic) -> Mapping[str, Any]:
    return {field.name: build_column(field) for field in topic.fields if field.name != topic.event_time.field}


def _join_ids(columns: Sequence[pa.Array]) -> pa.Array:
    """Several fields as one text: a JSON list of them, so that no two lists of values have the same text."""
    rows = zip(*(column.cast(pa.string()).to_pylist() for column in columns), strict=True)
    return pa.array([None if None in row else msgspec.json.encode(row).decode() for row in rows], pa.string())
