"""The check on file sizes and counts says what makes a table slow to read."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from platform_assets.checks import table_files
from platform_assets.checks.table_files import build_table_files_checks
from platform_assets.topics.events import DEDUPLICATED_EVENTS
from resources.lakehouse import LakehouseResource


def run_check(root: Path) -> dg.AssetCheckResult:
    (check,) = build_table_files_checks([DEDUPLICATED_EVENTS])
    verdict = check(dg.build_asset_check_context(resources={"lakehouse": LakehouseResource(root=str(root))}))
    assert isinstance(verdict, dg.AssetCheckResult)
    return verdict


def test_small_files_and_a_long_log_are_named_until_they_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_files, "MAX_SMALL_FILES", 2)
    monkeypatch.setattr(table_files, "MAX_COMMITS_TO_REPLAY", 3)
    assert run_check(tmp_path).passed  # nothing there yet
    uri = str(tmp_path / "silver" / "deduplicated_events")
    for number in range(4):
        write_deltalake(uri, pa.table({"event_id": [str(number)]}), mode="append")
    verdict = run_check(tmp_path)
    assert not verdict.passed and verdict.severity == dg.AssetCheckSeverity.WARN
    assert "4 of 4 files are smaller than 1 MiB" in str(verdict.description)
    assert "replays 4 commits" in str(verdict.description)
    table = DeltaTable(uri)
    table.optimize.compact()
    table.create_checkpoint()
    verdict = run_check(tmp_path)
    assert verdict.passed and "0 commits since" in str(verdict.description)
    assert verdict.metadata["files"].value == 1
