"""From a row of somebody's own recording to an event of the contract."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec

from platform_assets.errors import SettingError

_IDS = ("event_id", "user_id", "product_id", "session_id")
_TEXTS = (*_IDS, "event_type", "product_name", "category", "device_type", "country")
_NUMBERS = ("price", "revenue")
FIELDS = (*_TEXTS, "timestamp", *_NUMBERS, "quantity")
REQUIRED = ("event_type", "timestamp", "user_id")

# Numbers are taken for seconds, milliseconds, microseconds or nanoseconds by their size: seconds stay below this
# bound until the year 5138, milliseconds are above it since 1973.
_LARGEST_SECONDS = Decimal(10) ** 11


class RowError(Exception):
    """A row that cannot become a record; the message says which field and why. Never leaves `jobs.simulator`."""


@dataclass(frozen=True)
class RowMapping:
    """How a row's columns and values become an event's.

    `columns`: their column -> our field. `constants`: our field -> a value for every row. `values`: our field ->
    (their value -> ours), such as event_type: view -> page_view.

    A column that is not named goes into the field of the same name, or, where the contract has none, stays in the
    event as it is: the stream keeps it in `unknown_fields`. Raises `SettingError` for a field that does not exist.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*self.columns.values(), *self.constants, *self.values):
            if name not in FIELDS:
                raise SettingError(f"The event has no field {name!r}. Its fields are {', '.join(FIELDS)}.")
        targets = list(self.columns.values())
        twice = {name for name in targets if targets.count(name) > 1}
        if twice:
            raise SettingError(f"Two columns are mapped to {', '.join(sorted(twice))}. Map one column to a field.")

    def merged(self, other: RowMapping) -> RowMapping:
        """Both together; `other` wins."""
        names = {*self.values, *other.values}
        values = {name: {**self.values.get(name, {}), **other.values.get(name, {})} for name in names}
        return RowMapping({**self.columns, **other.columns}, {**self.constants, **other.constants}, values)

    def event(self, row: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """The event (its `timestamp` not yet written, its `event_id` perhaps missing) and its time in microseconds.

        Text becomes a number where the contract wants one, and the reverse; `revenue` of a purchase without one is
        price x quantity. Nothing else is judged here: that is the stream's work. Raises `RowError`.
        """
        event: dict[str, Any] = {}
        for column, value in row.items():
            event[self.columns.get(column, column)] = value
        # Named columns win over columns that have the field's name by chance.
        for column, name in self.columns.items():
            if column in row:
                event[name] = row[column]
        event |= self.constants
        for name, translation in self.values.items():
            if event.get(name) is not None:
                event[name] = translation.get(str(event[name]), event[name])
        for name in REQUIRED:
            if _is_missing(event.get(name)):
                raise RowError(f"no value for {name}")
        for name in _TEXTS:
            if name in event:
                event[name] = _text(name, event[name])
        for name in _NUMBERS:
            if name in event:
                event[name] = _number(name, event[name])
        if "quantity" in event:
            event["quantity"] = _whole_number(event["quantity"])
        if event.get("revenue") is None:
            event["revenue"] = _revenue(event)
        if event.get("event_id") is None:
            event.pop("event_id", None)
        return event, microseconds(event["timestamp"])


def _is_missing(value: Any) -> bool:
    # NaN is how data frames write "no value" into a column of floats.
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _text(name: str, value: Any) -> str | None:
    if _is_missing(value):
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise RowError(f"{name} is a {type(value).__name__}, not a text or a number")
    # pandas and Parquet turn whole-number ids with gaps into floats: 4711.0 is customer 4711.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _number(name: str, value: Any) -> float | None:
    if _is_missing(value):
        return None
    try:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)
    except (TypeError, ValueError):
        raise RowError(f"{name} is {value!r}, not a number") from None
    if not math.isfinite(number):
        raise RowError(f"{name} is {value!r}, not a finite number")
    return number


