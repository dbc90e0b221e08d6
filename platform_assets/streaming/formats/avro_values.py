"""Reads the values of Avro schemas by fastavro. Many at once cost half of as many one by one."""

from __future__ import annotations

import io
import json
import secrets
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from typing import Any

from platform_assets.streaming.formats.avro_columns import find_column_reader
from platform_assets.streaming.formats.avro_schema import OWN, name_enum, read_avro_schema, take_logical_types
from platform_assets.streaming.formats.reader import SchemaError, UndecodableError, ValueReader, compiled_once
from platform_assets.streaming.formats.registered_schema import RegisteredSchema
from platform_assets.streaming.formats.varint import write_zigzag

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOCAL_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 a time on a wall clock
_FIRST_DAY = date(1970, 1, 1).toordinal()
# The default context rounds to 28 digits.
_EXACT = Context(prec=1_000_000)
_TOO_LARGE = Decimal("1e999999")
_INTS = 2**31
_MARK_BYTES = 8
# No field of Avro's has such names.
_MARK, _ROWS = "(mark)", "(rows)"


@compiled_once
def read_avro(schema: RegisteredSchema) -> ValueReader:
    """The reader of a schema's values; the same one each time, in this process.

    Raises `SchemaError` where it cannot be used.
    """
    import fastavro

    found = read_avro_schema(schema.text, {each.name: each.text for each in schema.references})
    register_types(found.enums)
    columns = [(name, _find_reader(key, node)) for name, key, node in take_logical_types(found.own)]
    parsed, rows = _parse(found.own, found.referenced)
    read = fastavro.schemaless_reader

    def read_one(value: bytes) -> dict[str, Any]:
        found = read_exactly(value, read, parsed)
        try:
            _read_columns([found], columns)
        except (ValueError, OverflowError, ArithmeticError) as error:
            raise UndecodableError(str(error)) from None
        return found

    def read_many(values: Sequence[bytes]) -> list[dict[str, Any]] | None:
        found = _read_many(values, read, rows)
        try:
            _read_columns(found or (), columns)
        except (ValueError, OverflowError, ArithmeticError):
            return None
        return found

    return ValueReader(found.shape, read_one, None if rows is None else read_many, find_column_reader(found.shape))


def _parse(own: Any, referenced: Sequence[Any]) -> tuple[Any, Any]:
    """The schema as fastavro has it, and that of a record of many values with a mark behind each.

    The latter is None for a union of records: its values are read alone.
    """
    from fastavro import schema as schemas

    named: dict[str, Any] = {}
    names = OWN.removesuffix("-")
    mark = {"name": _MARK, "type": {"type": "fixed", "name": f"{names}.mark", "size": _MARK_BYTES}}
    try:
        for each in referenced:
            schemas.parse_schema(each, named_schemas=named)
        parsed = schemas.parse_schema(own, named_schemas=dict(named))
        if not isinstance(own, dict):
            return parsed, None
        # A record of its own with one field more: a second dict around each value would cost a third.
        row = {**own, "name": f"{names}.row", "fields": [*own["fields"], mark]}
        # Only to a record does fastavro attach the references, and only a record is not parsed at each read.
        field = {"name": _ROWS, "type": {"type": "array", "items": row}}
        rows = {"type": "record", "name": f"{names}.rows", "fields": [field]}
        return parsed, schemas.parse_schema(rows, named_schemas=named)
    except RecursionError:
        raise SchemaError("the schema is nested too deeply") from None
    except (schemas.SchemaParseException, schemas.UnknownType, TypeError, ValueError, KeyError) as error:
        raise SchemaError(f"the schema is none that can be read: {error}") from None


def _read_columns(plains: Sequence[dict[str, Any]], columns: Sequence[tuple[str, Callable[[Any], Any]]]) -> None:
    """Reads the logical types of fields, in place. Raises what they raise."""
    for name, read in columns:
        if read is _read_finite:
            for plain in plains:
                if (value := plain[name]) is not None and value - value != 0:
                    _read_finite(value)
            continue
        if read is _read_int:
            for plain in plains:
                if (value := plain[name]) is not None and not -_INTS <= value < _INTS:
                    _read_int(value)
            continue
        for plain in plains:
            if (value := plain[name]) is not None:
                plain[name] = read(value)


def _find_reader(key: str, node: Mapping[str, Any]) -> Callable[[Any], Any]:
    """What a logical type makes of a value, by its name and its node in the schema."""
    of, _, name = key.partition(f"-{OWN}")
    if name.startswith("enum:"):
        return _find_symbol(tuple(json.loads(name.removeprefix("enum:"))))
    if name == "decimal":
        return _find_decimal(node["precision"], node["scale"])
    return _READERS[of, name]


def read_exactly(value: bytes, read: Callable[..., Any], parsed: Any) -> dict[str, Any]:
    """The record that all of these bytes are, by fastavro's `schemaless_reader` and a parsed schema.

    Raises `UndecodableError`, whatever the bytes.
    """
    source = io.BytesIO(value)
    try:
        found: dict[str, Any] = read(source, parsed)
    except RecursionError:
        raise UndecodableError("nested too deeply to be read") from None
    except EOFError:
        raise UndecodableError("the value ends too early") from None
    except Exception as error:  # noqa: BLE001 whatever such bytes make fastavro raise
        raise UndecodableError(str(error) or type(error).__name__) from None
    if source.tell() < len(value):
        raise UndecodableError(f"{len(value) - source.tell()} bytes are left over")
    return found


