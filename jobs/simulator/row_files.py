"""Rows of a recorded file: JSON lines, CSV, tab-separated text or Parquet, in batches, never whole in memory."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from jobs.simulator.row_values import RowError
from platform_assets.errors import UsageError

Format = Literal["jsonl", "csv", "tsv", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)
_SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
# What else files of cells have between them: a header of one cell that holds one of them is such a file's.
_OTHER_SEPARATORS = ("\t", ";", "|")
_COMPRESSED_SUFFIXES = (".gz", ".zst", ".zstd")
# Compression is found by the first bytes: a file's name need not tell it.
_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}

# Rows of Parquet turned into Python objects at once: some megabytes.
_BATCH_ROWS = 4096
_CHUNK_BYTES = 1 << 20

# (row number from 1, the row or why it is none).
Rows = Iterator[tuple[int, dict[str, Any] | RowError]]


def format_of(path: Path) -> Format:
    """The format that the file's name says. Raises `UsageError` when it says none."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] and suffixes[-1] in _COMPRESSED_SUFFIXES:
        suffixes.pop()
    if not suffixes or suffixes[-1] not in _SUFFIXES:
        raise UsageError(f"The format of {path} is not known by its name. Say {', '.join(FORMATS)}.")
    return _SUFFIXES[suffixes[-1]]


@dataclass(frozen=True)
class RowFile:
    """A file of rows, compressed by gzip or zstd or not at all. Can be read any number of times."""

    path: Path
    format: Format

    def rows(self, columns: list[str] | None = None) -> Rows:
        """The rows in the file's order. `columns` is a hint: no more need be read.

        Raises `UsageError` for a file that is not what its format says.
        """
        if self.format == "parquet":
            return self._parquet_rows(columns)
        return self._text_rows()

    def digest(self) -> str:
        """A hash of the content, the same whether it is compressed or not. Raises `UsageError` as `rows` does."""
        hashed = blake2b(digest_size=16)
        try:
            with closing(self.open_bytes()) as file:
                while chunk := file.read(_CHUNK_BYTES):
                    hashed.update(chunk)
        except (OSError, EOFError) as error:
            raise UsageError(f"{self.path} cannot be read ({error}). Check the file.") from None
        return hashed.hexdigest()

    def open_bytes(self) -> io.BufferedReader:
        """The content, without its compression."""
        import pyarrow as pa

        with self.path.open("rb") as file:
            begin = file.read(4)
        compression = next((name for magic, name in _COMPRESSIONS.items() if begin.startswith(magic)), None)
        if compression is None:
            return self.path.open("rb")
        return io.BufferedReader(pa.input_stream(str(self.path), compression=compression))

    def _text_rows(self) -> Rows:
        number = 0
        try:
            with closing(self.open_bytes()) as file:
                if file.peek(2).startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                    raise UsageError(f"{self.path} is text in UTF-16. Save it as UTF-8.")
                for number, row in self._json_rows(file) if self.format == "jsonl" else self._csv_rows(file):
                    yield number, row
        except (OSError, EOFError) as error:
            raise UsageError(f"{self.path} cannot be read after row {number:,} ({error}). Check the file.") from None

    def _json_rows(self, lines: io.BufferedReader) -> Rows:
        for number, line in enumerate(lines, 1):
            # Windows writes a byte order mark, and files that were put together have one in the middle.
            line = line.removeprefix(codecs.BOM_UTF8)
            if not line.strip():
                continue
            try:
                row = msgspec.json.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                yield number, RowError(f"not JSON ({error})")
                continue
            yield number, row if isinstance(row, dict) else RowError("not a JSON object")

    def _csv_rows(self, file: io.BufferedReader) -> Rows:
        with io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
            rows = csv.reader(text, delimiter="\t" if self.format == "tsv" else ",")
            try:
                header = next(rows, [])
                self._check_header(header)
                for number, cells in enumerate(rows, 1):
                    if not cells:
                        continue
                    if len(cells) != len(header):
                        yield number, RowError(f"{len(cells)} cells, where the header has {len(header)}")
                    elif any("\udc80" <= character <= "\udcff" for cell in cells for character in cell):
                        yield number, RowError("not UTF-8")
                    else:
                        # CSV has no null: an empty cell is an absent value.
                        yield number, {name: cell for name, cell in zip(header, cells, strict=True) if cell != ""}
            except csv.Error as error:
                raise UsageError(f"{self.path}, line {rows.line_num:,}: not CSV ({error}). Fix the file.") from None

    def _check_header(self, header: Sequence[str]) -> None:
        """Raises `UsageError` where cells would be lost, or are separated otherwise."""
        if twice := {name for name in header if name and header.count(name) > 1}:
            said = ", ".join(sorted(twice))
            raise UsageError(f"{self.path}: the header has {said} twice, and one would be lost. Rename it.")
        if len(header) == 1 and (found := next((each for each in _OTHER_SEPARATORS if each in header[0]), None)):
            own = "tabs" if self.format == "tsv" else "commas"
            raise UsageError(f"{self.path}: its cells stand between {found!r}, and {own} are read. Save it with {own}.")

    def _parquet_rows(self, columns: list[str] | None) -> Rows:
        import pyarrow as pa
        import pyarrow.parquet as pq

        number = 0
        try:
            with pq.ParquetFile(self.path) as file:
                names = file.schema_arrow.names
                # The root of a dotted path, unless the whole is a name.
                roots = {name if name in names else name.split(".")[0] for name in columns or names}
                for batch in file.iter_batches(_BATCH_ROWS, columns=[name for name in names if name in roots]):
                    for row in batch.to_pylist():
                        number += 1
                        yield number, row
        except (pa.ArrowException, OSError) as error:
            raise UsageError(f"{self.path} cannot be read as Parquet after row {number:,} ({error}).") from None
