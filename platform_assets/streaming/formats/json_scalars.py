"""The shapes of JSON's texts and numbers, as the schemas say that hold for them together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from platform_assets.streaming.formats.shapes import Shape, ShapeKind, union_of

Schemas = Sequence[Mapping[str, Any]]

_FORMATS: Mapping[str, ShapeKind] = {
    "date": "date", "time": "time", "date-time": "timestamp", "uuid": "uuid", "duration": "duration",
}  # fmt: skip
NOT_FINITE = ("NaN", "Infinity", "-Infinity")
"""The texts that stand for doubles that are no numbers of JSON's, as Protobuf's JSON has them."""
CONNECT_DECIMAL = "org.apache.kafka.connect.data.Decimal"
"""The title by which Kafka Connect marks a number as a decimal; its parameters are the digits."""
_INT32 = 2**31
_INT64 = 2**63
# The most digits that a column holds.
_MOST_DIGITS = 38


def read_options(schemas: Schemas) -> Shape | None:
    """The shape of `enum` and `const`: texts are symbols, others are their type. None where neither is said."""
    options: list[Any] | None = None
    for schema in schemas:
        said = [schema["const"]] if "const" in schema else schema.get("enum")
        if isinstance(said, list) and (options is None or len(said) < len(options)):
            options = said
    if options is None:
        return None
    texts = tuple(dict.fromkeys(each for each in options if isinstance(each, str)))
    shapes = [Shape("enum", symbols=texts)] if texts else []
    if any(each is None for each in options):
        shapes.insert(0, Shape("null"))
    if any(isinstance(each, bool) for each in options):
        shapes.append(Shape("bool"))
    numbers = [each for each in options if isinstance(each, int | Decimal) and not isinstance(each, bool)]
    if numbers:
        is_whole = all(each == int(each) for each in numbers)
        shapes.append(Shape("int", bits=_count_bits(min(numbers), max(numbers))) if is_whole else Shape("number"))
    if any(isinstance(each, list | dict) for each in options):
        return Shape("any")
    return union_of(*shapes) if shapes else Shape("null")


def read_text(schemas: Schemas) -> Shape:
    """A text; one of a known format is a date, a time or bytes."""
    for schema in schemas:
        if schema.get("contentEncoding") == "base64":
            return Shape("bytes")
        if isinstance(said := schema.get("format"), str) and said in _FORMATS:
            return Shape(_FORMATS[said])
    return Shape("text")


def read_whole(schemas: Schemas) -> Shape:
    """A whole number with the bits that its bounds need; 64 where the schema has no bounds."""
    lowest, highest = _find_bounds(schemas)
    return Shape("int", bits=_count_bits(lowest, highest))


def read_number(schemas: Schemas) -> Shape:
    """A number; with its digits where `multipleOf` and the bounds, or Connect's parameters, say how many there are."""
    if (digits := _find_connect_digits(schemas)) is not None:
        return Shape("number", digits=digits)
    for step in _find_numbers(schemas, "multipleOf"):
        if step > 0 and step == int(step):
            return read_whole(schemas)
        sign, _, exponent = step.normalize().as_tuple()
        lowest, highest = _find_bounds(schemas)
        if not isinstance(exponent, int) or lowest is None or highest is None or sign or -exponent > _MOST_DIGITS:
            continue
        whole = max(len(str(int(abs(each)))) if abs(each) >= 1 else 0 for each in (lowest, highest))
        if whole - exponent <= _MOST_DIGITS:
            return Shape("number", digits=(whole - exponent, -exponent))
    return Shape("number")


def _find_connect_digits(schemas: Schemas) -> tuple[int, int] | None:
    """Precision and scale of a number that Kafka Connect marks as a decimal; None where it does not say both."""
    for schema in schemas:
        said = schema.get("connect.parameters")
        if schema.get("title") != CONNECT_DECIMAL or not isinstance(said, dict):
            continue
        found = [str(said.get(name)) for name in ("connect.decimal.precision", "scale")]
        if not all(each.isascii() and each.isdigit() and len(each) < 4 for each in found):
            continue
        precision, scale = map(int, found)
        if 0 < precision <= _MOST_DIGITS and scale <= precision:
            return precision, scale
    return None


def _find_numbers(schemas: Schemas, name: str) -> Iterator[Decimal]:
    for schema in schemas:
        value = schema.get(name)
        # A number with thousands of digits would take seconds to be computed with.
        if isinstance(value, int | Decimal) and not isinstance(value, bool) and abs(Decimal(value).adjusted()) < 100:
            yield Decimal(value)
        elif isinstance(value, float):
            yield Decimal(repr(value))


def _find_bounds(schemas: Schemas) -> tuple[Decimal | None, Decimal | None]:
    lowest = [*_find_numbers(schemas, "minimum"), *_find_numbers(schemas, "exclusiveMinimum")]
    highest = [*_find_numbers(schemas, "maximum"), *_find_numbers(schemas, "exclusiveMaximum")]
    return max(lowest, default=None), min(highest, default=None)


def _count_bits(lowest: Decimal | int | None, highest: Decimal | int | None) -> int:
    """32, 64, or 65 for what the bounds let become larger. A missing bound is that of 64 bits."""
    low, high = -_INT64 if lowest is None else lowest, _INT64 - 1 if highest is None else highest
    if low >= -_INT32 and high < _INT32:
        return 32
    return 64 if low >= -_INT64 and high < _INT64 else 65
