"""A lakehouse in S3: streams, state, checkpoints, checks, and what is done to it while nobody streams."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from jobs.operations.backup import back_up, restore
from jobs.operations.forgetting.command import Erasure
from jobs.operations.forgetting.proof import search_files
from jobs.operations.nightly_backup import make_nightly_backup
from jobs.operations.recompute import empty_stream
from jobs.operations.replay.comparison import compare_with_live
from jobs.operations.replay.shadow import Shadow, fill_shadow
from jobs.operations.replay.swap import is_half_done, swap_in, undo_swap
from platform_assets.checks.ledger import audit_stream
from platform_assets.errors import StorageError
from platform_assets.kept_backups import list_backups
from platform_assets.streaming.register.found_traces import NOTHING_ELSE
from platform_assets.streaming.stream_spec import Stream, select_ingest
from platform_assets.streams import load_stream_groups, load_streams
from platform_assets.tables.platform import AUDIT_LOG
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic
from resources.lakehouse import LakehouseResource
from resources.settings import Settings, load_settings
from tests.integration.replayed_streams import STREAMS, build_events, prove_sound, read_two_hours, rows
from tests.integration.s3_lakehouse import build_settings, set_environment, told
from tests.integration.streams_under_test import StreamsUnderTest
from tests.s3_server import BUCKET, S3Server, running_s3

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

NAME = "sessions"
(EVENTS,) = select_ingest(load_streams())
GROUPS = load_stream_groups()


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with running_s3() as server:
        yield server


@pytest.fixture(scope="module")
def settings_of_store(server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("s3")
    return build_settings(home, f"s3a://{BUCKET}/{home.name}", server.options)


@pytest.fixture(scope="module")
def streams(spark: SparkSession, kafka: KafkaResource, settings_of_store: Settings) -> Iterator[StreamsUnderTest]:
    """`events` and `sessions` have read two hours."""
    settings = settings_of_store
    ensure_topic(kafka, settings.home.name, 1)
    with told(spark, settings):
        lakehouse = LakehouseResource.from_settings(settings)
        streams = StreamsUnderTest.build(spark, kafka, lakehouse, settings, settings.home.name)
        read_two_hours(streams, NAME)
        yield streams


@pytest.fixture
def lakehouse(settings_of_store: Settings) -> LakehouseResource:
    return LakehouseResource.from_settings(settings_of_store)


@pytest.fixture(autouse=True)
def in_environment(settings_of_store: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    set_environment(monkeypatch, settings_of_store)
    yield
    load_settings.cache_clear()


def test_every_record_is_in_one_table_and_the_derived_one_equals_its_twin(
    streams: StreamsUnderTest, kafka: KafkaResource, lakehouse: LakehouseResource
) -> None:
    assert audit_stream(EVENTS, lakehouse, kafka).breaches == ()
    prove_sound(streams, NAME)


@pytest.mark.release
def test_a_restored_backup_goes_on_in_another_place_of_the_store(
    streams: StreamsUnderTest, settings_of_store: Settings, tmp_path: Path
) -> None:
    root = f"s3://{BUCKET}/{tmp_path.name}"
    streams.let_go_of_state()
    versions = back_up(GROUPS, settings_of_store, f"{root}-backup")
    assert versions["silver.events"] == streams.version("silver.events")
    with pytest.raises(StorageError, match="is not empty"):
        back_up(GROUPS, settings_of_store, f"{root}-backup")
    moved = settings_of_store.model_copy(update={"lakehouse": root})
    versions.pop(AUDIT_LOG.name, None)  # a restored place keeps its own
    assert restore(GROUPS, moved, f"{root}-backup") == versions
    # To a disk and back is the same copy.
    on_disk = back_up(GROUPS, settings_of_store, str(tmp_path / "on disk"))
    assert {name: version for name, version in on_disk.items() if name != AUDIT_LOG.name} == versions
    _back_up_two_nights(settings_of_store.model_copy(update={"backup_place": f"{root}-nightly", "backups_kept": 1}))
    there = replace(streams, context=replace(streams.context, lakehouse_root=root))
    there.send(build_events(range(100, 104)))
    there.drain("events", NAME)
    prove_sound(there, NAME)
    assert len(there.rows("silver.events")) > len(streams.rows("silver.events"))


def _back_up_two_nights(settings: Settings) -> None:
    """The second one takes the place of the first when its restore was rehearsed."""
    place = LakehouseResource(root=settings.backup_place).folder
    with dg.instance_for_test() as instance:
        first = make_nightly_backup(GROUPS, settings, instance, lambda line: None)
        assert first.rehearsal.passed and place.list_folders() == [first.name]
        second = make_nightly_backup(GROUPS, settings, instance, lambda line: None)
    assert [backup.name for backup in list_backups(place)] == place.list_folders() == [second.name]
    assert second.removed == (first.name,)


@pytest.mark.release
def test_a_stream_is_recomputed(streams: StreamsUnderTest, lakehouse: LakehouseResource) -> None:
    before = rows(streams, NAME)
    streams.let_go_of_state()
    empty_stream(STREAMS[NAME], lakehouse, lambda: None)
    assert rows(streams, NAME) == []
    streams.drain("events", NAME)
    assert len(rows(streams, NAME)) >= len(before) > 0
    prove_sound(streams, NAME)


@pytest.mark.release
def test_a_replay_is_swapped_in_and_taken_back(streams: StreamsUnderTest, lakehouse: LakehouseResource) -> None:
    before = rows(streams, NAME)
    shadow = Shadow(STREAMS[NAME], streams.context, lakehouse)
    fill_shadow(streams.session, None, shadow, lambda line: None, 30.0)
    found = compare_with_live(streams.session, shadow)
    assert found is not None and found.differences == 0 and found.rows > 0
    swap_in(streams.session, shadow)
    assert not is_half_done(shadow) and not shadow.exists()
    prove_sound(streams, NAME)
    undo_swap(streams.session, shadow)
    assert rows(streams, NAME) == before
    streams.send(build_events(range(110, 120)))
    streams.drain("events", NAME)
    prove_sound(streams, NAME)


@pytest.mark.release
def test_a_user_is_forgotten(streams: StreamsUnderTest, kafka: KafkaResource, lakehouse: LakehouseResource) -> None:
    user = "u1"
    streams_of_user: list[Stream] = [EVENTS, STREAMS[NAME]]
    assert search_files(lakehouse, user).found
    erasure = Erasure(user, streams_of_user, streams.context, "a test", "asked to", NOTHING_ELSE)
    _, erased = erasure.take_out(streams.session, lambda: _drain(streams), lambda line: None)
    erasure.remove_files(lambda: None)
    assert erased["silver.events"] > 0 and erased[STREAMS[NAME].main_table.name] > 0
    assert search_files(lakehouse, user).found == ()
    assert audit_stream(EVENTS, lakehouse, kafka).breaches == ()
    prove_sound(streams, NAME)


def _drain(streams: StreamsUnderTest) -> None:
    streams.drain(NAME)
