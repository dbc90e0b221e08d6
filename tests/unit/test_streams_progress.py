"""How far the streams over payments are: what they have not read yet is not known of any card, and scores say so."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from platform_assets.folders import Folder
from platform_assets.fraud.card_features import CardFeatures
from platform_assets.fraud.streams_progress import find_reached
from platform_assets.streaming.checkpoint.checkpoint import Checkpoint
from platform_assets.streaming.moments import EPOCH, count_micros
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from tests.known_cards import NOON, write_gold
from tests.spark.card_cases import MINUTE, transaction
from tests.unit.test_checkpoint import write_commit, write_plan


def write_query(place: Path, *frontiers: datetime | None, done: int) -> Checkpoint:
    """The checkpoint of a query over a table with a batch for each frontier, of which the first `done` are done."""
    for batch, frontier in enumerate(frontiers):
        micros = None if frontier is None else count_micros(frontier)
        write_plan(place, batch, {"version": batch, "files": -1, "frontier": micros})
        if batch < done:
            write_commit(place, batch)
    return Checkpoint(Folder(str(place)))


def test_the_slowest_of_the_streams_counts_by_what_it_has_done(tmp_path: Path) -> None:
    ahead = write_query(tmp_path / "ahead", None, NOON, NOON + MINUTE, done=3)
    behind = write_query(tmp_path / "behind", NOON - 9 * MINUTE, NOON, done=1)
    assert find_reached([ahead, behind]) == NOON - 9 * MINUTE
    assert find_reached([ahead]) == NOON + MINUTE


def test_before_the_first_batch_nothing_is_said(tmp_path: Path) -> None:
    none = [write_query(tmp_path / "planned", NOON, done=0), write_query(tmp_path / "no event", None, done=1)]
    assert find_reached(none) is None
    assert find_reached([Checkpoint(Folder(str(tmp_path / "nowhere")))]) is None


def test_of_an_incomplete_checkpoint_nothing_counts_as_known(tmp_path: Path) -> None:
    broken = write_query(tmp_path, NOON, done=1)
    (tmp_path / "offsets" / "0").unlink()
    assert find_reached([broken]) == EPOCH


@pytest.mark.parametrize("behind_minutes", [-1, 0, 7])
def test_rows_say_up_to_when_the_streams_are(lakehouse: LakehouseResource, tmp_path: Path, behind_minutes: int) -> None:
    write_gold(lakehouse, [transaction("c", NOON - 2 * MINUTE), transaction("c", NOON - MINUTE)])
    reached = NOON - behind_minutes * MINUTE
    with DuckDBResource(memory_mib=256).connected() as connection:
        (row,) = CardFeatures(lakehouse, connection).compute(NOON, reached).to_pylist()
    assert row["as_of"] == min(NOON, reached)
    assert row["recent_payments"] == 2
