r"""Rows as the text that Postgres's COPY reads, made by Arrow column by column.

It is COPY's own text format, and not CSV: in that, a line `\.` within a quoted text ends the data before Postgres 18.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from math import isfinite
from typing import TYPE_CHECKING, Any

import msgspec

from platform_assets.errors import SinkTargetError
from platform_assets.sinks.target import JSON, TargetColumn

if TYPE_CHECKING:
    import pyarrow as pa

NUL, SHOWN_NUL = "\x00", "\N{SYMBOL FOR NULL}"
"""No text of Postgres can hold the first; the sign that stands for it is written in its place."""

_NULL = r"\N"
# The backslash first: it is what the others are written with.
_ESCAPES = {NUL: SHOWN_NUL, "\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"}
_TO_ESCAPE = r"[\x00\\\t\n\r]"
# Arrow writes other years in a way that Postgres does not read.
_FIRST, _LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
_NO_NUMBERS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


class CopySource:
    """Rows as a file that psycopg2's `copy_expert` reads: some megabytes at a time, never all. `rows` counts them.

    What reading them has raised is kept in `error`: the driver only says that the query was cancelled.
    """

    def __init__(self, batches: Iterable[pa.RecordBatch], columns: Sequence[TargetColumn]) -> None:
        self.rows = 0
        self.error: Exception | None = None
        self._parts = self._encode(batches, columns)
        self._left = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """Gives at most `size` bytes; none at the end."""
        while not self._left:
            try:
                part = next(self._parts, None)
            except Exception as error:
                self.error = error
                raise
            if part is None:
                return b""
            self._left = part
        taken = self._left if size < 0 else self._left[:size]
        self._left = self._left[len(taken) :]
        return bytes(taken)

    def _encode(self, batches: Iterable[pa.RecordBatch], columns: Sequence[TargetColumn]) -> Iterator[memoryview]:
        for batch in batches:
            if batch.num_rows:
                self.rows += batch.num_rows
                yield encode_rows(batch, columns)


def encode_rows(batch: pa.RecordBatch, columns: Sequence[TargetColumn]) -> memoryview:
    """These columns of the rows, which must be at least one, a line each.

    Raises `SinkTargetError` for a time that Postgres would not read.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    large = pa.large_string()
    texts = [pc.fill_null(_as_text(batch.column(each.name), each), _NULL) for each in columns]
    lines = pc.binary_join_element_wise(*texts, pa.scalar("\t", large)) if len(texts) > 1 else texts[0]
    lines = pc.binary_join_element_wise(lines, pa.scalar("\n", large), pa.scalar("", large))
    return memoryview(lines.buffers()[2])[: pc.sum(pc.binary_length(lines)).as_py()]


def _as_text(values: pa.Array, column: TargetColumn) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    large = pa.large_string()
    if column.type == JSON:
        return _escape(pa.array([None if v is None else _as_json(v, values.type) for v in values.to_pylist()], large))
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        return pa.array([None if v is None else rf"\\x{v.hex()}" for v in values.to_pylist()], large)
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        _demand_readable(values, column.name)
    text = pc.cast(values, large)
    return _escape(text) if column.type == "text" else text


def _escape(texts: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    if not pc.any(pc.match_substring_regex(texts, _TO_ESCAPE)).as_py():
        return texts
    for sign, written in _ESCAPES.items():
        texts = pc.replace_substring(texts, sign, written)
    return texts


def _demand_readable(values: pa.Array, name: str) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    bounds = (_FIRST, _LAST) if pa.types.is_timestamp(values.type) else (_FIRST.date(), _LAST.date())
    low, high = (pa.scalar(bound, values.type) for bound in bounds)
    found = pc.min_max(values)
    if found["min"].is_valid and (pc.less(found["min"], low).as_py() or pc.greater(found["max"], high).as_py()):
        raise SinkTargetError(
            f"The column {name} has a time before the year 1 or after 9999, which Postgres is not given. Correct the "
            "row in the lakehouse, or leave the table out of HEADRACE_POSTGRES_TABLES."
        )


@cache
def _build_encoder() -> msgspec.json.Encoder:
    # A decimal as a number, with all its digits: jsonb keeps them.
    return msgspec.json.Encoder(decimal_format="number")


def _as_json(value: Any, kind: pa.DataType) -> str:
    return _build_encoder().encode(_plain(value, kind)).decode()


def _plain(value: Any, kind: pa.DataType) -> Any:
    """A nested value as the encoder takes it: maps are objects, and doubles that JSON has no number for are texts."""
    import pyarrow as pa

    if value is None:
        return None
    if pa.types.is_map(kind):
        return {_plain(key, kind.key_type): _plain(item, kind.item_type) for key, item in value}
    if pa.types.is_struct(kind):
        return {field.name: _plain(value[field.name], field.type) for field in kind}
    if pa.types.is_list(kind):
        return [_plain(item, kind.value_type) for item in value]
    if isinstance(value, str):
        return value.replace(NUL, SHOWN_NUL)
    if isinstance(value, float) and not isfinite(value):
        return _NO_NUMBERS[str(value)]
    return value
