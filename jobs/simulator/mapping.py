"""Maps a row of somebody's own recording to an event of the contract."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from jobs.simulator.recorded_times import check_time_format, microseconds
from jobs.simulator.row_values import RowError, as_number, as_text, as_whole_number, is_missing
from platform_assets.errors import UsageError
from platform_assets.streaming.topic_spec import JsonValues, Topic


@dataclass(frozen=True)
class RecordedFields:
    """The fields of a topic's record that a recording may have, by the type that the contract wants.

    `key`: the field that is the Kafka record's key. `derived_id`: the field that a row without it gets an id in; empty:
    none does. `others` stay as they are.
    """

    texts: tuple[str, ...]
    numbers: tuple[str, ...]
    whole_numbers: tuple[str, ...]
    required: tuple[str, ...]
    key: str
    derived_id: str = ""
    others: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All fields."""
        return (*self.texts, "timestamp", *self.numbers, *self.whole_numbers, *self.others)


SHOP_FIELDS = RecordedFields(
    texts=(
        "event_id", "user_id", "product_id", "session_id", "event_type", "product_name", "category", "device_type",
        "country", "currency",
    ),
    numbers=("price", "revenue"),
    whole_numbers=("quantity",),
    required=("event_type", "timestamp", "user_id"),
    key="user_id",
    derived_id="event_id",
)  # fmt: skip


def find_fields(topic: Topic) -> RecordedFields:
    """The fields of another topic, by its contract.

    Raises `UsageError` for a topic whose records are no flat JSON objects with a text `timestamp` in ISO 8601.
    """
    time = next(each for each in topic.fields if each.name == topic.event_time.field)
    is_flat = topic.values == JsonValues() and all(each.path == (each.name,) for each in topic.fields)
    if not is_flat or time.name != "timestamp" or time.kind != "text" or topic.event_time.format:
        raise UsageError(
            f"A recording cannot be sent as {topic.name}: its records are no flat JSON objects with a text timestamp."
        )
    others = [each for each in topic.fields if each is not time]

    def of(*kinds: str) -> tuple[str, ...]:
        return tuple(each.name for each in others if each.kind in kinds)

    return RecordedFields(
        texts=of("text", "enum"),
        numbers=of("float", "decimal"),
        whole_numbers=of("int"),
        required=tuple(each.name for each in topic.fields if each.is_required),
        key=topic.subject or time.name,
        derived_id=topic.event_id[0] if len(topic.event_id) == 1 else "",
        others=tuple(each.name for each in others if each.kind not in ("text", "enum", "float", "decimal", "int")),
    )


@dataclass(frozen=True)
class RowMapping:
    """How a row's columns and values become an event's.

    `columns`: their column -> our field. `constants`: our field -> a value for every row. `values`: our field ->
    (their value -> ours), such as event_type: view -> page_view. `nulls`: texts that mean that there is no value.
    `time_format`: how times are written (see `microseconds`). `fields`: of which topic they are; default: the shop's.

    A column is named by its own name or, inside nested JSON or a struct, by a dotted path (`user.id`, `items.0.price`).
    A column that is not named goes into the field of the same name, or, where the contract has none, stays in the
    event as it is: the stream keeps it in `unknown_fields`. Raises `UsageError` for a field that does not exist.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    nulls: frozenset[str] = frozenset()
    time_format: str | None = None
    fields: RecordedFields = SHOP_FIELDS

    def __post_init__(self) -> None:
        if self.time_format is not None:
            check_time_format(self.time_format)
        for name in (*self.columns.values(), *self.constants, *self.values):
            if name not in self.fields.names:
                raise UsageError(f"The event has no field {name!r}. Its fields are {', '.join(self.fields.names)}.")
        targets = list(self.columns.values())
        twice = {name for name in targets if targets.count(name) > 1}
        if twice:
            raise UsageError(f"Two columns are mapped to {', '.join(sorted(twice))}. Map one column to a field.")

    def merged(self, other: RowMapping) -> RowMapping:
        """Merges both; `other` wins."""
        names = {*self.values, *other.values}
        values = {name: {**self.values.get(name, {}), **other.values.get(name, {})} for name in names}
        return RowMapping(
            {**self.columns, **other.columns},
            {**self.constants, **other.constants},
            values,
            self.nulls | other.nulls,
            other.time_format or self.time_format,
            self.fields,
        )

    def column_of(self, name: str) -> str:
        """Their column that gives our field `name`."""
        return next((theirs for theirs, ours in self.columns.items() if ours == name), name)

    def time(self, row: Mapping[str, Any]) -> int:
        """The row's time in microseconds since 1970. Raises `RowError`."""
        return self._time(self._fields(row))

    def event(self, row: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """The event (its `timestamp` not yet written, its `event_id` perhaps missing) and its time in microseconds.

        Text becomes a number where the contract wants one, and the reverse. Nothing else is judged or made up here:
        that is the stream's work. Raises `RowError`.
        """
        event = self._fields(row)
        for name in self.fields.required:
            if is_missing(event.get(name)):
                raise RowError(f"no value for {name}")
        for name in self.fields.texts:
            if name in event:
                event[name] = as_text(name, event[name])
        for name in self.fields.numbers:
            if name in event:
                event[name] = as_number(name, event[name])
        for name in self.fields.whole_numbers:
            if name in event:
                event[name] = as_whole_number(name, event[name])
        if (derived := self.fields.derived_id) and event.get(derived) is None:
            event.pop(derived, None)
        return event, self._time(event)

    def _time(self, event: Mapping[str, Any]) -> int:
        if is_missing(event.get("timestamp")):
            raise RowError("no value for timestamp")
        return microseconds(event["timestamp"], self.time_format or "auto")

    def _fields(self, row: Mapping[str, Any]) -> dict[str, Any]:
        event = {self.columns.get(column, column): value for column, value in row.items()}
        # Named columns win over columns that have the field's name by chance.
        for column, name in self.columns.items():
            try:
                event[name] = _find(row, column)
            except LookupError:
                continue
        for name, value in event.items() if self.nulls else ():
            if isinstance(value, str) and value in self.nulls:
                event[name] = None
        event |= self.constants
        for name, translation in self.values.items():
            if event.get(name) is not None:
                event[name] = translation.get(str(event[name]), event[name])
        return event


def _find(row: Mapping[str, Any], column: str) -> Any:
    """The value of a column or of a dotted path. Raises `LookupError` where the row has none."""
    if column in row or "." not in column:
        return row[column]
    value: Any = row
    for step in column.split("."):
        if isinstance(value, list) and step.isdecimal():
            value = value[int(step)]
        elif isinstance(value, Mapping):
            value = value[step]
        else:
            raise LookupError(column)
    return value


def derived_event_id(row: Mapping[str, Any], number: int) -> str:
    """An id for a row without one: the same for the same row at the same place, whenever and however it is replayed."""
    text = json.dumps([number, {key: str(value) for key, value in row.items()}], sort_keys=True)
    return blake2b(text.encode(), digest_size=16).hexdigest()
