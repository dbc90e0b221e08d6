"""How many pairs of a join are repaired at once: a busy user's late events are in more of them than memory holds."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

# They are collected through the JVM's heap, some 160 bytes each.
MAX_PAIRS = 300_000


class TooManyPairsError(Exception):
    """Late events are in more pairs than may be collected at once; `pairs` says in how many."""

    def __init__(self, pairs: int) -> None:
        super().__init__(f"{pairs:,} pairs")
        self.pairs = pairs


def collect_pairs(pairs: DataFrame, late: pa.Table) -> pa.Table:
    """The pairs that these late events are in.

    Raises `TooManyPairsError`. A single event is in no more pairs than its user has events near it: they are collected.
    """
    if len(late) == 1:
        return pairs.toArrow()
    found = pairs.limit(MAX_PAIRS + 1).toArrow()
    if len(found) > MAX_PAIRS:
        raise TooManyPairsError(pairs.count())
    return found


def split_evenly(late: pa.Table, pairs: int) -> list[pa.Table]:
    """Splits late events in this many pairs into portions of half of what may be collected, if all have as many."""
    parts = min(len(late), math.ceil(2 * pairs / MAX_PAIRS))
    bounds = [len(late) * number // parts for number in range(parts + 1)]
    return [late.slice(start, end - start) for start, end in pairwise(bounds)]
