"""A lakehouse that was copied away and back, or to another root: the streams go on there and come to the same rows."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobs.operations.backup import MANIFEST, back_up, restore
from jobs.supervision.group_lock import hold_group_lock
from platform_assets.errors import GroupOwnedError, StorageError
from platform_assets.streams import load_stream_groups, load_streams
from platform_assets.tables.platform import AUDIT_LOG
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.integration.streams_under_test import StreamsUnderTest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import SparkSession

# `make test` moves a lakehouse of two streams, `make test-long` of all.
FEW, ALL = ("events", "sessions"), tuple(stream.name for stream in load_streams())
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
GROUPS = load_stream_groups()
# Their times are of the run that wrote them.
TIMES = {"ingested_at", "quarantined_at", "deduplicated_at"}


def build_events(first: int, count: int) -> list[bytes | None]:
    def build(number: int) -> bytes:
        event = {
            "event_id": f"e{number - number % 7 // 6}", "event_type": "purchase" if number % 3 == 0 else "page_view",
            # With a pause of an hour now and then, in which sessions end.
            "timestamp": (AT + timedelta(minutes=number + number // 50 * 60)).isoformat(),
            "user_id": f"u{number % 5}", "product_id": "p", "revenue": 160.0, "category": "toys",
        }  # fmt: skip
        return json.dumps(event).encode() if number % 11 else b"bad"

    return [build(number) for number in range(first, first + count)]


@pytest.fixture
def names(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The streams that run."""
    return getattr(request, "param", FEW)


@pytest.fixture(scope="module")
def written(
    spark: SparkSession, kafka: KafkaResource, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[tuple[str, ...]], StreamsUnderTest]:
    """Gives what the streams of these names have made of 150 records, once for each choice of streams."""
    return functools.cache(lambda names: write(spark, kafka, tmp_path_factory.mktemp("backup"), names))


def write(spark: SparkSession, kafka: KafkaResource, root: Path, names: tuple[str, ...]) -> StreamsUnderTest:
    topic = f"backup-{root.name}"
    ensure_topic(kafka, topic, 1)
    lakehouse = LakehouseResource(root=str(root / "lakehouse"))
    settings = Settings(home=root / "home", kafka_bootstrap_servers="")
    streams = StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic)
    streams.send(build_events(0, 150))
    streams.drain(*names)
    streams.let_go_of_state()
    return streams


@pytest.fixture
def streams(
    written: Callable[[tuple[str, ...]], StreamsUnderTest], names: tuple[str, ...], tmp_path: Path
) -> StreamsUnderTest:
    """The same in a lakehouse of one's own."""
    return written(names).copy_to(tmp_path / "lakehouse")


@pytest.fixture
def own(settings: Settings, streams: StreamsUnderTest) -> Settings:
    return settings.model_copy(update={"lakehouse": streams.context.lakehouse_root})


def in_root(streams: StreamsUnderTest, root: str) -> StreamsUnderTest:
    return dataclasses.replace(streams, context=dataclasses.replace(streams.context, lakehouse_root=root))


def read(streams: StreamsUnderTest, names: tuple[str, ...]) -> dict[str, list[str]]:
    tables = [table.name for stream in load_streams() if stream.name in names for table in stream.tables]

    def plain(row: dict[str, Any]) -> str:
        return str({name: value for name, value in row.items() if name not in TIMES})

    return {name: sorted(plain(row) for row in streams.rows(name)) for name in tables}


@pytest.mark.parametrize(
    ("root", "names"),
    [
        ("moved/lakehouse", FEW),
        pytest.param("lakehouse", ALL, marks=pytest.mark.long, id="all"),
    ],
    indirect=["names"],
)
def test_the_streams_go_on_in_a_restored_lakehouse_and_come_to_the_same_rows(
    streams: StreamsUnderTest, own: Settings, tmp_path: Path, root: str, names: tuple[str, ...]
) -> None:
    """The root may differ from the one that was copied."""
    backup = str(tmp_path / "backup")
    versions = back_up(GROUPS, own, backup)
    assert versions["silver.events"] == streams.version("silver.events") and "gold.sessions" in versions

    streams.send(build_events(150, 150))
    streams.drain(*names)
    wanted = read(streams, names)

    streams.let_go_of_state()
    shutil.rmtree(own.lakehouse)  # the bad day
    place = str(tmp_path / root)
    restored = restore(GROUPS, own.model_copy(update={"lakehouse": place}), backup)
    assert restored == {name: version for name, version in versions.items() if name != AUDIT_LOG.name}
    there = in_root(streams, place)
    there.drain(*names)
    assert read(there, names) == wanted
    assert all(wanted.values())


def test_a_copy_that_was_cut_short_is_not_restored(streams: StreamsUnderTest, own: Settings, tmp_path: Path) -> None:
    place = tmp_path / "backup"
    back_up(GROUPS, own, str(place))
    (place / MANIFEST).unlink()
    with pytest.raises(StorageError, match="no whole backup"):
        restore(GROUPS, own.model_copy(update={"lakehouse": str(tmp_path / "new")}), str(place))


def test_a_backup_that_lacks_a_file_is_named(streams: StreamsUnderTest, own: Settings, tmp_path: Path) -> None:
    place = tmp_path / "backup"
    back_up(GROUPS, own, str(place))
    victim = next((place / "silver" / "events").glob("event_date=*/*.parquet"))
    victim.unlink()
    with pytest.raises(StorageError, match=victim.name):
        restore(GROUPS, own.model_copy(update={"lakehouse": str(tmp_path / "new")}), str(place))


def test_nothing_is_copied_over_what_is_there_or_while_a_group_runs(
    streams: StreamsUnderTest, own: Settings, tmp_path: Path
) -> None:
    place = tmp_path / "backup"
    (place / "something").mkdir(parents=True)
    (place / "something" / "else").touch()
    with pytest.raises(StorageError, match="is not empty"):
        back_up(GROUPS, own, str(place))
    with hold_group_lock(own.home, GROUPS[0].name, "run"), pytest.raises(GroupOwnedError):
        back_up(GROUPS, own, str(tmp_path / "other"))
    assert not (tmp_path / "other").exists()
    command = [sys.executable, "-m", "jobs.cli", "restore", str(tmp_path / "nowhere"), "--because", "a test"]
    said = subprocess.run(
        command, env={"HEADRACE_HOME": str(tmp_path / "home")}, capture_output=True, text=True, check=False
    )
    assert said.returncode == 1 and said.stderr.startswith("headrace: ") and said.stderr.count("\n") == 1


def test_a_group_that_runs_elsewhere_and_is_not_enabled_here_is_waited_for(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with hold_group_lock(home, "payments", "run"):
        said = subprocess.run(
            [sys.executable, "-m", "jobs.cli", "backup", str(tmp_path / "backup")],
            env={"HEADRACE_HOME": str(home), "HEADRACE_GROUPS": "clickstream"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert said.returncode == 1 and "payments" in said.stderr, said.stderr
    assert not (tmp_path / "backup").exists()
