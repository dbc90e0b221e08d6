"""A rehearsal: the current code from a copy of the live state, compared with what the live stream wrote since."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobs.operations import backup
from jobs.operations.replay import rehearsal
from jobs.operations.replay.comparison import Comparison, read_cost
from jobs.operations.replay.rehearsal import build_rehearsal, find_starting_point, rehearse
from jobs.operations.replay.shadow import Shadow
from platform_assets.errors import NotReadyError, PlanChangedError
from platform_assets.streaming.checkpoint.checkpoint import Checkpoint
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.integration.replayed_streams import STREAMS, build_events, late, prove_sound, rows
from tests.integration.streams_under_test import StreamsUnderTest
from tests.power_cuts import PowerFailure

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@pytest.fixture(scope="module")
def readers(read_once: Callable[[str], StreamsUnderTest]) -> Callable[[str], StreamsUnderTest]:
    """Gives a lakehouse in which the stream of that name has read some hours in three bounded runs, made once."""

    @functools.cache
    def read_some_hours(name: str) -> StreamsUnderTest:
        streams = read_once(name)
        streams.send([*build_events(range(100, 190)), late(40)])
        streams.drain("events", name)
        return streams

    return read_some_hours


@pytest.fixture
def streams(readers: Callable[[str], StreamsUnderTest], name: str) -> StreamsUnderTest:
    """The lakehouse of stream `name`. Tests must not rest on what others leave: each only adds events, or reads."""
    return readers(name)


def rehearsal_of(
    streams: StreamsUnderTest, name: str, change: Callable[[DataFrame], DataFrame] | None = None
) -> Shadow:
    """A rehearsal of the stream as it is, or with a change above what makes its state."""
    stream = STREAMS[name]
    if change is not None:
        original = stream.transform
        stream = dataclasses.replace(stream, transform=lambda events: change(original(events)))
    return build_rehearsal(Shadow(stream, streams.context, LakehouseResource(root=streams.context.lakehouse_root)))


def compare(streams: StreamsUnderTest, shadow: Shadow) -> Comparison:
    found = rehearse(streams.session, None, shadow, lambda line: None, 30.0)
    assert found is not None and found.rows > 0
    return found


@pytest.mark.release
@pytest.mark.parametrize("name", ["view_to_purchase"], indirect=True)
def test_the_same_code_makes_the_same_rows_and_touches_nothing(streams: StreamsUnderTest, name: str) -> None:
    before, shadow = rows(streams, name), rehearsal_of(streams, name)
    start = find_starting_point(shadow)
    done = Checkpoint.of(shadow.live, STREAMS[name].main_table.name).read_last_committed_batch()
    assert done is not None and start.batch_id < done - 1, "nothing lies between"
    found = compare(streams, shadow)
    assert found.differences == 0
    assert 0 < read_cost(shadow)["rows"] < streams.rows("silver.events", "select count(*) as n from t")[0]["n"]
    assert rows(streams, name) == before

    streams.send(build_events(range(190, 220)))
    streams.drain("events", name)
    prove_sound(streams, name)
    assert compare(streams, shadow).differences == 0, "a second one begins where the state lies now"


@pytest.mark.release
@pytest.mark.parametrize("name", ["revenue_by_category", "sessions"], indirect=True)
def test_changed_code_shows_what_it_makes_otherwise(streams: StreamsUnderTest, name: str) -> None:
    shadow = rehearsal_of(streams, name, lambda made: made.withColumn("total_revenue", made.total_revenue + 1))
    found = compare(streams, shadow)
    assert (found.added, found.missing) == (0, 0) and 0 < found.changed <= found.rows
    assert {row["change"] for row in found.samples} == {"in the replay", "in the live table"}


def test_rows_that_the_code_leaves_out_are_missing(streams: StreamsUnderTest, name: str) -> None:
    shadow = rehearsal_of(streams, name, lambda made: made.where("minute(window_start) % 2 = 0"))
    before = rows(streams, name)
    found = compare(streams, shadow)
    assert found.missing > 0 and (found.added, found.changed) == (0, 0)
    assert rows(streams, name) == before


def test_code_that_cannot_go_on_with_the_state_is_told_so(streams: StreamsUnderTest, name: str) -> None:
    original = STREAMS[name].transform
    changed = dataclasses.replace(
        STREAMS[name], transform=lambda events: original(events.where("minute(event_time) % 2 = 0"))
    )
    shadow = dataclasses.replace(rehearsal_of(streams, name), stream=changed)
    with pytest.raises(PlanChangedError, match=f"has changed in what its state is made of.*headrace replay {name}"):
        rehearse(streams.session, None, shadow, lambda line: None, 30.0)
    streams.drain("events", name)


@pytest.mark.release
def test_one_that_was_cut_short_begins_anew(
    streams: StreamsUnderTest, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []

    def copy_some(*arguments: Any) -> None:
        if len(copied) == 7:
            raise PowerFailure
        copied.append(arguments[3])
        backup.copy_file(*arguments)

    monkeypatch.setattr(rehearsal, "copy_file", copy_some)
    shadow = rehearsal_of(streams, name)
    with pytest.raises(PowerFailure):
        rehearse(streams.session, None, shadow, lambda line: None, 30.0)
    assert all(Path(streams.context.lakehouse_root, path).exists() for path in copied)
    monkeypatch.setattr(rehearsal, "copy_file", backup.copy_file)
    assert compare(streams, shadow).differences == 0


def test_a_stream_that_has_hardly_begun_is_refused(
    spark: Any, kafka: KafkaResource, lakehouse: LakehouseResource, settings: Settings, topic: Callable[..., str]
) -> None:
    streams = StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic(1))
    streams.drain("events")
    with pytest.raises(NotReadyError, match="too few batches"):
        rehearse(spark, None, rehearsal_of(streams, "sessions"), lambda line: None, 30.0)
