"""The type of a field, from a writer's schema: what takes every value that the schema allows, or no field at all."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from jobs.operations.new_topic.decimals import is_money
from jobs.operations.new_topic.field_names import name_class, name_fields
from jobs.operations.new_topic.field_types import MEMBER, FieldType, RecordClass
from jobs.operations.new_topic.literals import quote, quote_words
from platform_assets.streaming.formats.shapes import Member, Shape

# A file with more of them is not read by a person, and a line with a longer one is too long.
_MOST_SYMBOLS, _LONGEST_SYMBOL = 50, 60
_LONGEST_DESCRIPTION = 300
_WIDEST = 38
# A decimal whose schema does not say its digits: half of the widest column stands behind the point.
_UNKNOWN_DIGITS = (38, 18)
_PLAIN = {"bool": "bool", "float": "float", "number": "float", "text": "str", "bytes": "bytes", "date": "date",
          "uuid": "str", "time": "str", "duration": "str"}  # fmt: skip


@dataclass
class ShapeTypes:
    """Finds types; `classes` gathers the nested records on the way, `notes` what was decided, as sentences.

    `taken` are the names of classes that there are already.
    """

    taken: set[str]
    classes: list[RecordClass] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _found: dict[Shape, FieldType | None] = field(default_factory=dict)

    def find(self, shape: Shape, label: str, is_top: bool) -> FieldType | None:
        """The type for values of a shape other than null; None, with a note, where no field can have them.

        `label` is the place as a message says it. `is_top`: it is a field of the record itself.
        """
        choices = tuple(dict.fromkeys(shape.choices))
        if len(choices) != 1:
            said = f"is {shape.say()}, and a column has one type" if choices else "is always null"
            return self._leave_out(label, said)
        [one] = choices
        match one.kind:
            case "int":
                return self._find_int(one, label)
            case "decimal" | "number" if one.kind == "decimal" or one.digits is not None:
                return self._find_decimal(one, label)
            case "enum":
                return self._find_enum(one, label)
            case "timestamp" | "local_timestamp":
                return self._find_moment(one, label, is_top)
            case "list" | "map":
                return self._find_items(one, label)
            case "record":
                return self._find_record(one, label)
        if (python := _PLAIN.get(one.kind)) is not None:
            if python == "float" and is_money(label.rsplit(".", 1)[-1]):
                self.notes.append(f"{label} is money by its name, and a floating-point number by the schema: a float.")
            return FieldType(python)
        return self._leave_out(label, f"is {one.say()}, and a column has one type")

    def _leave_out(self, label: str, why: str) -> FieldType | None:
        """Says why there is no field; gives the type of none."""
        self.notes.append(f"{label} {why}: left out, its values stay in unknown_fields.")
        return None

    def _find_int(self, shape: Shape, label: str) -> FieldType:
        if shape.bits <= 64:
            return FieldType("int")
        self.notes.append(f"{label} may have numbers of more than 63 bits: a Decimal without a point.")
        return FieldType("Decimal", ("digits(38, 0)",))

    def _find_decimal(self, shape: Shape, label: str) -> FieldType | None:
        precision, scale = shape.digits or _UNKNOWN_DIGITS
        if shape.digits is None:
            self.notes.append(f"{label}: the schema does not say its digits. Correct {_UNKNOWN_DIGITS} where you know.")
        # Zeros in front of the point (a scale below zero), or behind it only.
        precision, scale = max(precision, precision - scale, scale, 1), max(scale, 0)
        if scale > _WIDEST:
            return self._leave_out(label, f"has {scale} digits behind the point, and a column {_WIDEST}")
        if precision > _WIDEST:
            self.notes.append(f"{label} has {precision} digits, and a column {_WIDEST}: longer ones are quarantined.")
        return FieldType("Decimal", (f"digits({min(precision, _WIDEST)}, {scale})",))

    def _find_enum(self, shape: Shape, label: str) -> FieldType:
        symbols = shape.symbols
        if not symbols or len(symbols) > _MOST_SYMBOLS or any(len(each) > _LONGEST_SYMBOL for each in symbols):
            self.notes.append(f"{label} has {len(symbols)} texts, too many or too long for a Literal: a str.")
            return FieldType("str")
        self.notes.append(
            f"{label} is one of {len(symbols)} texts: a new one is quarantined until it stands in the file. Write str "
            "where any may come."
        )
        return FieldType(f"Literal[{', '.join(map(quote, symbols))}]")

    def _find_moment(self, shape: Shape, label: str, is_top: bool) -> FieldType:
        if shape.unit == "ns":
            self.notes.append(f"{label} has nanoseconds, which no column of times keeps: a str.")
            return FieldType("str")
        if shape.kind == "local_timestamp" and not is_top:
            self.notes.append(f"{label} has no zone, and would be taken for UTC within another value: a str.")
            return FieldType("str")
        return FieldType("datetime")

    def _find_items(self, shape: Shape, label: str) -> FieldType | None:
        assert shape.item is not None, "A list and a map have items."
        item = self.find(shape.item, f"{label}[]", is_top=False)
        if item is None:
            return None
        of = item.as_item() + (" | None" if shape.item.is_nullable else "")
        return FieldType(f"list[{of}]" if shape.kind == "list" else f"dict[str, {of}]")

    def _find_record(self, shape: Shape, label: str) -> FieldType | None:
        """A class, the same one wherever the schema has this type."""
        if shape not in self._found:
            self._found[shape] = self._write_class(shape, label)
        elif self._found[shape] is None:
            self._leave_out(label, "has no field that is known")
        return self._found[shape]

    def _write_class(self, shape: Shape, label: str) -> FieldType | None:
        if shape.is_recursive:
            return self._leave_out(label, "holds itself, and a column has an end")
        key = re.split(r"[./]", shape.name)[-1] if shape.name else label.rsplit(".", 1)[-1].replace("[]", "")
        # Named now, for the parts below it must not take the name.
        name = name_class(key, self.taken, is_plural=not shape.name)
        self.taken.add(name)
        members = {each.name: each for each in self._list_members(shape, label)}
        attributes = name_fields(members, is_top=False)
        typed = [(each, self.find(each.shape, f"{label}.{each.name}", is_top=False)) for each in members.values()]
        fields = [
            (each.name, attributes[each.name], _describe(each, of), is_required(each)) for each, of in typed if of
        ]
        if not fields:
            return self._leave_out(label, "has no field that is known")
        self.classes.append(RecordClass(name, fields))
        return FieldType(name)

    def _list_members(self, shape: Shape, label: str) -> list[Member]:
        """The members that can be a column's parts: of names that differ by capitals only the first."""
        kept: dict[str, Member] = {}
        for each in shape.members:
            if not re.fullmatch(MEMBER, each.name):
                self._leave_out(f"{label}.{each.name!r}", "is no name for a column's part (letters, digits and _)")
            elif kept.setdefault(each.name.lower(), each) is not each:
                self._leave_out(f"{label}.{each.name}", "differs from another name by capitals only")
        return list(kept.values())


def is_required(member: Member) -> bool:
    """Whether each value has the member, not null."""
    return not member.may_be_absent and not member.shape.is_nullable


def read_description(member: Member) -> str:
    """What the schema says of a field, on one line; empty where it says nothing."""
    words = " ".join("".join(each if each.isprintable() else " " for each in member.description).split())
    return words if len(words) <= _LONGEST_DESCRIPTION else f"{words[:_LONGEST_DESCRIPTION].rstrip()}..."


def _describe(member: Member, of: FieldType) -> FieldType:
    said = read_description(member)
    return FieldType(of.python, (*of.marks, f"Meta(description={quote_words(said)})")) if said else of
