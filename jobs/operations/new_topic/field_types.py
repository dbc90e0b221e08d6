"""The type of a field, from the samples' values: the strictest that takes them all and what may well come later."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from jobs.operations.new_topic.decimals import find_digits
from jobs.operations.new_topic.field_names import name_class, name_fields, split_name
from jobs.operations.new_topic.parquet_samples import TypeHint
from jobs.operations.new_topic.places import Place
from jobs.operations.new_topic.times import SYSLOG_FORMAT, WORDS, FoundTime, find_number_time, find_text_time, is_date
from platform_assets.errors import UsageError
from platform_assets.streaming.record_types import INT64_MAX

# An object with more keys than this, each of which few samples have, is a table of its own: keys are values there.
_MOST_KEYS = 25
_RARE_SHARE = 0.3
MEMBER = r"[A-Za-z_][A-Za-z0-9_]*"
"""What a member of a nested record may be called: Spark reads its name from the text of a type."""


@dataclass(frozen=True)
class FieldType:
    """A type as it is written, such as `Decimal` with the mark `digits(18, 2)`. `time`: how it could be a moment."""

    python: str
    marks: tuple[str, ...] = ()
    time: FoundTime | None = None

    def as_item(self) -> str:
        """The type within another one."""
        return f"Annotated[{', '.join((self.python, *self.marks))}]" if self.marks else self.python


@dataclass
class RecordClass:
    """A nested record to write: its fields as (key, attribute, type, whether it is required)."""

    name: str
    fields: list[tuple[str, str, FieldType, bool]] = field(default_factory=list)


@dataclass
class TypeFinder:
    """Finds types; `classes` gathers the nested records on the way, `notes` what was decided, as sentences."""

    places: Sequence[str]
    hints: Mapping[tuple[str, ...], TypeHint]
    taken: set[str]
    classes: list[RecordClass] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def find(self, place: Place, is_top: bool) -> FieldType | None:
        """The type of what lies there; None where the samples do not tell: the field is left out then.

        Raises `UsageError` for values of several types.
        """
        if not place.seen:
            self.notes.append(f"{place.label} is null or empty in all samples: left out (it stays in unknown_fields).")
            return None
        self._require_one_type(place)
        kind = next(iter(place.json_types))
        if kind == "object":
            return self._find_object(place)
        if kind == "array":
            item = self.find(place.items, is_top=False)
            null = " | None" if item and not place.items.is_required else ""
            return item and FieldType(f"list[{item.as_item()}{null}]")
        if kind == "boolean":
            return FieldType("bool")
        hint = self.hints.get(place.path)
        return self._find_text(place, hint, is_top) if kind == "string" else self._find_number(place, hint, is_top)

    def _require_one_type(self, place: Place) -> None:
        kinds = place.json_types
        if len(kinds) > 1 and not (kinds.keys() == {"string", "number"} and find_digits(place)):
            said = ", ".join(f"a {kind} ({self.places[number]})" for kind, number in kinds.items())
            raise UsageError(
                f"{place.label} is of several types: {said}. A column has one: take out the samples that are wrong."
            )

    def _find_text(self, place: Place, hint: TypeHint | None, is_top: bool) -> FieldType:
        if hint is not None and hint.kind == "bytes":
            return FieldType("bytes")
        if (digits := find_digits(place)) is not None:
            self.notes.append(_say_money(place, digits))
            return FieldType("Decimal", (f"digits{digits}",))
        if all(map(is_date, place.values)):
            return FieldType("date")
        found = find_text_time(place.values)
        if found is None or found.format == SYSLOG_FORMAT:
            return FieldType("str", time=found)
        if found.format is not None:
            return FieldType("str", (f'time_format("{found.format}")',) if is_top else (), found)
        return FieldType("datetime", time=found) if found.is_plain else FieldType("str", time=found)

    def _find_number(self, place: Place, hint: TypeHint | None, is_top: bool) -> FieldType | None:
        if hint is not None and hint.kind == "decimal":
            return FieldType("Decimal", (f"digits{hint.digits}",))
        if hint is not None and hint.kind == "int32":
            return FieldType("int", ("Meta(le=2**31 - 1)",))
        is_whole = all(value.lstrip("-").isdigit() for value in place.values)
        words = set(split_name(place.path[-1]))
        time = find_number_time(place.values) if WORDS & words else None
        if hint is None and (digits := find_digits(place)) is not None:
            said = _say_money(place, digits)
            self.notes.append(f"{said} Look whether it is counted in cents: then it is an int." if is_whole else said)
            return FieldType("Decimal", (f"digits{digits}",))
        if not is_whole or (hint is not None and hint.kind == "float"):
            return FieldType("float", time=time)
        if any(abs(Decimal(value)) > INT64_MAX for value in place.values):
            self.notes.append(f"{place.label} has numbers of more than 64 bits: a Decimal without a point.")
            return FieldType("Decimal", ("digits(38, 0)",))
        if time is not None and is_top:
            return FieldType("int", (f'epoch("{time.unit}")',), time)
        return FieldType("int", time=time)

    def _find_object(self, place: Place) -> FieldType | None:
        if self._is_map(place):
            return self._find_map(place)
        found = RecordClass(name_class(place.path[-1] if place.path[-1] != "[]" else place.path[-2], self.taken))
        self.taken.add(found.name)
        named = {key: each for key, each in place.members.items() if self._is_member(each)}
        attributes = name_fields(named, is_top=False)
        typed = [(key, self.find(each, is_top=False), each.is_required) for key, each in named.items()]
        found.fields = [(key, attributes[key], of, required) for key, of, required in typed if of is not None]
        if not found.fields:
            self.notes.append(f"{place.label} has no field that is known: left out (it stays in unknown_fields).")
            return None
        self.classes.append(found)
        return FieldType(found.name)

    def _is_member(self, place: Place) -> bool:
        if re.fullmatch(MEMBER, place.path[-1]):
            return True
        said = "letters, digits and _ only can be a column's part"
        self.notes.append(f"{place.label}: {said}. Left out (it stays in unknown_fields).")
        return False

    def _is_map(self, place: Place) -> bool:
        if (hint := self.hints.get(place.path)) is not None:
            return hint.kind == "map"
        keys = place.members
        if not keys or len(keys) <= _MOST_KEYS:
            return False
        return sum(len(each.seen) for each in keys.values()) < _RARE_SHARE * len(keys) * len(place.seen)

    def _find_map(self, place: Place) -> FieldType | None:
        """One type for the values under all keys."""
        number = len(place.members)
        values = Place((*place.path, "[]"), 0)
        for each in place.members.values():
            values.holders += len(each.seen)
            values.seen += each.seen
        if place.path not in self.hints:
            self.notes.append(f"{place.label} has {number:,} different keys: a dict.")
        item = self.find(values, is_top=False)
        return item and FieldType(f"dict[str, {item.as_item()}]")


def _say_money(place: Place, digits: tuple[int, int]) -> str:
    return f"{place.label} is money by its name: a Decimal with {digits[1]} digits behind the point."
