"""What a person has acknowledged as lost, as the ledger's proofs need it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from platform_assets.checks.ledger_entries import Entry, place, to_micros


@dataclass(frozen=True)
class Hole:
    """Offsets [low, high) of a topic partition that no batch read, as a person acknowledged."""

    topic: str
    kafka_partition: int
    low: int
    high: int


class Losses:
    """The rows of `platform.lost_ranges`, as the proofs need them.

    In a topic that was created again, and in a partition of which Kafka lost the end, offsets come a second time. Their
    records are told apart from the older ones by their time of arrival, and go under a name with a number.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = rows
        self._begun_again = sorted(
            {
                (row["topic"], row["kafka_partition"], to_micros(row["acknowledged_at"]))
                for row in rows
                if row["until_offset"] is None
            }
        )

    @property
    def has_logs_begun_again(self) -> bool:
        """Whether names depend on the time."""
        return bool(self._begun_again)

    def times_begun_again(self, topic: str, partition: int | None = None) -> list[int]:
        """When it was acknowledged that the partition (None: any) has another log, in microseconds, oldest first."""
        return [at for name, p, at in self._begun_again if name == topic and partition in (None, p)]

    def numbered(self, topic: str, number: int) -> str:
        """The name of the topic in a partition whose log began again `number` times."""
        return f"{topic} #{number + 1}" if number else topic

    def name_of(self, topic: str, partition: int, arrival_micros: float) -> str:
        """The topic of a record of the partition that arrived then."""
        return self.numbered(topic, sum(1 for at in self.times_begun_again(topic, partition) if at <= arrival_micros))

    def rename(self, entries: Iterable[Entry]) -> list[Entry]:
        """The entries under the names of their topics at that time."""
        return [
            replace(entry, topic=self.name_of(entry.topic, entry.kafka_partition, entry.arrival_micros))
            for entry in entries
        ]

    def find_holes(self, entries: Sequence[Entry]) -> list[Hole]:
        """The holes between renamed entries that lie within what was acknowledged."""
        ranges = [
            (
                self.name_of(row["topic"], row["kafka_partition"], to_micros(row["acknowledged_at"])),
                row["kafka_partition"],
                row["from_offset"],
                row["until_offset"],
            )
            for row in self._rows
            if row["until_offset"] is not None
        ]
        holes = []
        for before, entry in pairwise(sorted(entries, key=place)):
            low, high = before.until_offset, entry.from_offset
            same = (before.topic, before.kafka_partition) == (entry.topic, entry.kafka_partition)
            if (
                same
                and low < high
                and any(
                    (topic, p) == (entry.topic, entry.kafka_partition) and start <= low and high <= end
                    for topic, p, start, end in ranges
                )
            ):
                holes.append(Hole(entry.topic, entry.kafka_partition, low, high))
        return holes

    def describe(self) -> tuple[str, ...]:
        """A sentence for each row."""
        said = []
        for row in self._rows:
            where, start, end = f"{row['topic']}/{row['kafka_partition']}", row["from_offset"], row["until_offset"]
            what = f"offsets {start} to {end - 1}" if end is not None else f"from offset {start} on, a log now gone"
            said.append(f"{where} {what} ({row['acknowledged_by']}: {row['reason']})")
        return tuple(said)
