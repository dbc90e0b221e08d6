"""Fills fields that a contract has got since from what was kept of the same records in `unknown_fields`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pyarrow as pa

from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.formats.precise_moments import find_check
from platform_assets.streaming.formats.reader import UndecodableError
from platform_assets.streaming.ingest.json_values import decode_members, parse_json, write_member
from platform_assets.streaming.ingest.reasons import RejectedRecordError
from platform_assets.streaming.ingest.record_columns import NOT_HELD, Build, build_column
from platform_assets.streaming.ingest.record_contract import RecordContract, compile_contract
from platform_assets.streaming.record_types import RecordField
from platform_assets.streaming.topic_spec import Topic

UNKNOWN = "unknown_fields"


def list_fillable(topic: Topic) -> tuple[RecordField, ...]:
    """The fields that an accepted record may have lacked, and that `unknown_fields` keeps under a name of their own.

    What is nested deeper is kept under its place, and is left there.
    """
    return tuple(
        each for each in topic.fields
        if not each.is_required and len(each.path) == 1 and each.name not in topic.headers
        and each.name != topic.event_time.field
    )  # fmt: skip


def fill_fields(rows: pa.RecordBatch, topic: Topic, rules: EventRules) -> pa.RecordBatch:
    """Rows of the topic's accepted records: a field that is null gets the value that `unknown_fields` has for it.

    The value is judged as one that comes now, but by no rule of the topic's own; one that the contract refuses stays in
    `unknown_fields`, with all that no field takes, to the letter. Nothing else changes.
    """
    contract, fields = compile_contract(topic), list_fillable(topic)
    columns = {name: rows.column(name) for name in rows.schema.names}
    texts = columns[UNKNOWN].to_pylist()
    members = [None if text is None else decode_members(text) for text in texts]
    changed: set[int] = set()
    for each in fields:
        build = build_column(each)
        is_free = columns[each.name].is_null().to_pylist()
        found: dict[int, Any] = {}
        for row, own in enumerate(members):
            if own is None or not is_free[row] or each.path[0] not in own:
                continue
            is_read, value = _read(contract, each, build, bytes(own[each.path[0]]), rules)
            if is_read:
                del own[each.path[0]]
                found[row] = value
                changed.add(row)
        if found:
            filled = build([found.get(row) for row in range(len(rows))], rules)
            old = columns[each.name]
            columns[each.name] = pa.compute.coalesce(old, filled.cast(old.type))
    left = [_write(members[row]) if row in changed else text for row, text in enumerate(texts)]
    columns[UNKNOWN] = pa.array(left, columns[UNKNOWN].type)
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=rows.schema)


def _read(contract: RecordContract, each: RecordField, build: Build, raw: bytes, rules: EventRules) -> tuple[bool, Any]:
    """Whether the contract takes a field's JSON, and the value."""
    try:
        found = parse_json(raw)
        if contract.topic.is_registered and (check := find_check(each.inspected, None, each.name)) is not None:
            check(found)  # as such values are judged when they come
        value = contract.read_field(each, found)
        build([value], rules)
    except (RejectedRecordError, UndecodableError, *NOT_HELD):
        return False, None
    return True, value


def _write(members: Mapping[str, msgspec.Raw] | None) -> str | None:
    if not members:
        return None
    return f"{{{','.join(write_member(name, raw) for name, raw in members.items())}}}"
