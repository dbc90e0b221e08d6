"""The shape of a record, as its writer's schema has it: one description for Avro, Protobuf and JSON Schema.

From the shape it follows whether a contract can read the records (`contract_fit`), and which fields a new topic has.
What a value of each kind becomes, before the contract judges it, is its JSON form; docs/formats.md has the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from platform_assets.streaming.time_spellings import TimeUnit

ShapeKind: TypeAlias = Literal[
    "null", "bool", "int", "float", "decimal", "text", "bytes", "enum", "date", "time", "timestamp", "local_timestamp",
    "uuid", "duration", "list", "map", "record", "union", "any", "number",
]  # fmt: skip
"""`number` is JSON's: digits as they were written, which are a decimal, a double or a whole number."""


@dataclass(frozen=True)
class Shape:
    """A type of a writer's schema.

    `unit`: of a time, a timestamp or a local timestamp: what it is counted in; None where the schema does not say.
    `bits`: of an int (an unsigned one of 64 bits has 65). `digits`: precision and scale of a decimal, and of a number
    whose schema says them. `symbols`: of an enum. `item`: of a list or a map. `members`: of a record. `branches`: of a
    union; null is one of them. `name`: of a record or an enum, for messages. `is_recursive`: the record holds itself,
    and has no members here. `is_open`: a record may have members that its schema does not name, as in JSON.
    """

    kind: ShapeKind
    unit: TimeUnit | None = None
    bits: int = 64
    digits: tuple[int, int] | None = None
    symbols: tuple[str, ...] = ()
    item: Shape | None = None
    members: tuple[Member, ...] = ()
    branches: tuple[Shape, ...] = ()
    name: str = ""
    is_recursive: bool = False
    is_open: bool = False

    @property
    def choices(self) -> tuple[Shape, ...]:
        """The branches other than null; the shape itself where it is no union."""
        if self.kind != "union":
            return () if self.kind == "null" else (self,)
        return tuple(each for branch in self.branches for each in branch.choices)

    @property
    def is_nullable(self) -> bool:
        """Whether a value may be null."""
        return self.kind in ("null", "any") or any(branch.is_nullable for branch in self.branches)

    def find(self, name: str) -> Member | None:
        """The member of this name."""
        return next((member for member in self.members if member.name == name), None)

    def say(self) -> str:
        """The type in words, for people, with its article."""
        match self.kind:
            case "union":
                return " or ".join(branch.say() for branch in self.branches)
            case "decimal" if self.digits is not None:
                return f"a decimal({self.digits[0]},{self.digits[1]})"
            case "timestamp" | "local_timestamp" | "time" if self.unit is not None:
                return f"a {self.kind.replace('_', ' ')} in {self.unit}"
            case "list" | "map" if self.item is not None:
                return f"a {self.kind} whose items are each {self.item.say()}"
            case "int":
                return f"a whole number of {min(self.bits, 64)} bits{', unsigned' if self.bits > 64 else ''}"
            case "enum":
                return f"one of {', '.join(self.symbols[:8])}{', ...' if len(self.symbols) > 8 else ''}"
            case "null" | "bytes":
                return self.kind
        words = {"float": "floating-point number", "bool": "boolean", "any": "value of any type"}
        return f"a {words.get(self.kind, self.kind)}"

    def walk(self) -> Iterator[Shape]:
        """The shape and all that lie in it."""
        yield self
        inside = [member.shape for member in self.members] + list(self.branches)
        for each in [*inside, *([] if self.item is None else [self.item])]:
            yield from each.walk()


@dataclass(frozen=True)
class Member:
    """A field of a record. `may_be_absent`: a value may come without it, and its default is not what is meant then.

    Of a shape to write by: `number`, by which Protobuf knows it, and `default`, what is written where it is absent.
    """

    name: str
    shape: Shape
    may_be_absent: bool = False
    description: str = ""
    number: int = field(default=0, compare=False)
    default: Any = field(default=None, compare=False)


def union_of(*branches: Shape) -> Shape:
    """A union; the shape itself for one branch."""
    return branches[0] if len(branches) == 1 else Shape("union", branches=branches)


def nullable(shape: Shape) -> Shape:
    """The shape, or null."""
    return shape if shape.is_nullable else union_of(Shape("null"), *shape.choices)


def require_one(shape: Shape) -> Shape:
    """The one type other than null that values of a shape to write by have. Raises `ValueError` for several."""
    [choice] = shape.choices
    return choice