def _whole_number(value: Any) -> int | None:
    number = _number("quantity", value)
    if number is None:
        return None
    if not number.is_integer():
        raise RowError(f"quantity is {value!r}, not a whole number")
    return int(number)


def _revenue(event: Mapping[str, Any]) -> float:
    price: float | None = event.get("price")
    quantity: int | None = event.get("quantity")
    if event["event_type"] != "purchase" or price is None:
        return 0.0
    return round(price * (1 if quantity is None else quantity), 2)


def microseconds(value: Any) -> int:
    """A recorded time in microseconds since 1970. Without a zone it is UTC.

    Takes ISO-8601 (also with a blank for the T and " UTC" for the Z), datetimes, and numbers (also as text) of
    seconds, milli-, micro- or nanoseconds. Raises `RowError`.
    """
    if isinstance(value, datetime):
        return _since_1970(value)
    if isinstance(value, date):
        return _since_1970(datetime(value.year, value.month, value.day, tzinfo=UTC))
    try:
        number = None if isinstance(value, bool) else Decimal(str(value))
    except InvalidOperation:
        number = None
    if number is not None:
        if number.is_nan() or not 0 <= number < _LARGEST_SECONDS * 10**9:
            raise RowError(f"timestamp is {value!r}, not a time")
        scale = Decimal(1_000_000)
        while number >= _LARGEST_SECONDS * 1_000_000 / scale:
            scale /= 1000
        return int(number * scale)
    try:
        return _since_1970(datetime.fromisoformat(str(value).strip().removesuffix(" UTC").removesuffix("Z")))
    except ValueError:
        raise RowError(f"timestamp is {value!r}, not a time") from None


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _since_1970(moment: datetime) -> int:
    delta = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def derived_event_id(row: Mapping[str, Any], number: int) -> str:
    """An id for a row without one: the same for the same row at the same place, whenever and however it is replayed."""
    text = json.dumps([number, {key: str(value) for key, value in row.items()}], sort_keys=True)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def load_mapping(path: Path) -> RowMapping:
    """Reads a TOML or JSON file with the tables `columns`, `constants` and `values`, each optional.

    Raises `SettingError` when it cannot be read, is neither, or has other entries.
    """
    try:
        content = path.read_bytes()
        tables = msgspec.json.decode(content) if path.suffix == ".json" else tomllib.loads(content.decode())
    except OSError as error:
        raise SettingError(f"The mapping {path} cannot be read ({error.strerror}). Check the path.") from None
    except (ValueError, msgspec.DecodeError) as error:
        raise SettingError(f"The mapping {path} is not TOML (or .json: JSON): {error}. Mend the file.") from None
    known = {"columns", "constants", "values"}
    if not isinstance(tables, dict) or set(tables) - known or not all(isinstance(t, dict) for t in tables.values()):
        raise SettingError(f"The mapping {path} may have the tables columns, constants and values only. Mend the file.")
    return RowMapping(**tables)


def parse_mapping(columns: list[str], constants: list[str], values: list[str]) -> RowMapping:
    """A mapping from the command line: `THEIRS=OURS`, `FIELD=VALUE`, `FIELD.THEIRS=OURS`. Raises `SettingError`."""
    translations: dict[str, dict[str, str]] = {}
    for text in values:
        left, right = _pair("value", text, "FIELD.THEIRS=OURS")
        name, separator, theirs = left.partition(".")
        if not separator:
            raise SettingError(f"value is {text!r}. Write FIELD.THEIRS=OURS, such as event_type.view=page_view.")
        translations.setdefault(name, {})[theirs] = right
    return RowMapping(
        dict(_pair("map", text, "THEIR_COLUMN=OUR_FIELD") for text in columns),
        dict(_pair("set", text, "FIELD=VALUE") for text in constants),
        translations,
    )


def _pair(option: str, text: str, form: str) -> tuple[str, str]:
    left, separator, right = text.partition("=")
    if not (left and separator and right):
        raise SettingError(f"{option} is {text!r}. Write {form}.")
    return left, right
