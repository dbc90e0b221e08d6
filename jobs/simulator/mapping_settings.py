"""A mapping as a person writes it: in a file, or as options of the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from jobs.simulator.mapping import SHOP_FIELDS, RecordedFields, RowMapping
from platform_assets.errors import UsageError

_TABLES = ("columns", "constants", "values")


def load_mapping(path: Path, fields: RecordedFields = SHOP_FIELDS) -> RowMapping:
    """Reads a TOML or JSON file with the tables `columns`, `constants` and `values`, `null` (a list) and `time_format`.

    Each is optional.

    Raises `UsageError` when it cannot be read, is neither, or has other entries.
    """
    try:
        content = path.read_bytes()
        entries = msgspec.json.decode(content) if path.suffix == ".json" else tomllib.loads(content.decode())
    except OSError as error:
        raise UsageError(f"The mapping {path} cannot be read ({error.strerror}). Check the path.") from None
    except (ValueError, msgspec.DecodeError) as error:
        raise UsageError(f"The mapping {path} is not TOML (or .json: JSON): {error}. Fix the file.") from None
    tables: dict[str, Any] = entries if isinstance(entries, dict) else {"": None}
    nulls, time_format = tables.pop("null", []), tables.pop("time_format", None)
    if (
        set(tables) - set(_TABLES)
        or not all(isinstance(table, dict) for table in tables.values())
        or not (isinstance(nulls, list) and all(isinstance(text, str) for text in nulls))
        or not (time_format is None or isinstance(time_format, str))
    ):
        raise UsageError(
            f"The mapping {path} may have the tables columns, constants and values, a list of texts null and a text "
            "time_format only. Fix the file."
        )
    return RowMapping(**tables, nulls=frozenset(nulls), time_format=time_format, fields=fields)


def parse_mapping(
    columns: Sequence[str],
    constants: Sequence[str],
    values: Sequence[str],
    nulls: Iterable[str] = (),
    time_format: str | None = None,
    fields: RecordedFields = SHOP_FIELDS,
) -> RowMapping:
    """A mapping from the command line: `THEIRS=OURS`, `FIELD=VALUE`, `FIELD.THEIRS=OURS`. Raises `UsageError`."""
    translations: dict[str, dict[str, str]] = {}
    for text in values:
        left, right = _pair("value", text, "FIELD.THEIRS=OURS")
        name, separator, theirs = left.partition(".")
        if not separator:
            raise UsageError(f"value is {text!r}. Write FIELD.THEIRS=OURS, such as event_type.view=page_view.")
        translations.setdefault(name, {})[theirs] = right
    return RowMapping(
        dict(_pair("map", text, "THEIR_COLUMN=OUR_FIELD") for text in columns),
        dict(_pair("set", text, "FIELD=VALUE") for text in constants),
        translations,
        frozenset(nulls),
        time_format,
        fields,
    )


def _pair(option: str, text: str, form: str) -> tuple[str, str]:
    left, separator, right = text.partition("=")
    if not (left and separator and right):
        raise UsageError(f"{option} is {text!r}. Write {form}.")
    return left, right
