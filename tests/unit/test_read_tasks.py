"""How the offsets of a batch are shared out among tasks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from platform_assets.streaming.checkpoint.checkpoint import OffsetRange
from platform_assets.streaming.ingest.read_tasks import plan_tasks


@given(st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 300_000)), max_size=12), st.integers(1, 16))
def test_each_offset_is_read_once_and_no_slot_waits_for_another(parts: list[tuple[int, int]], slots: int) -> None:
    ranges = [OffsetRange("t", p, start, start + length) for p, (start, length) in enumerate(parts)]
    tasks = plan_tasks(ranges, slots)
    read: dict[int, list[tuple[int, int]]] = {}
    for task in tasks:
        assert len({partition for partition, *_ in task}) == len(task), "one range a partition"
        for partition, start, until in task:
            assert start < until
            read.setdefault(partition, []).append((start, until))
    for r in ranges:
        own = read.pop(r.kafka_partition, [])
        edges = [r.from_offset, *(until for _, until in own)]
        assert [start for start, _ in own] == edges[:-1] and edges[-1] == r.until_offset
    assert not read
    sizes = [sum(until - start for _, start, until in task) for task in tasks]
    assert len(tasks) <= slots and max(sizes, default=0) - min(sizes, default=0) <= 1


def test_few_records_are_one_task_and_none_are_no_task() -> None:
    assert plan_tasks([OffsetRange("t", p, 7, 107) for p in range(3)], 8) == [[(p, 7, 107) for p in range(3)]]
    assert plan_tasks([OffsetRange("t", 0, 7, 7)], 8) == []
