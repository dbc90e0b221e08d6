"""A replay: made next to the live table, compared, swapped in, undone; cut short between any two of its steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from jobs.operations.replay.comparison import DIFFERENCE, compare_with_live, read_cost
from jobs.operations.replay.shadow import Shadow, fill_shadow
from jobs.operations.replay.swap import abandon, is_half_done, swap_in, undo_swap
from platform_assets.errors import CheckpointMismatchError, NotReadyError, StorageError
from platform_assets.folders import Folder
from platform_assets.streaming.checkpoint.checkpoint import STATE_PARTS, Checkpoint
from platform_assets.streaming.delta.batch_writer import DeltaBatchWriter
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.streaming.derive.query_state import read_complete_until
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.tables.platform import COMPLETE_UNTIL
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.bounded_run import run_to_end
from tests.integration.replayed_streams import STREAMS, build_events, late, prove_sound, rows
from tests.integration.streams_under_test import StreamsUnderTest
from tests.power_cuts import Steps

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TABLE = "gold.revenue_by_category"


@pytest.fixture
def streams(replayed: StreamsUnderTest) -> StreamsUnderTest:
    """Two hours that the stream `name` has read, with events that came late."""
    return replayed


def shadow_of(streams: StreamsUnderTest, name: str) -> Shadow:
    return Shadow(STREAMS[name], streams.context, LakehouseResource(root=streams.context.lakehouse_root))


def fill(streams: StreamsUnderTest, shadow: Shadow) -> None:
    fill_shadow(streams.session, None, shadow, lambda line: None, 30.0)


def read_state(streams: StreamsUnderTest, name: str) -> dict[str, Any] | None:
    return read_complete_until(streams.context.table_uri(COMPLETE_UNTIL.name), name)


def damage(streams: StreamsUnderTest, name: str) -> int:
    """Loses the rows that end first; returns how many."""
    uri, end = streams.context.table_uri(STREAMS[name].main_table.name), STREAMS[name].span.end_column
    before = DeltaTable(uri).to_pyarrow_table()
    left = before.filter(pc.field(end) > sorted(before[end].to_pylist())[2])
    write_deltalake(uri, left, mode="overwrite")
    lost = len(before) - len(left)
    assert lost > 0
    return lost


def test_a_damaged_table_is_found_out_replaced_and_put_back(copied: StreamsUnderTest, name: str) -> None:
    right, lost, shadow = rows(copied, name), damage(copied, name), shadow_of(copied, name)
    # The record of what is final knows the version from before the damage: the group writes it down with each look.
    copied.drain(name)
    damaged = rows(copied, name)
    fill(copied, shadow)
    found = compare_with_live(copied.session, shadow)
    assert found is not None and (found.added, found.missing, found.changed) == (lost, 0, 0)
    assert rows(copied, name) == damaged, "a comparison changes nothing"
    swap_in(copied.session, shadow)
    assert rows(copied, name) == right
    undo_swap(copied.session, shadow)
    assert rows(copied, name) == damaged


def test_a_replay_has_as_many_parts_of_state_as_the_setting_says(
    copied: StreamsUnderTest, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = Checkpoint.of(copied.context, STREAMS[name].main_table.name)
    right, before, shadow = rows(copied, name), checkpoint.read_state_parts(), shadow_of(copied, name)
    copied.session.conf.set(STATE_PARTS, "3")
    try:
        copied.drain(name)
        assert f"The state of query {name} has {before} parts, and keeps them" in caplog.text
        assert checkpoint.read_state_parts() == before == 2
        fill(copied, shadow)
        swap_in(copied.session, shadow)
        caplog.clear()
        copied.send(build_events(range(100, 130)))
        copied.drain("events", name)
    finally:
        copied.session.conf.set(STATE_PARTS, "2")
    assert checkpoint.read_state_parts() == 3 and "keeps them" not in caplog.text
    assert set(right) < set(rows(copied, name))
    prove_sound(copied, name)


@pytest.mark.release
@pytest.mark.parametrize("name", ["sessions", "view_to_purchase"], indirect=True)
def test_a_damaged_table_is_found_out_replaced_and_goes_on(streams: StreamsUnderTest, name: str) -> None:
    right, spec, shadow = rows(streams, name), STREAMS[name].main_table, shadow_of(streams, name)
    fill(streams, shadow)
    found = compare_with_live(streams.session, shadow)
    assert found is not None and found.differences == 0 and found.rows > 0

    lost = damage(streams, name)
    # The record of what is final knows the version from before the damage: the group writes it down with each look.
    streams.send(build_events(range(100, 102)))
    streams.drain("events", name)
    damaged = rows(streams, name)

    fill(streams, shadow)
    found = compare_with_live(streams.session, shadow)
    assert found is not None and (found.added, found.missing, found.changed) == (lost, 0, 0)
    kept = DeltaTable(f"{shadow.context.lakehouse_root}/{DIFFERENCE}").to_pyarrow_table()
    assert kept["change"].to_pylist() == ["in the replay"] * lost
    assert read_cost(shadow)["rows"] > 0
    assert rows(streams, name) == damaged, "a comparison changes nothing"

    # Meanwhile the live stream went on; the swap takes what came since, and the next run goes on from there.
    streams.send(build_events(range(102, 130)))
    streams.drain("events", name)
    fill(streams, shadow)
    version = swap_in(streams.session, shadow)
    assert version == streams.version(spec.name) and not is_half_done(shadow) and not shadow.exists()
    prove_sound(streams, name)
    streams.send([*build_events(range(130, 170)), late(7)])
    streams.drain("events", name)
    prove_sound(streams, name)
    assert len(rows(streams, name)) > len(right)


@pytest.mark.release
def test_changed_code_shows_its_rows_and_is_taken_back(streams: StreamsUnderTest, name: str) -> None:
    before, state = rows(streams, name), read_state(streams, name)
    original = STREAMS[name].transform
    changed = dataclasses.replace(
        STREAMS[name], transform=lambda events: original(events.where("minute(event_time) % 2 = 0"))
    )
    shadow = dataclasses.replace(shadow_of(streams, name), stream=changed)
    fill(streams, shadow)
    found = compare_with_live(streams.session, shadow)
    assert found is not None and found.missing + found.changed > 0
    swap_in(streams.session, shadow)
    assert rows(streams, name) != before

    streams.send(build_events(range(100, 110)))
    streams.drain("events")
    run_to_end(QueryGroup(streams.session, [changed], streams.context))  # goes on with the state that was swapped in
    undo_swap(streams.session, shadow)
    assert rows(streams, name) == before
    put_back = read_state(streams, name)
    assert put_back is not None and state is not None
    assert put_back["complete_until"] == state["complete_until"]
    streams.drain("events", name)  # the old code, from the old state: what came since is read again
    prove_sound(streams, name)
    with pytest.raises(NotReadyError, match="no finished swap"):
        undo_swap(streams.session, shadow)


@pytest.mark.release
def test_an_undo_whose_files_are_gone_changes_nothing(copied: StreamsUnderTest, name: str) -> None:
    shadow = shadow_of(copied, name)
    fill(copied, shadow)
    swap_in(copied.session, shadow)
    table = DeltaTable(copied.context.table_uri(TABLE))
    table.vacuum(0, dry_run=False, enforce_retention_duration=False)
    with pytest.raises(StorageError, match="files are gone"):
        undo_swap(copied.session, shadow)
    assert not is_half_done(shadow)
    copied.drain("events", name)


def test_a_stream_that_has_read_nothing_is_not_swapped(
    spark: Any, kafka: KafkaResource, lakehouse: LakehouseResource, settings: Settings, topic: Callable[..., str]
) -> None:
    streams = StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic(1))
    streams.drain("events")
    with pytest.raises(NotReadyError, match="nothing to read yet"):
        swap_in(spark, shadow_of(streams, "sessions"))


@pytest.mark.release
def test_nothing_is_left_of_a_replay_that_is_abandoned(copied: StreamsUnderTest, name: str) -> None:
    shadow, root = shadow_of(copied, name), Path(copied.context.lakehouse_root)
    # Spark's maintenance uploads a snapshot of the live query's state when its own time comes.
    live_state = Path(copied.context.checkpoint_uri(TABLE), "state")

    def files() -> dict[Path, int]:
        found = (path for path in root.rglob("*") if path.is_file() and not path.is_relative_to(live_state))
        return {path: path.stat().st_mtime_ns for path in found}

    before = files()
    fill(copied, shadow)
    assert files() != before
    abandon(shadow)
    assert files() == before


# What a swap and its undoing do that lasts, by the method that does it: each call of it is a step.
STEPS = {
    DeltaWriter: ("put", "replace", "delete", "restore"),
    DeltaBatchWriter: ("overwrite", "append"),
    Folder: ("write_file", "move", "remove"),
}


@pytest.mark.release
def test_it_may_be_cut_short_anywhere(
    streams: StreamsUnderTest, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Called again it comes to the same end: the swap, and then its undoing."""
    right, shadow = rows(streams, name), shadow_of(streams, name)
    fill(streams, shadow)
    streams.let_go_of_state()
    steps, last_cuts = Steps(monkeypatch, STEPS), []
    for do, other, least in ((swap_in, undo_swap, 10), (undo_swap, swap_in, 6)):
        root, into = Path(streams.context.lakehouse_root), tmp_path / do.__name__
        cuts = [streams.at(copy) for copy in steps.copy_before_each(root, into, partial(do, streams.session, shadow))]
        assert len(cuts) >= least
        for cut in cuts:
            expect_refusals(cut, name, other)
            do(cut.session, shadow_of(cut, name))
            expect_the_end(cut, name, right)
        expect_the_end(streams, name, right)
        last_cuts.append(cuts[-1])
    streams.send(build_events(range(100, 110)))
    for cut in last_cuts:
        cut.drain("events", name)
        prove_sound(cut, name)


def expect_refusals(streams: StreamsUnderTest, name: str, other: Callable[[SparkSession, Shadow], int]) -> None:
    """What is half done stops the stream, and the other way."""
    shadow = shadow_of(streams, name)
    if not is_half_done(shadow):
        return
    if not Path(streams.context.checkpoint_uri(TABLE), "metadata").exists():
        with pytest.raises(CheckpointMismatchError):
            run_to_end(QueryGroup(streams.session, [STREAMS[name]], streams.context))
    with pytest.raises(NotReadyError, match="half done"):
        abandon(shadow)
    with pytest.raises(NotReadyError, match=r"half undone|no finished swap"):
        other(streams.session, shadow)


def expect_the_end(streams: StreamsUnderTest, name: str, right: list[str]) -> None:
    shadow = shadow_of(streams, name)
    assert rows(streams, name) == right and not is_half_done(shadow) and not shadow.exists()
    assert Path(streams.context.checkpoint_uri(TABLE), "metadata").exists()
    assert read_state(streams, name) is not None
