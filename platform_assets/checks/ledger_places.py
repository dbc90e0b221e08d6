"""Counts in how many places each offset of a stream is: one byte an offset, whatever the number of rows.

A long history is counted in shares: each is one part of every partition's offsets, the oldest first. As partitions grow
alike, a share is a time, and its rows are in few files; a file that has rows of several shares is read for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from platform_assets.checks.acknowledged_losses import Losses
from platform_assets.checks.ledger_entries import MAX_EXAMPLES, Entry, to_micros
from platform_assets.checks.ledger_rows import RowReader, Where

if TYPE_CHECKING:
    import numpy.typing as npt

# A count that says "too many" needs no exact number, and a byte must not overflow.
_MANY = 3
# Counting by the span of a batch takes eight bytes an offset of it: of rows far apart their number is the measure.
_SPARSE = 4


@dataclass
class Findings:
    """What was found of one share of the offsets after the other: examples, the first of each kind, and numbers."""

    unknown: set[tuple[Where, int, str]] = field(default_factory=set)
    doubled: list[tuple[Where, int]] = field(default_factory=list)
    lost: list[tuple[Where, int | str]] = field(default_factory=list)
    missing: int = 0
    doubled_records: list[tuple[Where, int | str, str]] = field(default_factory=list)
    lost_records: list[tuple[Where, int | str]] = field(default_factory=list)
    missing_records: int = 0

    def add(self, later: Findings) -> None:
        """Adds what was found of the next share."""
        self.unknown |= later.unknown
        self.missing += later.missing
        self.missing_records += later.missing_records
        for name in ("doubled", "lost", "doubled_records", "lost_records"):
            getattr(self, name).extend(getattr(later, name))
            # By partition; within one the shares come in the order of offsets.
            getattr(self, name).sort(key=lambda example: example[0])


class Places:
    """Fed with rows and ranges, then asked. Offsets of batches that `entries` do not know are breaches at once.

    `share` (number, of how many): only this part of each partition's offsets is counted. What is read is fed to each.
    """

    # The bytes of a share: a platform of a year has billions of offsets.
    offsets_of_one_share = 64 * 1024 * 1024

    def __init__(self, entries: Sequence[Entry], losses: Losses, share: tuple[int, int] = (0, 1)) -> None:
        self._losses = losses
        self._reader = RowReader(losses)
        self._spans = _find_spans(entries)
        self._share = share
        number, shares = share
        self._low: dict[Where, int] = {}
        self._counts: dict[Where, npt.NDArray[np.uint8]] = {}
        for where, (low, high) in self._spans.items():
            start, end = (low + (high - low) * n // shares for n in (number, number + 1))
            self._low[where] = start
            self._counts[where] = np.zeros(end - start, np.uint8)
        self._unknown: set[tuple[Where, int, str]] = set()
        self._twice_gone = 0

    @classmethod
    def count_shares(cls, entries: Sequence[Entry]) -> int:
        """The number of shares in which these accounts are looked at: one where they are few."""
        offsets = sum(high - low for low, high in _find_spans(entries).values())
        return max(1, -(-offsets // cls.offsets_of_one_share))

    def add_range(self, place: str, topic: str, partition: int, start: int, end: int) -> None:
        """Every offset of [start, end) is in this place."""
        where = (topic, partition)
        low, counts = self._spans[where][0], self._counts[where]
        self._unknown |= {(where, offset, place) for offset in range(start, min(end, low, start + MAX_EXAMPLES))}
        part = counts[max(0, start - self._low[where]) : max(0, end - self._low[where])]
        np.minimum(part + 1, _MANY, out=part, casting="unsafe")

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
        return self.tell(self.collect(tables), tables, expired)

    def collect(self, tables: Mapping[str, Any]) -> Findings:
        """What is found of this share; `tables` as in `find_breaches`."""
        found = Findings(self._unknown)
        for where, counts in sorted(self._counts.items()):
            low = self._low[where]
            found.doubled += [(where, low + int(i)) for i in np.flatnonzero(counts > 1)[: MAX_EXAMPLES + 1]]
            found.lost += [(where, low + int(i)) for i in np.flatnonzero(counts == 0)[:MAX_EXAMPLES]]
        found.missing = sum(int((counts == 0).sum()) for counts in self._counts.values()) + self._twice_gone
        return found

    def tell(self, found: Findings, tables: Mapping[str, Any], expired: int = 0) -> list[str]:
        """The sentences of `find_breaches` for what was found of all shares."""
        twice = [(w, offset, self._name_places(tables, w, offset)) for w, offset in found.doubled[:MAX_EXAMPLES]]
        return [
            *describe([*twice, *((where, offset, "") for where, offset in found.doubled[MAX_EXAMPLES:])], TWICE),
            *describe(sorted(found.unknown), "was read by no recorded batch"),
            *describe_missing(found.lost, *self._allow(found.missing, expired)),
        ]

    def _allow(self, missing: int, expired: int) -> tuple[int, int]:
        """How many records are missing, and how many may be; the same where all is well."""
        return missing, expired

    def _add(self, place: str, where: Where, offsets: npt.NDArray[np.int64]) -> None:
        span = self._spans.get(where)
        if span is None and place == "erased":
            return  # the table is of all topics: these are another stream's to count
        # Behind the last committed offset lies a batch in flight; only the accepted table's commit ends a batch.
        low, high = span or (0, 0)
        odd = np.ones(len(offsets), bool) if span is None else offsets < low
        odd |= (offsets >= high) & (place == "accepted")
        self._unknown |= {(where, int(offset), place) for offset in offsets[odd][:MAX_EXAMPLES]}
        if span is None:
            return
        counts, inside = self._counts[where], offsets - self._low[where]
        inside = inside[(inside >= 0) & (inside < len(counts))]
        if not len(inside):
            return
        # A file's offsets lie close together: counting within their span costs no more than the rows.
        start, end = int(inside.min()), int(inside.max()) + 1
        if end - start <= _SPARSE * len(inside):
            part = counts[start:end]
            np.minimum(part + np.minimum(np.bincount(inside - start), _MANY), _MANY, out=part, casting="unsafe")
        else:  # late rows of months in one file
            found, times = np.unique(inside, return_counts=True)
            counts[found] = np.minimum(counts[found] + np.minimum(times, _MANY), _MANY)

    def _read(
        self, place: str, rows: Any, names: Sequence[str] = ("kafka_offset",)
    ) -> Iterator[tuple[Where, list[npt.NDArray[np.int64]]]]:
        """These columns of the rows, by topic and partition: all of this share, and perhaps others."""
        return self._reader.read(place, rows, names, self._select_share())

    def _select_share(self) -> Any:
        """A filter for rows of this share, and for those of no share: these are in the first or the last. None: all.

        A topic is a text, which Arrow cannot compare everywhere: partitions of one number go together.
        """
        import pyarrow.compute as pc

        number, shares = self._share
        if shares == 1:
            return None
        ends: dict[int, tuple[int, int]] = {}
        for where, start in self._low.items():
            low, high = ends.get(where[1], (start, start))
            ends[where[1]] = min(low, start), max(high, start + len(self._counts[where]))
        partition, offset = pc.field("kafka_partition"), pc.field("kafka_offset")
        chosen = ~partition.isin(list(ends)) if number == 0 else pc.scalar(value=False)
        for own, (low, high) in ends.items():
            inside = partition == own
            inside = inside if number == 0 else inside & (offset >= low)
            chosen |= inside if number == shares - 1 else inside & (offset < high)
        return chosen

    def _name_places(self, tables: Mapping[str, Any], where: Where, offset: int) -> str:
        """The places of one offset, joined by "and": one that is there twice is named twice."""
        import pyarrow.compute as pc

        is_here = (pc.field("kafka_partition") == where[1]) & (pc.field("kafka_offset") == offset)
        found = [
            place
            for place, rows in tables.items()
            for at, (offsets,) in self._reader.read(place, rows, row_filter=is_here)
            if at == where
            for _ in range(int((offsets == offset).sum()))
        ]
        return " and ".join(sorted(found) if len(found) > 1 else [*found, "gap"])


def _find_spans(entries: Sequence[Entry]) -> dict[Where, tuple[int, int]]:
    """The first offset of these accounts and the one behind the last, by topic and partition."""
    spans: dict[Where, tuple[int, int]] = {}
    for entry in entries:
        where = (entry.topic, entry.kafka_partition)
        low, high = spans.get(where, (entry.from_offset, entry.until_offset))
        spans[where] = min(low, entry.from_offset), max(high, entry.until_offset)
    return spans


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
