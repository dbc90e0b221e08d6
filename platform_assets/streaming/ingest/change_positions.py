"""When a source committed a change, and the change's place in the source's log, as a text that sorts in its order."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from platform_assets.streaming.ingest.reasons import Reason, RejectedRecordError

_NANOS_PER_MICRO = 1_000
# The newest first: with a finer unit comes the coarser one, cut.
_MICROS_BY_NAME = {"ts_ns": (1, _NANOS_PER_MICRO), "ts_us": (1, 1), "ts_ms": (1_000, 1)}
_LARGEST = 2**64 - 1
_DIGITS = len(str(_LARGEST))
# MySQL and MariaDB number their files: binlog.000123.
_FILE_NUMBER = re.compile(r".*\.(\d{1,18})")
# SQL Server writes one as three hexadecimal numbers of fixed widths: 00000027:00000ac0:0002.
_HEXADECIMAL = re.compile(r"[0-9a-fA-F]+(?::[0-9a-fA-F]+)*")


def find_time(source: Mapping[str, Any], stand_in: Mapping[str, Any]) -> int:
    """When the change was committed, microseconds since 1970.

    `stand_in` has other times by the same names, for a source that has none. Raises `RejectedRecordError` for a time
    that is no number, and where there is none.
    """
    for times in (source, stand_in):
        for name, (factor, divisor) in _MICROS_BY_NAME.items():
            value = times.get(name)
            if value is None or value == 0:
                continue
            if type(value) is not int:
                raise RejectedRecordError(Reason.WRONG_TYPE, f"source.{name} is no whole number: {value!r}")
            return value * factor // divisor
    raise RejectedRecordError(Reason.MISSING_FIELD, "source.ts_ms is missing, null or 0: when it was committed")


def find_position(source: Mapping[str, Any], offset: int) -> str:
    """The change's place in the source's log. Of two of one row the later one has the greater text.

    Postgres: `lsn`. MySQL and MariaDB: `file`, `pos`, `row`. SQL Server: `commit_lsn`, `change_lsn`, `event_serial_no`.
    Of other sources, and where the connector has none, it is the record's Kafka offset: Debezium writes the changes of
    one row into one partition, in order. Raises `RejectedRecordError` for a place of another type.
    """
    if source.get("lsn") is not None:
        return _pad(source, "lsn")
    if source.get("file") is not None and source.get("pos") is not None:
        matched = _FILE_NUMBER.fullmatch(source["file"]) if isinstance(source["file"], str) else None
        if matched is None:
            raise _wrong("file", source["file"])
        row = _pad(source, "row") if source.get("row") is not None else "0" * _DIGITS
        return f"{int(matched[1]):0{_DIGITS}d}/{_pad(source, 'pos')}/{row}"
    if source.get("commit_lsn") is not None:
        serial = _pad(source, "event_serial_no") if source.get("event_serial_no") is not None else "0" * _DIGITS
        # A row of a snapshot has no change's place: it is before all changes of that commit.
        change = "" if source.get("change_lsn") is None else _read_hexadecimal(source, "change_lsn")
        return f"{_read_hexadecimal(source, 'commit_lsn')}/{change}/{serial}"
    return f"{offset:0{_DIGITS}d}"


def _pad(source: Mapping[str, Any], name: str) -> str:
    value = source[name]
    if type(value) is not int or not 0 <= value <= _LARGEST:
        raise _wrong(name, value)
    return f"{value:0{_DIGITS}d}"


def _read_hexadecimal(source: Mapping[str, Any], name: str) -> str:
    value = source[name]
    if not isinstance(value, str) or not _HEXADECIMAL.fullmatch(value):
        raise _wrong(name, value)
    return value.lower()


def _wrong(name: str, value: Any) -> RejectedRecordError:
    said = f"source.{name} is {value!r}: no place in a log by which changes can be ordered"
    return RejectedRecordError(Reason.WRONG_TYPE, said)
