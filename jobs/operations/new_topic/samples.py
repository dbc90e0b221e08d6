"""Reads samples of a topic's records: JSON lines, CSV, Parquet, or the lines of a log. At most so much of a file."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.operations.new_topic.cells import type_columns
from jobs.operations.new_topic.line_patterns import find_pattern
from jobs.operations.new_topic.parquet_samples import TypeHint, read_parquet
from jobs.simulator.row_files import Format, RowFile, Rows, format_of
from jobs.simulator.row_values import RowError
from platform_assets.errors import UsageError
from platform_assets.streaming.ingest.field_values import name_json_type
from platform_assets.streaming.ingest.json_values import parse_json, write_json
from platform_assets.streaming.ingest.reasons import RejectedRecordError

# What is looked at of a large file: a sample of a contract, not a load; more takes seconds and hundreds of megabytes.
MAX_BYTES = 32 * 1024 * 1024
MAX_SAMPLES = 50_000
_LOG_SUFFIXES = (".log", ".txt")


@dataclass(frozen=True)
class Samples:
    """Sampled records: `values` as JSON has them (numbers are `Number`), `raw` as they would lie in Kafka.

    `places` is what a message calls each of them. `pattern` is set for lines of text. `hints` are types that the file
    itself knows, by path. `notes` are sentences about what was read.
    """

    values: tuple[dict[str, Any], ...]
    raw: tuple[bytes, ...]
    places: tuple[str, ...]
    pattern: str | None = None
    hints: dict[tuple[str, ...], TypeHint] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_samples(path: Path) -> Samples:
    """The samples of a file. Raises `UsageError` for one that is missing, empty, or not what its name says."""
    if not path.is_file():
        raise UsageError(f"There is no file {path}. Give one with samples of the topic's records.")
    if path.suffix.lower() in _LOG_SUFFIXES:
        found = _read_log(path)
    else:
        kind = format_of(path)
        found = _read_json(path) if kind == "jsonl" else _read_rows(path, kind)
    if not found.values:
        raise UsageError(f"{path} holds no record. Give a file with some hundred samples.")
    if not any(found.values):
        raise UsageError(f"The records of {path} have no fields.")
    return found


def _read_lines(path: Path) -> tuple[list[tuple[int, bytes]], tuple[str, ...]]:
    """The lines that are not blank, with their numbers; a note where the rest was not read."""
    lines: list[tuple[int, bytes]] = []
    read = 0
    try:
        with closing(RowFile(path, "jsonl").open_bytes()) as file:
            for number, line in enumerate(file, 1):
                if read + len(line) > MAX_BYTES or len(lines) == MAX_SAMPLES:
                    return lines, (f"Only the first {len(lines):,} records of the file were looked at.",)
                read += len(line)
                if number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                    raise UsageError(f"{path} is text in UTF-16. Save it as UTF-8.")
                text = line.removeprefix(codecs.BOM_UTF8).rstrip(b"\r\n")
                if text.strip():
                    lines.append((number, text))
    except (OSError, EOFError) as error:
        raise UsageError(f"{path} cannot be read ({error}). Check the file.") from None
    return lines, ()


def _read_json(path: Path) -> Samples:
    lines, notes = _read_lines(path)
    values = []
    for number, line in lines:
        try:
            value = parse_json(line)
        except RejectedRecordError as error:
            say = " Write one object a line." if number == 1 and line.lstrip()[:1] in (b"[", b"{") else ""
            raise UsageError(f"{path}, line {number:,}: not JSON ({error.detail}).{say}") from None
        if not isinstance(value, dict):
            kind = name_json_type(value)
            lists = " Lists of records: docs/adding-a-topic.md#lists." if isinstance(value, list) else ""
            raise UsageError(f"{path}, line {number:,}: a JSON {kind}, not an object. Write one object a line.{lists}")
        values.append(value)
    places = tuple(f"line {number:,}" for number, _ in lines)
    return Samples(tuple(values), tuple(line for _, line in lines), places, notes=notes)


def _read_rows(path: Path, kind: Format) -> Samples:
    if kind == "parquet":
        rows, hints, notes = read_parquet(path, MAX_SAMPLES)
    else:
        cells, notes = _take(path, RowFile(path, kind).rows())
        rows, hints = type_columns(cells), {}
        said = "CSV has no types, and a topic of CSV is rare: its values are taken for JSON objects with these fields."
        notes = (*notes, said)
    raw = tuple(write_json(row).encode() for row in rows)
    places = tuple(f"row {number:,}" for number in range(1, len(rows) + 1))
    return Samples(tuple(rows), raw, places, hints=hints, notes=notes)


def _take(path: Path, rows: Rows) -> tuple[list[dict[str, str]], tuple[str, ...]]:
    cells: list[dict[str, str]] = []
    read = 0
    for number, row in rows:
        if isinstance(row, RowError):
            raise UsageError(f"{path}, row {number:,}: {row}. Fix the file.")
        if "" in row:
            raise UsageError(f"{path}: a column has no name in the header. Name it.")
        read += sum(map(len, row.values()))
        if len(cells) == MAX_SAMPLES or read > MAX_BYTES:
            return cells, (f"Only the first {len(cells):,} records of the file were looked at.",)
        cells.append(row)
    return cells, ()


def _read_log(path: Path) -> Samples:
    lines, notes = _read_lines(path)
    if lines and all(line.lstrip().startswith(b"{") for _, line in lines):
        return _read_json(path)
    texts = [_decode(path, number, line) for number, line in lines]
    found = find_pattern(texts, path)
    compiled = found.compiled
    matched = [(place, compiled.fullmatch(text)) for place, text in enumerate(texts)]
    kept = [(place, match.groupdict()) for place, match in matched if match is not None]
    cells = [{name: text for name, text in groups.items() if text is not None} for _, groups in kept]
    notes = (*notes, *found.notes, *_say_unmatched(lines, [place for place, match in matched if match is None]))
    return Samples(
        values=tuple(type_columns(cells)),
        raw=tuple(lines[place][1] for place, _ in kept),
        places=tuple(f"line {lines[place][0]:,}" for place, _ in kept),
        pattern=found.pattern,
        notes=notes,
    )


def _say_unmatched(lines: Sequence[tuple[int, bytes]], places: Sequence[int]) -> tuple[str, ...]:
    if not places:
        return (f"The pattern matches all {len(lines):,} lines.",)
    number, line = lines[places[0]]
    said = f"The pattern does not match {len(places):,} of {len(lines):,} lines, which would be quarantined. "
    return (said + f"The first is line {number:,}: {line[:120].decode(errors='replace')!r}. Look at the pattern.",)


def _decode(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}, line {number:,}: not UTF-8 ({error}). Save it as UTF-8.") from None
