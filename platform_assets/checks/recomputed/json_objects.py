"""JSON objects with any names, in columns of text: read into rows, and written."""

from __future__ import annotations

import json
from typing import Any

import polars as pl

# One name of an object, quoted; what is escaped in it stays so.
_NAME = r'"((?:[^"\\]|\\.)*)"\s*:\s*'
# The members of an object that holds no other; a brace in a text is none.
_MEMBERS = r'((?:[^{}"]|"(?:[^"\\]|\\.)*")*)'
_KEY_PREFIX = len('{"key":')


def explode_counts(rows: pl.LazyFrame, column: str) -> pl.LazyFrame:
    """`{"a":1,"b":2}` becomes two rows with `key` and `n`; the other columns are repeated."""
    entry = pl.Struct({"key": pl.String, "n": pl.Int64})
    return _explode(rows, column, rf"{_NAME}(-?\d+)", '{"key":"${1}","n":${2}}', entry)


def explode_texts(rows: pl.LazyFrame, column: str) -> pl.LazyFrame:
    """`{"a":"x"}` becomes a row with `key` and `text`. Texts must not hold a quotation mark or an escape."""
    entry = pl.Struct({"key": pl.String, "text": pl.String})
    return _explode(rows, column, rf'{_NAME}"([^"]*)"', '{"key":"${1}","text":"${2}"}', entry)


def explode_objects(rows: pl.LazyFrame, column: str, fields: dict[str, Any]) -> pl.LazyFrame:
    """`{"a":{"x":1}}` becomes a row with `key` and the object's `fields`, of which none is an object."""
    entry = pl.Struct({"key": pl.String, **fields})
    # With its members: the end of one and the beginning of the next would read as a name, of the name `:{`.
    return _explode(rows, column, rf"{_NAME}\{{{_MEMBERS}\}}", '{"key":"${1}",${2}}', entry)


def _explode(rows: pl.LazyFrame, column: str, pattern: str, entry: str, kind: pl.Struct) -> pl.LazyFrame:
    # Polars knows no type for an object with any names: written as a list of entries it does.
    inside = pl.col(column).str.replace_all(pattern, entry).str.slice(1).str.head(-1)
    entries = pl.concat_str(pl.lit("["), inside, pl.lit("]")).str.json_decode(pl.List(kind))
    return rows.filter(pl.col(column) != "{}").with_columns(entries.alias(column)).explode(column).unnest(column)


def quoted(column: str) -> pl.Expr:
    """The text as JSON has it."""
    return pl.struct(pl.col(column).alias("key")).struct.json_encode().str.slice(_KEY_PREFIX).str.head(-1)


def object_of(column: str, value: pl.Expr) -> pl.Expr:
    """An aggregate: a JSON object of the group's names in `column`, in order, and their values (JSON texts)."""
    members = pl.concat_str(quoted(column), pl.lit(":"), value)
    return pl.concat_str(pl.lit("{"), members.sort_by(column).str.join(","), pl.lit("}"))


def list_of(column: str) -> pl.Expr:
    """An aggregate: a JSON list of the group's texts, in order."""
    return pl.concat_str(pl.lit("["), quoted(column).sort_by(column).str.join(","), pl.lit("]"))


def is_same_json(one: str | None, other: str | None) -> bool:
    """Whether both texts say the same, whatever the order of names, the blanks and the escapes. Broken: no."""
    try:
        return _canonical(one) == _canonical(other)
    except (TypeError, ValueError):
        return one == other


def _canonical(text: Any) -> str:
    # Compared as pairs: a name that is there twice differs from one that is there once.
    return json.dumps(json.loads(text, object_pairs_hook=lambda pairs: sorted(pairs, key=lambda pair: pair[0])))
