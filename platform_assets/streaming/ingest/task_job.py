"""Work that Spark's tasks do in Python: a job of as many tasks as there are items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_T = TypeVar("_T")
_R = TypeVar("_R")


def run_in_tasks(session: SparkSession, act: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
    """What a function makes of each item, each in a task of its own, in their order; no job where there is no item.

    Runs on the thread of the query that asks, whose stop ends it. Raises what Spark raises for a failed job.
    """
    if not items:
        return []

    def run(number: int, _: Iterable[int]) -> Iterable[_R]:
        yield act(items[number])

    numbers = session.sparkContext.parallelize(range(len(items)), len(items))
    return numbers.mapPartitionsWithIndex(run).collect()
