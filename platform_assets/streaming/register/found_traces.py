"""What an erasure takes out of a topic's tables, and what stays because it may be somebody else's."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from platform_assets.tables.coordinates import Coordinates


@dataclass(frozen=True)
class AlsoErased:
    """Which of the records that may be the user's go as well: `everything`, or those of these places."""

    everything: bool = False
    places: frozenset[Coordinates] = frozenset()

    def holds(self, place: Coordinates) -> bool:
        """Whether the record of this topic, partition and offset goes."""
        return self.everything or place in self.places


NOTHING_ELSE = AlsoErased()


@dataclass(frozen=True)
class UnsureRecord:
    """A row that mentions the user and stays, by its Kafka record: a person must look whether it is the user's."""

    table: str
    place: Coordinates

    def __str__(self) -> str:
        return f"{self.table} {self.place}"


@dataclass(frozen=True)
class Traces:
    """What goes: of each table of the stream over Kafka the rows' key and what tells when and what.

    `table` is that of accepted records. `others` are events of other users, with their names, that mention the user.
    `unsure` stays.
    """

    table: str
    events: pa.Table
    others: pa.Table
    quarantined: pa.Table
    deduplicated: pa.Table
    requeued: pa.Table
    unsure: tuple[UnsureRecord, ...]

    @property
    def erased_events(self) -> pa.Table:
        """All rows that leave the accepted records."""
        return pa.concat_tables([self.events, self.others])
