"""What the samples have at one place: a field of the record, a member of an object, the items of a list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from platform_assets.streaming.ingest.field_values import name_json_type


@dataclass
class Place:
    """The values at a path. `holders` is how many objects could have had one; `seen` are those that are not null.

    Each value comes with the number of its sample, for messages.
    """

    path: tuple[str, ...]
    holders: int
    seen: list[tuple[int, Any]] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The path as a message says it."""
        return ".".join(self.path).replace(".[]", "[]")

    @cached_property
    def values(self) -> list[Any]:
        """The values without the numbers of their samples."""
        return [value for _, value in self.seen]

    @property
    def is_required(self) -> bool:
        """Whether each holder has a value that is not null."""
        return bool(self.seen) and len(self.seen) == self.holders

    @cached_property
    def json_types(self) -> dict[str, int]:
        """The JSON types of the values, each with the first sample that has it."""
        found: dict[str, int] = {}
        for number, value in self.seen:
            found.setdefault(name_json_type(value), number)
        return found

    @cached_property
    def counts(self) -> Mapping[Any, int]:
        """How often each text, number or boolean was seen; empty for lists and objects."""
        found: dict[Any, int] = {}
        if self.json_types.keys() <= {"string", "number", "boolean"}:
            for value in self.values:
                found[value] = found.get(value, 0) + 1
        return found

    @cached_property
    def members(self) -> dict[str, Place]:
        """The members of the objects here, by key, in the order of their first appearance."""
        return read_members(self.seen, self.path)

    @cached_property
    def items(self) -> Place:
        """The items of the lists here."""
        found = Place((*self.path, "[]"), 0)
        for number, values in self.seen:
            found.holders += len(values)
            found.seen += [(number, value) for value in values if value is not None]
        return found


def read_members(seen: Sequence[tuple[int, Mapping[str, Any]]], path: tuple[str, ...] = ()) -> dict[str, Place]:
    """The fields of these objects, by key."""
    found: dict[str, Place] = {}
    for number, holder in seen:
        for key, value in holder.items():
            place = found.setdefault(key, Place((*path, key), len(seen)))
            if value is not None:
                place.seen.append((number, value))
    return found


def read_samples_fields(values: Iterable[Mapping[str, Any]]) -> dict[str, Place]:
    """The fields of the samples, by key."""
    return read_members(list(enumerate(values)))
