"""How a Kafka record is named: by three columns of each table that has records, and by one value in a program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from platform_assets.errors import UsageError


class Coordinates(NamedTuple):
    """One Kafka record. The fields are the columns' names; people write topic/partition/offset."""

    topic: str
    kafka_partition: int
    kafka_offset: int

    def __str__(self) -> str:
        return "/".join(map(str, self))

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Coordinates:
        """Reads them from a table's row."""
        return cls(*(row[name] for name in cls._fields))

    @classmethod
    def parse(cls, text: str) -> Coordinates:
        """Reads `topic/partition/offset`. Raises `UsageError`."""
        topic, _, rest = text.partition("/")
        partition, _, offset = rest.partition("/")
        if not (topic and partition.isdigit() and offset.isdigit()):
            raise UsageError(f"--offset {text}: write it as topic/partition/offset, for instance shop/0/42.")
        return cls(topic, int(partition), int(offset))


COORDINATES = Coordinates._fields
"""The columns' names."""
