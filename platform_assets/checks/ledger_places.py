"""Counts in how many places each offset of a stream is: one byte an offset, whatever the number of rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from platform_assets.checks.acknowledged_losses import Losses
from platform_assets.checks.ledger_entries import ARRIVAL_COLUMNS, MAX_EXAMPLES, Entry, to_micros

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

# A count that says "too many" needs no exact number, and a byte must not overflow.
_MANY = 3

Where = tuple[str, int]
"""A topic (under its name at that time) and a partition."""


class Places:
    """Fed with rows and ranges, then asked. Offsets of batches that `entries` do not know are breaches at once."""

    def __init__(self, entries: Sequence[Entry], losses: Losses) -> None:
        self._losses = losses
        self._low: dict[Where, int] = {}
        high: dict[Where, int] = {}
        for entry in entries:
            where = (entry.topic, entry.kafka_partition)
            self._low[where] = min(self._low.get(where, entry.from_offset), entry.from_offset)
            high[where] = max(high.get(where, entry.until_offset), entry.until_offset)
        self._counts = {where: np.zeros(high[where] - low, np.uint8) for where, low in self._low.items()}
        self._unknown: list[tuple[Where, int, str]] = []
        self._twice_gone = 0

    def add_range(self, place: str, topic: str, partition: int, start: int, end: int) -> None:
        """Every offset of [start, end) is in this place."""
        self._add(place, (topic, partition), np.arange(start, end))

    def add_rows(self, place: str, rows: Any) -> None:
        """Every row of an Arrow dataset or table is in this place."""
        for where, (offsets,) in self._read(place, rows):
            self._add(place, where, offsets)

    def discount(self, records: Iterable[Mapping[str, Any]], time_column: str, least: int = 1) -> None:
        """Each of these records counts once less where it is in `least` places.

        `time_column` says from which topic of that name it is. One that should be in two places and is in none may have
        expired in both.
        """
        for row in records:
            topic = self._losses.name_of(row["topic"], row["kafka_partition"], to_micros(row[time_column]))
            where = (topic, row["kafka_partition"])
            counts, index = self._counts.get(where), row["kafka_offset"] - self._low.get(where, 0)
            if counts is not None and 0 <= index < len(counts):
                self._twice_gone += int(counts[index] == 0)
                counts[index] -= counts[index] >= least

    def find_breaches(self, tables: Mapping[str, Any], expired: int = 0) -> list[str]:
        """One sentence each, the first few of each kind. `tables` are looked into again for what is in two places.

        `expired`: how many rows a policy has taken out of the tables. Which ones nobody knows: they are counted.
        """
        doubled, lost = [], []
        for where, counts in sorted(self._counts.items()):
            low = self._low[where]
            doubled += [(where, low + int(i)) for i in np.flatnonzero(counts > 1)[: MAX_EXAMPLES + 1]]
            lost += [(where, low + int(i)) for i in np.flatnonzero(counts == 0)[:MAX_EXAMPLES]]
        missing = sum(int((counts == 0).sum()) for counts in self._counts.values()) + self._twice_gone
        twice = [(where, offset, self._name_places(tables, where, offset)) for where, offset in doubled[:MAX_EXAMPLES]]
        return [
            *describe([*twice, *((where, offset, "") for where, offset in doubled[MAX_EXAMPLES:])], TWICE),
            *describe(sorted(self._unknown), "was read by no recorded batch"),
            *describe_missing(lost, *self._allow(missing, expired)),
        ]

    def _allow(self, missing: int, expired: int) -> tuple[int, int]:
        """How many records are missing, and how many may be; the same where all is well."""
        return missing, expired

    def _add(self, place: str, where: Where, offsets: npt.NDArray[np.int64]) -> None:
        counts, low = self._counts.get(where), self._low.get(where, 0)
        if counts is None and place == "erased":
            return  # the table is of all topics: these are another stream's to count
        known = np.zeros(len(offsets), bool) if counts is None else (offsets >= low) & (offsets < low + len(counts))
        # Behind the last committed offset lies a batch in flight; only the accepted table's commit ends a batch.
        odd = ~known if counts is None or place == "accepted" else offsets < low
        self._unknown += [(where, int(offset), place) for offset in offsets[odd][:MAX_EXAMPLES]]
        inside = offsets[known] - low
        if counts is None or not len(inside):
            return
        # A file's offsets lie close together: counting within their span costs no more than the rows.
        start = int(inside.min())
        found = np.bincount(inside - start)
        part = counts[start : start + len(found)]
        np.minimum(part + np.minimum(found, _MANY), _MANY, out=part, casting="unsafe")

    def _read(
        self, place: str, rows: Any, names: Sequence[str] = ("kafka_offset",)
    ) -> Iterator[tuple[Where, list[npt.NDArray[np.int64]]]]:
        """These columns of the rows, by topic and partition."""
        import pyarrow as pa
        import pyarrow.compute as pc

        arrival = ARRIVAL_COLUMNS[place]
        columns = ["topic", "kafka_partition", *names]
        columns += [arrival] if self._losses.has_logs_begun_again else []
        batches = rows.select(columns).to_batches() if hasattr(rows, "select") else rows.to_batches(columns=columns)
        for batch in batches:
            partitions, *found = (batch.column(name).to_numpy() for name in ("kafka_partition", *names))
            texts = batch.column("topic").cast(pa.string())
            for topic in pc.unique(texts).to_pylist():
                is_topic = pc.equal(texts, topic).to_numpy(zero_copy_only=False)
                for partition in np.flatnonzero(np.bincount(partitions[is_topic])).tolist():
                    own = is_topic & (partitions == partition)
                    for name, is_named in self._split_logs(topic, partition, own, batch, arrival):
                        yield (name, partition), [column[is_named] for column in found]

    def _split_logs(
        self, topic: str, partition: int, rows: npt.NDArray[np.bool_], batch: pa.RecordBatch, arrival: str
    ) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
        """The rows (a mask) of one partition by the topic's name at the time of their arrival."""
        import pyarrow as pa

        times = self._losses.times_begun_again(topic, partition)
        if not times:
            yield topic, rows
            return
        numbers = np.searchsorted(times, batch.column(arrival).cast(pa.int64()).to_numpy(), side="right")
        for number in np.unique(numbers[rows]):
            yield self._losses.numbered(topic, int(number)), rows & (numbers == number)

    def _name_places(self, tables: Mapping[str, Any], where: Where, offset: int) -> str:
        """The places of one offset, joined by "and": one that is there twice is named twice."""
        found = [
            place
            for place, rows in tables.items()
            for at, (offsets,) in self._read(place, rows)
            if at == where
            for _ in range(int((offsets == offset).sum()))
        ]
        return " and ".join(sorted(found) if len(found) > 1 else [*found, "gap"])


TWICE = "is in more than one place"


def describe(found: Sequence[tuple[Where, int | str, str]], what: str) -> list[str]:
    """One sentence for each of the first of these places, with what they say."""
    more = " (and more)" if len(found) > MAX_EXAMPLES else ""
    return [
        f"{topic}/{partition}/{offset} {what}: {place}{more}."
        for (topic, partition), offset, place in found[:MAX_EXAMPLES]
    ]


def describe_missing(places: Sequence[tuple[Where, int | str]], missing: int, expired: int) -> list[str]:
    """One sentence for all that is in no table, or none."""
    named = [f"{topic}/{partition}/{offset}" for (topic, partition), offset in places[:MAX_EXAMPLES]]
    if missing < expired:
        return [f"{expired:,} rows have expired, but {missing:,} records are in no table: others have come back."]
    if missing == expired:
        return []
    if expired:
        said = f"{missing - expired:,} of {missing:,} records in no table are lost, the others have expired; of these"
        return [f"{said} the first are {', '.join(named)}."]
    if missing == 1:
        return [f"{named[0]} is lost: no table."]
    more = " and so on" if missing > len(named) else ""
    return [f"{named[0]} is lost: no table. So are {missing - 1:,} others: {', '.join(named[1:])}{more}."]
