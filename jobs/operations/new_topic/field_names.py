"""Names for what JSON calls otherwise than Python: attributes, which are the columns too, and classes."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Iterable, Mapping

from platform_assets.streaming.topic_tables import COORDINATES

ENGINE_COLUMNS = frozenset(
    {*(column.name for column in COORDINATES), "unknown_fields", "ingested_at", "event_date", "event_time",
     "is_anonymous"}
)  # fmt: skip
"""Columns that each table of accepted records has by itself."""
# What a file's annotations and defaults say, each of which an attribute of the class would hide.
_TYPES = frozenset(
    ("str", "int", "float", "bool", "bytes", "list", "dict", "date", "datetime", "digits", "epoch", "time_format",
     "msgspec")
)  # fmt: skip
_TAKEN_CLASSES = frozenset(
    ("Annotated", "Decimal", "EventTime", "JsonValues", "Literal", "Meta", "Record", "RegistryValues", "TextLines",
     "Topic", "None", "True", "False")
)  # fmt: skip

# Letters that look like digits: pycodestyle (E741, E742) refuses them as names of attributes and classes.
_AMBIGUOUS = frozenset(("l", "I", "O"))


def split_name(name: str) -> list[str]:
    """The words of a name, small: `customerId`, `customer-id` and `CUSTOMER_ID` have the same ones."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    spaced = re.sub(r"([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])", r"\1\3_\2\4", plain)
    return [word for word in re.split(r"[^a-z0-9]+", spaced.lower()) if word]


def as_attribute(key: str) -> str:
    """The attribute for a key of JSON: small letters, digits and _."""
    name = "_".join(split_name(key)) or "field"
    return f"field_{name}" if name[0].isdigit() else name


def name_fields(keys: Iterable[str], is_top: bool, time_key: str = "") -> Mapping[str, str]:
    """An attribute for each key, all different; none is a keyword, a type, an ambiguous letter or the engine's column.

    The time's own may be called as its column: it becomes that.
    """
    names: dict[str, str] = {}
    for key in keys:
        name = as_attribute(key)
        if keyword.iskeyword(name) or name in _TYPES | _AMBIGUOUS:
            name += "_"
        if is_top and name in ENGINE_COLUMNS and not (key == time_key and name == "event_time"):
            name = f"sent_{name}"
        wanted, number = name, 2
        while name in names.values():
            name, number = f"{wanted}_{number}", number + 1
        names[key] = name
    return names


def name_class(key: str, taken: Iterable[str], is_plural: bool = True) -> str:
    """A class's name for what a key holds, or a topic: `order_items` gives OrderItem."""
    words = split_name(key) or ["part"]
    if is_plural:
        words[-1] = _singular(words[-1])
    name = "".join(word.capitalize() for word in words)
    if name[0].isdigit() or name in _AMBIGUOUS:
        name = f"Part{name}"
    wanted, number = name, 2
    while name in taken or name in _TAKEN_CLASSES:
        name, number = f"{wanted}{number}", number + 1
    return name


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    if re.search("(ss|us|is)$", word) or len(word) < 4:
        return word
    return word.removesuffix("s")
