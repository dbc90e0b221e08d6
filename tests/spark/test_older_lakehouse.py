"""A lakehouse that older code has written is opened by this one, and its streams go on from their checkpoints.

`older_lakehouse.zip` holds what the code of 28 November 2026 left: `FIRST` of `test_parity` in two commits, read by the
streams of `QUICK` in two runs. It lies in Delta's and Spark's own formats, with our words in the commits.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from platform_assets.folders import Folder
from platform_assets.streaming.checkpoint.checkpoint import Checkpoint
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from resources.lakehouse import LakehouseResource
from tests.spark.report_cases import append_events, event, read_rows
from tests.spark.streams_over_table import in_order
from tests.spark.test_parity import FIRST, LATE, MINUTE, NOON, QUICK, run_check
from tests.spark.test_streams_over_events import CLOSER, STREAMS, ask_rule, run_streams

# One that goes on with the last session of `FIRST`, one of a window that was open, and one that came too late.
NEXT = [
    event("u39", NOON + 50 * MINUTE),
    event("u0", NOON + timedelta(hours=2), "purchase", revenue=7.0),
    *LATE,
    CLOSER,
]


@pytest.fixture(scope="module")
def older(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The root of that lakehouse after this code has read what came next."""
    root = tmp_path_factory.mktemp("older")
    with zipfile.ZipFile(Path(__file__).with_name("older_lakehouse.zip")) as archive:
        archive.extractall(root)
    lakehouse = LakehouseResource(root=str(root))
    before = {name: Checkpoint(Folder(lakehouse.checkpoint_uri(table_of(name)))).read_generation() for name in QUICK}
    append_events(lakehouse, NEXT, first_offset=len(FIRST))
    run_streams(spark, lakehouse, QUICK)
    after = {name: Checkpoint(Folder(lakehouse.checkpoint_uri(table_of(name)))).read_generation() for name in QUICK}
    assert before == after and None not in after.values(), "the streams have begun anew"
    yield root


def table_of(name: str) -> str:
    return STREAMS[name].main_table.name


@pytest.mark.parametrize("name", QUICK)
def test_its_streams_go_on_and_come_to_what_all_events_give(older: Path, name: str) -> None:
    rows = in_order(STREAMS[name], read_rows(LakehouseResource(root=str(older)), table_of(name)))
    assert rows == ask_rule(name, [*FIRST, *NEXT[:-1]])


@pytest.mark.parametrize("name", QUICK)
def test_its_tables_pass_the_check(spark: SparkSession, older: Path, name: str) -> None:
    verdict = run_check(spark, older, name)
    assert verdict.passed, verdict.description


def test_its_commits_are_read_with_those_of_this_code(older: Path) -> None:
    history = LakehouseResource(root=str(older)).delta_table(table_of("sessions")).history()
    found = [CommitInfo.parse(commit.get("userMetadata")) for commit in history]
    batches = [info.batch or 0 for info in found if info is not None and info.kind is CommitKind.BATCH]
    assert len(batches) >= 2 and batches == sorted(set(batches), reverse=True)
