"""A replay of a range of time: what is final in it becomes what its events give, the rest stays as it is."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from deltalake import DeltaTable, write_deltalake

from jobs.operations.replay.comparison import Comparison
from jobs.operations.replay.row_replay import ReplayScope
from jobs.operations.replay.time_range import RangeReplay
from platform_assets.errors import NotReadyError, UsageError
from platform_assets.folders import Folder
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.streaming.derive.query_state import read_complete_until
from platform_assets.tables.platform import COMPLETE_UNTIL
from resources.lakehouse import LakehouseResource
from tests.integration.replayed_streams import AT, STREAMS, build_events, prove_sound, rows
from tests.integration.streams_under_test import StreamsUnderTest
from tests.power_cuts import Steps

ALL = ReplayScope()
FIRST_HALF = ReplayScope(AT - timedelta(hours=1), AT + timedelta(minutes=85))


@pytest.fixture
def streams(replayed: StreamsUnderTest) -> StreamsUnderTest:
    """Two hours that the stream `name` has read, with a pause in the middle, and events that came late."""
    return replayed


def damage(streams: StreamsUnderTest, name: str) -> int:
    """Loses every third row of the table that is final; returns how many."""
    span, spec = STREAMS[name].span, STREAMS[name].main_table
    state = read_complete_until(streams.context.table_uri(COMPLETE_UNTIL.name), name)
    assert state is not None
    until = state["complete_until"] - span.inactivity
    present = DeltaTable(streams.context.table_uri(spec.name)).to_pyarrow_table().sort_by(spec.key[0])
    kept = [number % 3 != 0 or row[span.end_column] > until for number, row in enumerate(present.to_pylist())]
    write_deltalake(streams.context.table_uri(spec.name), present.filter(kept), mode="overwrite")
    return kept.count(False)


def replay_of(streams: StreamsUnderTest, name: str, scope: ReplayScope = ALL) -> RangeReplay:
    return RangeReplay(STREAMS[name], streams.context, LakehouseResource(root=streams.context.lakehouse_root), scope)


def compare(streams: StreamsUnderTest, name: str, scope: ReplayScope = ALL) -> Comparison:
    return replay_of(streams, name, scope).compare(streams.session)


def test_what_was_lost_in_the_range_comes_back_and_nothing_else(copied: StreamsUnderTest, name: str) -> None:
    right = rows(copied, name)
    lost = damage(copied, name)
    damaged, replay = rows(copied, name), replay_of(copied, name, FIRST_HALF)
    replay.swap(copied.session)
    half = rows(copied, name)
    assert len(damaged) < len(half) < len(damaged) + lost and set(damaged) < set(half) < set(right)
    replay.undo(copied.session)
    assert rows(copied, name) == damaged


@pytest.mark.long
@pytest.mark.parametrize("name", ["sessions"], indirect=True)
def test_only_the_range_is_recomputed(streams: StreamsUnderTest, name: str) -> None:
    right = rows(streams, name)
    lost = damage(streams, name)
    assert lost > 1
    found = compare(streams, name, FIRST_HALF)
    in_all = compare(streams, name).added
    assert 0 < found.added <= in_all == lost and (found.missing, found.changed) == (0, 0)

    damaged, replay = rows(streams, name), replay_of(streams, name, FIRST_HALF)
    replay.swap(streams.session)
    half = rows(streams, name)
    assert len(half) == len(damaged) + found.added and set(half) <= set(right)
    replay.undo(streams.session)
    assert rows(streams, name) == damaged

    replay_of(streams, name).swap(streams.session)
    streams.send(build_events(range(100, 130)))
    streams.drain("events", name)
    prove_sound(streams, name)
    assert set(right) - set(rows(streams, name)) == set()


def test_what_is_not_final_is_refused(copied: StreamsUnderTest, name: str) -> None:
    with pytest.raises(NotReadyError, match="Name an earlier range"):
        compare(copied, name, ReplayScope(since=AT + timedelta(days=1)))
    with pytest.raises(NotReadyError, match="no finished swap"):
        replay_of(copied, name).undo(copied.session)


@pytest.mark.long
def test_rows_that_are_there_twice_are_found_and_left_to_a_whole_replay(copied: StreamsUnderTest, name: str) -> None:
    uri, before = copied.context.table_uri(STREAMS[name].main_table.name), compare(copied, name)
    assert before.differences == 0
    write_deltalake(uri, DeltaTable(uri).to_pyarrow_table(), mode="append")
    found = compare(copied, name)
    assert found.doubled == found.changed == before.rows and (found.added, found.missing) == (0, 0)
    with pytest.raises(UsageError, match="more than once"):
        replay_of(copied, name).swap(copied.session)
    assert not replay_of(copied, name).is_half_done()


@pytest.mark.long
def test_it_may_be_cut_short_anywhere(
    copied: StreamsUnderTest, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Called again it comes to the same end: the swap, and then its undoing."""
    damage(copied, name)
    damaged = rows(copied, name)
    steps = Steps(monkeypatch, {DeltaWriter: ("put", "replace"), Folder: ("write_file", "remove")})
    for action, expected_cuts in (("swap", 4), ("undo", 3)):
        do = getattr(replay_of(copied, name), action)
        root, into = Path(copied.context.lakehouse_root), tmp_path / action
        cuts = [copied.at(copy) for copy in steps.copy_before_each(root, into, partial(do, copied.session))]
        assert len(cuts) == expected_cuts
        end = rows(copied, name)
        assert (end == damaged) == (action == "undo")
        for cut in cuts:
            replay = replay_of(cut, name)
            getattr(replay, action)(cut.session)
            assert rows(cut, name) == end and not replay.is_half_done()
