"""Spark counts the rows of a task that ran again once more: such a count is no breach, but none either."""

from __future__ import annotations

import pytest

from platform_assets.streaming.ledgers.hop_ledger import read_report
from platform_assets.streaming.progress import INPUT, ROWS


@pytest.mark.parametrize(
    ("read", "rows_in", "has_executors", "recorded"),
    [
        (10, 10, True, 10),
        (20, 10, True, None),
        (9, 10, True, 9),  # rows that were not read are a breach anywhere
        (20, None, True, 20),
        (20, 10, False, 20),
    ],
)
def test_a_count_above_what_was_written_is_not_known_where_executors_can_be_lost(
    read: int, rows_in: int | None, has_executors: bool, recorded: int | None
) -> None:
    report = {"observedMetrics": {INPUT: {ROWS: read}}, "stateOperators": [{"numRowsTotal": 3, "numRowsRemoved": 1}]}
    found = read_report(report, rows_in, has_executors=has_executors)
    assert found == {"rows_read": recorded, "rows_in_state": 3, "rows_expired": 1}


def test_without_a_report_nothing_is_said() -> None:
    assert read_report(None, 10, has_executors=True) == {}
