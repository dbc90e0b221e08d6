"""Says of a topic that its values are Debezium's change events of the rows of one table, and what of a change is kept.

A value's row becomes the record, with what the change says of itself: see `changed_row.ChangedRow`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from platform_assets.errors import TopicSpecError
from platform_assets.streaming.record_types import Kind, RecordField

Operation = Literal["create", "update", "delete", "snapshot", "tombstone"]
OPERATIONS: dict[str, Operation] = {"c": "create", "u": "update", "d": "delete", "r": "snapshot"}
"""What a change does to a row, by Debezium's letter. The null value that follows a delete has none: a tombstone."""
PARTIAL_OPERATIONS: frozenset[str] = frozenset(("delete", "tombstone"))
"""Operations after which there is no row: the source may name it by its key alone."""

OPERATION, TIME, POSITION, SOURCE = "change_operation", "change_time", "change_position", "change_source"
FACTS: dict[str, Kind] = {OPERATION: "enum", TIME: "int", POSITION: "text", SOURCE: "text"}
"""What a change says of itself: fields of each record, and of which kind they are."""


@dataclass(frozen=True)
class ChangeEvents:
    """Each value is a change event of a row, as Debezium's connectors write it: JSON, with or without its schema.

    `key` are the record's fields that the primary key of the source's table is made of, by which Debezium keys its
    records. The record is derived from `ChangedRow`. `is_registered`: keys and values are in Confluent's frame instead,
    written by schemas of a registry (Avro, or another of its formats).
    """

    key: tuple[str, ...]
    is_registered: bool = False


def name_in_json(fact: str) -> str:
    """The name that a fact has in the JSON that the contract judges: no column of a source begins with it."""
    return f"__{fact}"


def check_change_events(
    values: ChangeEvents, fields: Sequence[RecordField], event_time: str, event_id: Sequence[str]
) -> None:
    """Raises `TopicSpecError` for a topic of change events whose record or roles do not fit to them."""
    known = {each.name: each for each in fields}
    for fact, kind in FACTS.items():
        # A field of the same name in a derived class keeps the JSON name that it had, and may have any type.
        if fact not in known or (known[fact].kind, known[fact].path) != (kind, (name_in_json(fact),)):
            said = f"The record of change events needs the field {fact} as it is: derive it from ChangedRow."
            raise TopicSpecError(f"{said} A column of this name is called otherwise here.", field=fact)
    if not values.key or len(set(values.key)) < len(values.key):
        raise _wrong("values", "ChangeEvents needs the fields of the primary key in `key`, each once.")
    for name in values.key:
        if name not in known or name in FACTS:
            raise _wrong("values", f"ChangeEvents names {name!r} in `key`, which is no field of the row.")
        found = known[name]
        if not found.is_required or found.is_nullable or len(found.path) > 1:
            raise _wrong("values", f"{name} is of the primary key: it must be required, never null, and in no object.")
    if event_time != TIME:
        raise _wrong("event_time", "event_time of change events is CHANGE_TIME: a delete may have no other time.")
    for name in event_id:
        if name not in (*values.key, OPERATION, POSITION):
            said = f"event_id names {name}: a delete may lack it. Choose of {', '.join((*values.key, POSITION))}."
            raise _wrong("event_id", said)


def _wrong(argument: str, message: str) -> TopicSpecError:
    return TopicSpecError(message, argument=argument)
