"""What a person types to ask for something: a record's coordinates, a moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from platform_assets.errors import UsageError


@dataclass(frozen=True)
class Coordinates:
    """One Kafka record, as the tables and people name it: topic/partition/offset."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"

    @staticmethod
    def parse(text: str) -> Coordinates:
        """Reads `topic/partition/offset`. Raises `UsageError`."""
        topic, _, rest = text.partition("/")
        partition, _, offset = rest.partition("/")
        if not (topic and partition.isdigit() and offset.isdigit()):
            raise UsageError(f"--offset {text}: write it as topic/partition/offset, for instance shop/0/42.")
        return Coordinates(topic, int(partition), int(offset))


def parse_moment(option: str, text: str | None) -> datetime | None:
    """A time that a person has typed, UTC where they named no zone. Raises `UsageError`, naming the option."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} {text}: write it as ISO-8601, for instance 2026-03-01T12:00:00Z.") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
