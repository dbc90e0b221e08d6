"""Late events in portions for their repair, so that a portion reads little that none of them needs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from platform_assets.streaming.delta.commit_log import AppendedFile

if TYPE_CHECKING:
    import pyarrow as pa

# Late events of one look are repaired in portions: the twin reads all events between the first and the last of one. A
# portion more costs as much as a million events read.
_EVENTS_WORTH_SKIPPING = 1_000_000
_EVENTS_OF_ONE_PORTION = 20_000_000
# What they touch is collected through the heap: of busy users sixty pairs of a view and a purchase for each event.
_LATE_EVENTS_OF_ONE_PORTION = 5_000


def split_by_events(late: pa.Table, files: Sequence[AppendedFile]) -> list[pa.Table]:
    """The late events in portions, split where many other events lie between two of them. `files` are the source's."""
    import pyarrow as pa

    ordered = late.sort_by("event_time")
    times = ordered["event_time"].cast(pa.int64()).to_numpy()
    begins = np.array([file.from_micros or 0 for file in files], dtype=np.int64)
    order = np.argsort(begins)
    events_until = np.concatenate(([0], np.cumsum(np.array([file.rows for file in files], dtype=np.int64)[order])))
    events_before = events_until[np.searchsorted(begins[order], times)]
    starts = [0] if len(times) else []
    for number in range(1, len(times)):
        skipped = events_before[number] - events_before[number - 1]
        if (
            skipped > _EVENTS_WORTH_SKIPPING
            or number - starts[-1] >= _LATE_EVENTS_OF_ONE_PORTION
            or events_before[number] - events_before[starts[-1]] > _EVENTS_OF_ONE_PORTION
        ):
            starts.append(number)
    return [ordered.slice(start, end - start) for start, end in pairwise([*starts, len(times)])]
