"""Counts in how many places each offset is where Kafka records hold lists, and each record of these lists.

An offset is in one place if some of its records are accepted, others are taken out as repeats and others are erased:
these three count as one. Of an offset with an erased record the others may be fewer than the list has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from platform_assets.checks.acknowledged_losses import Losses
from platform_assets.checks.ledger_entries import MAX_EXAMPLES, Entry
from platform_assets.checks.ledger_places import TWICE, Findings, Places, describe, describe_missing
from platform_assets.checks.ledger_rows import Where
from platform_assets.tables.coordinates import Coordinates

if TYPE_CHECKING:
    import numpy.typing as npt

_BY_RECORD = ("accepted", "deduplicated")
_COUNTED_ONCE = (*_BY_RECORD, "erased")
_COLUMNS = ("kafka_offset", "record_index", "record_length")


class ListPlaces(Places):
    """Takes some bytes an offset, and one a record of a list. The tables of these records are read twice."""

    # Each offset takes 15 bytes here, and each record one more.
    offsets_of_one_share = Places.offsets_of_one_share // 16

    def __init__(self, entries: Sequence[Entry], losses: Losses, share: tuple[int, int] = (0, 1)) -> None:
        super().__init__(entries, losses, share)
        self._is_read = {where: np.zeros(len(counts), bool) for where, counts in self._counts.items()}
        self._is_erased = {where: np.zeros(len(counts), bool) for where, counts in self._counts.items()}
        self._lengths = {where: np.zeros(len(counts), np.int32) for where, counts in self._counts.items()}

    def discount(self, records: Iterable[Mapping[str, Any]], time_column: str, least: int = 1) -> None:
        """See `Places`; records of one list are one Kafka record."""
        distinct = {(Coordinates.of(row), row[time_column]): row for row in records}
        super().discount(distinct.values(), time_column, least)

    def collect(self, tables: Mapping[str, Any]) -> Findings:
        """See `Places`; also the records of lists that are in two places or in none."""
        by_record = {place: rows for place, rows in tables.items() if place in _BY_RECORD}
        for place, rows in by_record.items():
            for where, (offsets, indexes, lengths) in self._read(place, rows, _COLUMNS):
                if where in self._lengths:
                    known, inside = self._find_known(where, offsets)
                    np.maximum.at(self._lengths[where], inside, np.maximum(lengths, indexes + 1)[known])
        found = super().collect(tables)
        found.doubled_records, found.lost_records, found.missing_records = self._count_records(by_record)
        return found

    def tell(self, found: Findings, tables: Mapping[str, Any], expired: int = 0) -> list[str]:
        """See `Places`."""
        of_records = min(expired, found.missing_records)
        return [
            *super().tell(found, tables, expired - of_records),
            *describe(found.doubled_records, TWICE),
            *describe_missing(found.lost_records, found.missing_records, of_records),
        ]

    def _allow(self, missing: int, expired: int) -> tuple[int, int]:
        """Nobody knows how many records a list had that has expired as a whole: one at least."""
        return missing, min(missing, expired)

    def _add(self, place: str, where: Where, offsets: npt.NDArray[np.int64]) -> None:
        if place not in _COUNTED_ONCE or where not in self._counts:
            super()._add(place, where, offsets)
            return
        known, inside = self._find_known(where, offsets)
        is_read = self._is_read[where]
        # What no batch has read is told there.
        super()._add(place, where, np.unique(offsets[~known]))
        super()._add(place, where, np.unique(inside[~is_read[inside]]) + self._low[where])
        is_read[inside] = True
        if place == "erased":
            self._is_erased[where][inside] = True

    def _count_records(
        self, tables: Mapping[str, Any]
    ) -> tuple[list[tuple[Where, int | str, str]], list[tuple[Where, int | str]], int]:
        """The records of lists that are in two places, the first of those that are in none, and how many these are."""
        starts = {where: np.cumsum(lengths) - lengths for where, lengths in self._lengths.items()}
        counts = {where: np.zeros(int(lengths.sum()), np.uint8) for where, lengths in self._lengths.items()}
        doubled: list[tuple[Where, int | str, str]] = []
        for place, rows in tables.items():
            for where, offsets, indexes in self._read_records(place, rows):
                at = starts[where][offsets] + indexes
                found, times = np.unique(at, return_counts=True)
                again = found[counts[where][found] + times > 1]
                doubled += [(where, self._name(where, starts[where], n), place) for n in again[: MAX_EXAMPLES + 1]]
                counts[where][found] = 1
        lost: list[tuple[Where, int | str]] = []
        missing = 0
        for where, own in sorted(counts.items()):
            is_partly_erased = np.repeat(self._is_erased[where], self._lengths[where])
            gone = np.flatnonzero((own == 0) & ~is_partly_erased)
            missing += len(gone)
            lost += [(where, self._name(where, starts[where], n)) for n in gone[:MAX_EXAMPLES]]
        return doubled, lost, missing

    def _read_records(
        self, place: str, rows: Any
    ) -> Iterator[tuple[Where, npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """The offsets (from the first one known) and indexes of a table's rows that lie within their list."""
        for where, (offsets, indexes, _) in self._read(place, rows, _COLUMNS):
            if where in self._lengths:
                known, inside = self._find_known(where, offsets)
                yield where, inside, indexes[known].astype(np.int64)

    def _find_known(
        self, where: Where, offsets: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        low = self._low[where]
        known = (offsets >= low) & (offsets < low + len(self._counts[where]))
        return known, offsets[known] - low

    def _name(self, where: Where, starts: npt.NDArray[np.int64], number: int) -> str:
        """Offset and index of the record with this number among all of a partition's."""
        at = int(np.searchsorted(starts, number, side="right")) - 1
        return f"{self._low[where] + at}[{number - int(starts[at])}]"

    def _name_places(self, tables: Mapping[str, Any], where: Where, offset: int) -> str:
        found = super()._name_places(tables, where, offset).split(" and ")
        return " and ".join(dict.fromkeys(found))
