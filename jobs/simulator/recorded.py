"""Replays a recorded clickstream of the user's own: JSON lines, CSV or Parquet, in batches, never whole in memory."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Literal

import msgspec

from jobs.simulator.mapping import RowError, RowMapping, derived_event_id, microseconds
from jobs.simulator.producer import Pace
from jobs.simulator.shop import Record
from platform_assets.errors import SettingError

Format = Literal["jsonl", "csv", "parquet"]
TimeMode = Literal["original", "compressed", "present"]
FORMATS: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}

# Rows of Parquet turned into Python objects at once: some megabytes.
_BATCH_ROWS = 4096
# Bad rows that are kept to be shown; a wrong mapping would otherwise show every row of the file.
_SHOWN = 10
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class ReplayTally:
    """What came of the rows: `records` were handed out, `bad_rows` were not; the first few with their reasons."""

    records: int = 0
    bad_rows: int = 0
    shown: list[str] = field(default_factory=list)


@dataclass
class Recording:
    """A file of events, and how to turn its rows into records. Take `records` once; `tally` is then what happened.

    A row that cannot become a record at all (no time, no user, no type, a text where a number belongs, not JSON) is
    not sent but counted and shown, or with `strict` ends the replay. Any other row is sent as it is: whether the event
    is good is for the stream to judge, which keeps what it refuses. A row without an event_id gets one that is always
    the same for this row.

    `time`: `original` leaves timestamps alone and sends as fast as possible; `compressed` leaves them alone and paces
    the records, `speed` times as fast as they happened; `present` shifts them: with `anchor` `first` the first row
    happens now and the rest follows at `speed` (1: as recorded), with `last` the latest row has just happened
    and all is sent at once.
    """

    path: Path
    format: Format | None = None
    mapping: RowMapping = field(default_factory=RowMapping)
    time: TimeMode = "original"
    speed: float | None = None
    anchor: Literal["first", "last"] = "first"
    strict: bool = False
    tally: ReplayTally = field(default_factory=ReplayTally)

    def __post_init__(self) -> None:
        if not self.path.is_file():
            raise SettingError(f"The recording {self.path} is not a file. Check the path.")
        if self.format is None:
            suffixes = [suffix.lower() for suffix in self.path.suffixes]
            suffix = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else "".join(suffixes[-1:])
            if suffix not in FORMATS:
                raise SettingError(f"The format of {self.path} is not known by its name. Say jsonl, csv or parquet.")
            self.format = FORMATS[suffix]
        if self.speed is not None and not 0 < self.speed < float("inf"):
            raise SettingError(f"speed is {self.speed}. Give a number above 0.")
        if self.speed is not None and self.pace is None:
            raise SettingError("speed needs a paced replay. Take time compressed, or present with anchor first.")

    @property
    def pace(self) -> Pace:
        """When a record leaves, for `send_records`."""
        if self.time == "compressed":
            return self.speed or 60.0
        return "wall_clock" if self.time == "present" and self.anchor == "first" else None

    def records(self, now: int) -> Iterator[Record]:
        """Records in the file's order; a send time is never before the one of the row above.

        `now` is microseconds since 1970. Raises `SettingError`, with the row's number, for a bad row when strict, and
        for a file that is not what its format says.
        """
        shift = now - self._latest() if self.time == "present" and self.anchor == "last" else 0
        rate = self.speed or 1.0 if self.pace == "wall_clock" else None
        first: int | None = None
        sent_at = 0
        for number, row in self._rows():
            try:
                if isinstance(row, RowError):
                    raise row
                event, at = self.mapping.event(row)
                if rate is not None:
                    first = at if first is None else first
                    at = now + round((at - first) / rate)
                at += shift
                event["timestamp"] = _iso(at)
                event.setdefault("event_id", derived_event_id(row, number))
                value = msgspec.json.encode(event, enc_hook=str)
            except (RowError, OverflowError, msgspec.EncodeError) as error:
                self._refuse(number, error)
                continue
            sent_at = max(sent_at, at)
            self.tally.records += 1
            yield sent_at, str(event["user_id"]).encode(), value

    def _refuse(self, number: int, error: Exception) -> None:
        text = f"row {number:,}: {error}"
        if self.strict:
            raise SettingError(f"{self.path}, {text}. Mend the row or the mapping, or leave out strict.")
        self.tally.bad_rows += 1
        if len(self.tally.shown) < _SHOWN:
            self.tally.shown.append(text)

    def _latest(self) -> int:
        column = next((theirs for theirs, ours in self.mapping.columns.items() if ours == "timestamp"), "timestamp")
        latest: int | None = None
        for _, row in self._rows([column]):
            try:
                at = microseconds(row.get(column)) if not isinstance(row, RowError) else None
            except RowError:
                continue
            if at is not None and (latest is None or at > latest):
                latest = at
        if latest is None:
            raise SettingError(f"No row of {self.path} has a time in column {column!r}. Map a column to timestamp.")
        return latest

    def _rows(self, columns: list[str] | None = None) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
        """(row number from 1, the row or why it is none). `columns` is a hint: no more need be read."""
        if self.format == "parquet":
            return self._parquet_rows(columns)
        return self._csv_rows() if self.format == "csv" else self._json_rows()

    def _open(self) -> IO[bytes]:
        if self.path.suffix.lower() == ".gz":
            return gzip.open(self.path, "rb")  # type: ignore[return-value]  # it reads like any binary file
        return self.path.open("rb")

    def _json_rows(self) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
        with self._open() as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    row = msgspec.json.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    yield number, RowError(f"not JSON ({error})")
                    continue
                yield number, row if isinstance(row, dict) else RowError("not a JSON object")

    def _csv_rows(self) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
        with io.TextIOWrapper(self._open(), encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
            rows = csv.reader(text)
            try:
                header = next(rows, [])
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
                raise SettingError(f"{self.path}, line {rows.line_num:,}: not CSV ({error}). Mend the file.") from None

    def _parquet_rows(self, columns: list[str] | None) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        number = 0
        try:
            with pq.ParquetFile(self.path) as file:
                wanted = [name for name in columns if name in file.schema_arrow.names] if columns else None
                for batch in file.iter_batches(_BATCH_ROWS, columns=wanted):
                    for row in batch.to_pylist():
                        number += 1
                        yield number, row
        except (pa.ArrowException, OSError) as error:
            raise SettingError(f"{self.path} cannot be read as Parquet after row {number:,} ({error}).") from None


def _iso(at: int) -> str:
    return (_EPOCH + timedelta(microseconds=at)).isoformat(timespec="microseconds").replace("+00:00", "Z")