def _read_many(values: Sequence[bytes], read: Callable[..., Any], rows: Any) -> list[dict[str, Any]] | None:
    """The values, as one array of them; None where one of them cannot be read.

    Behind each stands a mark that nobody can foresee. Where it is found again, the value took its own bytes only.
    """
    mark = secrets.token_bytes(_MARK_BYTES)
    count = write_zigzag(len(values))
    source = io.BytesIO(b"".join([count, mark.join(values), mark, b"\0"]))
    try:
        found = read(source, rows)[_ROWS]
    except Exception:  # noqa: BLE001 each is read by itself then, which says what is wrong with it
        return None
    if len(found) != len(values) or any(row.pop(_MARK) != mark for row in found):
        return None
    plains: list[dict[str, Any]] = found
    return plains


def register_types(enums: Iterable[tuple[str, ...]]) -> None:
    """Has fastavro, in this process, read the logical types that `avro_schema` writes. No others have their names."""
    from fastavro import read

    own = {f"{of}-{OWN}{name}": _as_reader(act) for (of, name), act in _READERS.items()}
    own |= {f"{of}-{OWN}decimal": _read_decimal for of in ("bytes", "fixed")}
    own |= {f"int-{name_enum(each)}": _as_reader(_find_symbol(each)) for each in enums}
    read.LOGICAL_READERS.update(own)


def _as_reader(act: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda data, writer_schema=None, reader_schema=None: act(data)


def _find_symbol(symbols: tuple[str, ...]) -> Callable[[int], str]:
    count = len(symbols)

    def find(data: int) -> str:
        if not 0 <= data < count:
            raise ValueError(f"an enum of {count} symbols has no number {data}")
        return symbols[data]

    return find


def _find_decimal(precision: int, scale: int) -> Callable[[bytes], Decimal]:
    # More bytes are more digits than the type has; Python takes time for them by the square of their number.
    most_bytes = len((10**precision).to_bytes(precision, "big").lstrip(b"\0")) + 1

    def find(data: bytes) -> Decimal:
        if len(data) > most_bytes:
            sign = b"\xff" if data[0] & 0x80 else b"\0"
            data = sign + data.lstrip(sign)
        number = Decimal(int.from_bytes(data, "big", signed=True)) if len(data) <= most_bytes + 1 else _TOO_LARGE
        if number.adjusted() >= precision:
            raise ValueError(f"a decimal has more than {precision} digits")
        return number.scaleb(-scale, _EXACT)

    return find


def _read_decimal(data: bytes, writer_schema: Mapping[str, Any], reader_schema: Any = None) -> Decimal:
    return _find_decimal(writer_schema["precision"], writer_schema["scale"])(data)


def _refuse_branch(data: Any) -> Any:
    raise ValueError("a union has no such branch")


def _read_finite(data: float) -> float:
    if data - data != 0:
        raise ValueError(f"{data} is no number that JSON has")
    return data


def _read_int(data: int) -> int:
    if not -_INTS <= data < _INTS:
        raise ValueError(f"{data} is no number of 32 bits")
    return data


def _read_nanos(data: int, zone: str) -> str:
    """Text with all nine digits: no clock here has nanoseconds."""
    seconds, nanos = divmod(data, 1_000_000_000)
    return f"{(_LOCAL_EPOCH + timedelta(seconds=seconds)).isoformat()}.{nanos:09d}{zone}"


def _read_time(count: int, per_second: int) -> str:
    seconds, rest = divmod(count, per_second)
    if not 0 <= seconds < 86_400:
        raise ValueError(f"{count} is no time of day")
    digits = len(str(per_second)) - 1
    fraction = f".{rest:0{digits}d}" if rest else ""
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{fraction}"


def _read_duration(data: bytes) -> str:
    """ISO 8601. Months, days and milliseconds stay apart: no month has a number of days."""
    months, days, millis = (int.from_bytes(data[at : at + 4], "little") for at in (0, 4, 8))
    return f"P{months}M{days}DT{millis // 1000}.{millis % 1000:03d}S"


_READERS: Mapping[tuple[str, str], Callable[[Any], Any]] = {
    ("float", "finite"): _read_finite,
    ("double", "finite"): _read_finite,
    ("null", "no-branch"): _refuse_branch,
    ("int", "int"): _read_int,
    ("int", "date"): lambda days: date.fromordinal(_FIRST_DAY + days),
    ("int", "time-millis"): lambda count: _read_time(count, 1_000),
    ("long", "time-micros"): lambda count: _read_time(count, 1_000_000),
    ("long", "time-nanos"): lambda count: _read_time(count, 1_000_000_000),
    ("long", "timestamp-millis"): lambda count: _EPOCH + timedelta(0, 0, 0, count),
    ("long", "timestamp-micros"): lambda count: _EPOCH + timedelta(0, 0, count),
    ("long", "timestamp-nanos"): lambda count: _read_nanos(count, "Z"),
    ("long", "local-timestamp-millis"): lambda count: _LOCAL_EPOCH + timedelta(0, 0, 0, count),
    ("long", "local-timestamp-micros"): lambda count: _LOCAL_EPOCH + timedelta(0, 0, count),
    ("long", "local-timestamp-nanos"): lambda count: _read_nanos(count, ""),
    ("fixed", "duration"): _read_duration,
    ("fixed", "uuid"): lambda data: str(uuid.UUID(bytes=data)),
}
