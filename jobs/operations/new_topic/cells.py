"""Texts of a table's columns, or of a pattern's groups, as JSON would have them: a column is of one type."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jobs.operations.new_topic.field_names import split_name
from platform_assets.streaming.ingest.field_values import Number

# As RFC 8259 writes a number. A text with a zero in front (a code, a telephone number) is none.
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_BOOLEANS = {"true": True, "false": False}
# Codes of digits: with other samples one would begin with a zero.
_CODES = {"zip", "zipcode", "postcode", "postal", "plz", "phone", "telephone", "mobile", "iban", "ean", "isbn"}


def type_columns(rows: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
    """The rows with numbers (`Number`) and booleans where each text of the column is one."""
    columns: dict[str, list[str]] = {}
    for row in rows:
        for name, text in row.items():
            columns.setdefault(name, []).append(text)
    readers = {name: _choose_reader(name, texts) for name, texts in columns.items()}
    return [{name: readers[name](text) for name, text in row.items()} for row in rows]


def _choose_reader(name: str, texts: Sequence[str]) -> Any:
    if not _CODES & set(split_name(name)) and all(_NUMBER.fullmatch(text) for text in texts):
        return Number
    if all(text.lower() in _BOOLEANS for text in texts):
        return lambda text: _BOOLEANS[text.lower()]
    return str
