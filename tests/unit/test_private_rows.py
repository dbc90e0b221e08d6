"""What a check keeps of rows that differ says nothing about whose they are; the terminal can say it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from platform_assets.checks import parity, report_consistency
from platform_assets.checks.parity import Comparison
from platform_assets.checks.recomputed.comparison import Differences
from platform_assets.private_rows import hide_users, render_rows, shown_rows
from platform_assets.reports.customer_360 import CUSTOMER_360_TABLE
from platform_assets.reports.daily_report import ReportCommit
from platform_assets.streams import sessions

ROWS: list[dict[str, Any]] = [
    {"user_id": "ann-7", "n": 1},
    {"user_id": "ann-7", "n": 2},
    {"user_id": "bob", "n": 2},
    {"user_id": None},
]
STATE = {"late_events_pending": 0, "source_version": 1, "table_version": 1}
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def verdicts() -> list[dg.AssetCheckResult]:
    commit = ReportCommit(None, {"gold.customer_days": 3})
    return [
        parity._judge(sessions.STREAM, Comparison(None, NOW, 9, 4, ROWS), STATE),
        report_consistency._judge(CUSTOMER_360_TABLE, commit, None, Differences(4, ROWS)),
    ]


@pytest.mark.parametrize("number", [0, 1])
def test_no_verdict_names_a_user(number: int) -> None:
    verdict = verdicts()[number]
    kept = f"{verdict.description} {verdict.metadata}"
    assert "ann-7" not in kept and "bob" not in kept
    assert "headrace check --rows" in kept and "'n': 2" in kept


def test_rows_of_one_user_are_known_as_such() -> None:
    first, second, other, nobody = (row["user_id"] for row in hide_users(ROWS))
    assert first == second != other and nobody is None
    assert str(first).startswith("user ") and len(str(first)) == len("user ") + 8


def test_a_command_gets_the_rows_as_they_are_in_a_run_in_its_process() -> None:
    @dg.asset_check(asset=["a"])
    def one() -> dg.AssetCheckResult:
        return verdicts()[0]

    job = dg.define_asset_job("checks", dg.AssetSelection.all_asset_checks(), executor_def=dg.in_process_executor)
    definitions = dg.Definitions(assets=[dg.AssetSpec(["a"])], asset_checks=[one], jobs=[job])
    with dg.DagsterInstance.ephemeral() as instance, shown_rows() as rows:
        definitions.resolve_job_def("checks").execute_in_process(instance=instance, raise_on_error=False)
    assert [row for origin, row in rows if origin == "parity of gold.sessions"] == ROWS


def test_a_value_cannot_end_its_list_item() -> None:
    assert render_rows([{"p": "`![x](http://x)`"}]) == "- `{'p': ''![x](http://x)''}`"
    assert render_rows([]) == "none"
