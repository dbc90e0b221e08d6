"""How the offsets of a batch are shared out among Spark's tasks."""

from __future__ import annotations

from collections.abc import Sequence

from platform_assets.streaming.checkpoint.checkpoint import OffsetRange

# A task costs some ten milliseconds, and its table a file: fewer records are read faster by one.
_LEAST_RECORDS = 20_000

Range = tuple[int, int, int]
"""(partition, from_offset, until_offset)"""


def plan_tasks(ranges: Sequence[OffsetRange], slots: int) -> list[list[Range]]:
    """The ranges of each task: at most one a slot, of equal numbers of offsets, in order; none where nothing is read.

    A partition's range may be cut, so that one large partition keeps all slots busy.
    """
    total = sum(part.length for part in ranges)
    count = max(1, min(slots, total // _LEAST_RECORDS))
    tasks: list[list[Range]] = []
    room = 0
    for part in ranges:
        start = part.from_offset
        while start < part.until_offset:
            if not room:
                tasks.append([])
                # The first of them take what is left over.
                room = total // count + (len(tasks) <= total % count)
            until = min(part.until_offset, start + room)
            tasks[-1].append((part.kafka_partition, start, until))
            room -= until - start
            start = until
    return tasks
