"""Samples from Parquet: rows as JSON would have them, and what the file's schema knows of their types."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from platform_assets.errors import UsageError
from platform_assets.streaming.ingest.field_values import Number

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 4096
_MOST_DIGITS = 38


@dataclass(frozen=True)
class TypeHint:
    """What a schema says of a field and JSON cannot: digits of a decimal, 32 bits, bytes, a time, a map."""

    kind: Literal["decimal", "int32", "float", "bytes", "datetime", "date", "map"]
    digits: tuple[int, int] = (18, 2)


def read_parquet(
    path: Path, most: int
) -> tuple[list[dict[str, Any]], dict[tuple[str, ...], TypeHint], tuple[str, ...]]:
    """The first rows, the hints by path (`[]` stands for a list's items), and notes. Raises `UsageError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = []
    hints: dict[tuple[str, ...], TypeHint] = {}
    try:
        with pq.ParquetFile(path) as file:
            for each in file.schema_arrow:
                _list_hints((each.name,), each.type, hints)
            for batch in file.iter_batches(_BATCH_ROWS):
                rows += [_as_json(row) for row in batch.to_pylist(maps_as_pydicts="lossy")]
                if len(rows) >= most:
                    break
            total = file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path} cannot be read as Parquet ({error}).") from None
    notes: tuple[str, ...] = (
        "The types are those of the Parquet file; its rows are taken for JSON objects, with times in ISO 8601.",
    )
    if total > len(rows[:most]):
        notes = (*notes, f"Only the first {len(rows[:most]):,} of {total:,} rows were looked at.")
    return rows[:most], hints, notes


def _list_hints(path: tuple[str, ...], of: pa.DataType, hints: dict[tuple[str, ...], TypeHint]) -> None:
    import pyarrow as pa

    types = pa.types
    if types.is_decimal(of):
        precision = min(of.precision, _MOST_DIGITS)  # what a column holds: a value with more is quarantined
        hints[path] = TypeHint("decimal", (precision, min(max(of.scale, 0), precision)))
    elif types.is_integer(of) and (of.bit_width < 32 or of == pa.int32()):
        hints[path] = TypeHint("int32")
    elif types.is_floating(of):
        hints[path] = TypeHint("float")
    elif types.is_binary(of) or types.is_large_binary(of) or types.is_fixed_size_binary(of):
        hints[path] = TypeHint("bytes")
    elif types.is_timestamp(of):
        hints[path] = TypeHint("datetime")
    elif types.is_date(of):
        hints[path] = TypeHint("date")
    elif types.is_dictionary(of):
        _list_hints(path, of.value_type, hints)
    elif types.is_struct(of):
        for each in of:
            _list_hints((*path, each.name), each.type, hints)
    elif types.is_map(of):
        hints[path] = TypeHint("map")
        _list_hints((*path, "[]"), of.item_type, hints)
    elif types.is_list(of) or types.is_large_list(of) or types.is_fixed_size_list(of):
        _list_hints((*path, "[]"), of.value_type, hints)


def _as_json(value: Any) -> Any:
    match value:
        case bool() | str() | None:
            return value
        case int() | Decimal():
            return Number(format(value, "f") if isinstance(value, Decimal) else str(value))
        case float():
            return Number(repr(value)) if math.isfinite(value) else None
        case datetime():
            return _write_time(value)
        case date() | time():
            return value.isoformat()
        case timedelta():
            return Number(repr(value.total_seconds()))
        case bytes():
            return base64.b64encode(value).decode()
        case Mapping():
            return {str(key): _as_json(each) for key, each in value.items()}
    return [_as_json(each) for each in value]


def _write_time(value: datetime) -> str:
    # pandas' own class has nanoseconds, which ISO 8601 may have and Python's reader has not.
    plain = datetime.fromisoformat(value.isoformat()[:26]) if value.tzinfo is None else value.astimezone(UTC)
    return plain.isoformat() if value.tzinfo is None else plain.isoformat()[:26].removesuffix("+00:00") + "Z"
