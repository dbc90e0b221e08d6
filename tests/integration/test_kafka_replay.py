"""A replay from Kafka: accepted rows become what their records give, lost ones come back, and gold follows."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from confluent_kafka import TopicPartition
from deltalake import DeltaTable, write_deltalake

from jobs.operations.explain import explain
from jobs.operations.replay.comparison import Comparison
from jobs.operations.replay.kafka_range import KafkaReplay
from jobs.operations.replay.row_replay import ReplayScope
from platform_assets.checks.ledger import audit_stream
from platform_assets.errors import NotReadyError, UsageError
from platform_assets.folders import Folder
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.streaming.register.forgotten_users import Register, new_row
from platform_assets.streaming.stream_spec import select_ingest
from platform_assets.streams import load_streams
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.integration.replayed_streams import STREAMS, build_events, late, prove_sound, rows
from tests.integration.streams_under_test import StreamsUnderTest
from tests.power_cuts import Steps
from tests.spark.test_parity import run_check

(EVENTS,) = select_ingest(load_streams())
NAMES = ("sessions", "view_to_purchase", "revenue_by_category")
# One of them reads along in `make test`, and where each more would be more to do; else all, in one lakehouse.
FEW = ("sessions",)
OF_ALL = pytest.mark.parametrize("names", [pytest.param(NAMES, id="all")], indirect=True)
ALL = ReplayScope()
BAD, AGAIN = b"not JSON", build_events(range(3, 4))[0]


@pytest.fixture
def names(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The streams over `events` that have read along."""
    return getattr(request, "param", FEW)


@pytest.fixture(scope="module")
def written(
    spark: Any, kafka: KafkaResource, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[tuple[str, ...]], StreamsUnderTest]:
    """Gives what the streams of these names have written, once for each choice of streams."""
    return functools.cache(lambda names: write(spark, kafka, tmp_path_factory.mktemp("kafka-replay"), names))


def write(spark: Any, kafka: KafkaResource, root: Path, names: tuple[str, ...]) -> StreamsUnderTest:
    """Two hours in two partitions, with late events, a refused record and one that was sent twice."""
    topic = f"kafka-replay-{root.name}"
    ensure_topic(kafka, topic, 2)
    settings = Settings(home=root / "home", kafka_bootstrap_servers="", publish=False)
    lakehouse = LakehouseResource(root=str(root / "lakehouse"))
    streams = StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic)
    streams.send(build_events(range(60)))
    streams.send([*build_events(range(60, 100)), BAD, AGAIN], partition=1)
    streams.drain("events", *names)
    streams.send([late(minute) for minute in range(3, 6)])
    streams.drain("events", *names)
    streams.let_go_of_state()
    return streams


@pytest.fixture
def streams(
    written: Callable[[tuple[str, ...]], StreamsUnderTest], names: tuple[str, ...], tmp_path: Path
) -> StreamsUnderTest:
    """The same in a lakehouse of one's own."""
    return written(names).copy_to(tmp_path / "copy")


def replay_of(streams: StreamsUnderTest, scope: ReplayScope = ALL) -> KafkaReplay:
    """The replay, with the streams that have read along."""
    lakehouse = LakehouseResource(root=streams.context.lakehouse_root)
    derived = [
        s for s in map(STREAMS.__getitem__, NAMES) if DeltaTable.is_deltatable(lakehouse.table_uri(s.main_table.name))
    ]
    return KafkaReplay(EVENTS, streams.context, lakehouse, streams.kafka, derived, scope)


def compare(streams: StreamsUnderTest, scope: ReplayScope = ALL) -> Comparison:
    return replay_of(streams, scope).compare(streams.session)


def breaches(streams: StreamsUnderTest) -> tuple[str, ...]:
    return audit_stream(EVENTS, LakehouseResource(root=streams.context.lakehouse_root), streams.kafka).breaches


def damage(streams: StreamsUnderTest) -> tuple[int, int]:
    """Loses one of each three rows, and gives one another user, time and revenue; returns how many of each."""
    uri = streams.context.table_uri(EVENTS.main_table.name)
    present = pa.table(DeltaTable(uri).to_pyarrow_table()).sort_by("event_id")
    damaged = []
    for number, row in enumerate(present.to_pylist()):
        if number % 3 == 1:
            moved = row["event_time"] + timedelta(hours=number % 2)
            damaged.append({**row, "user_id": "u9", "event_time": moved, "revenue": row["revenue"] * 2})
        elif number % 3 == 2:
            damaged.append(row)
    write_deltalake(uri, pa.Table.from_pylist(damaged, present.schema), mode="overwrite", partition_by=["event_date"])
    lost = len(present) - len(damaged)
    return lost, sum(row["user_id"] == "u9" and not row["event_id"].startswith("late") for row in damaged)


@pytest.mark.release
@OF_ALL
def test_nothing_differs_where_nothing_happened(streams: StreamsUnderTest) -> None:
    found = compare(streams)
    assert (found.rows, found.differences, found.doubled) == (137, 0, 0)
    assert found.notes == ()
    topic = streams.topic
    assert replay_of(streams).describe() == f"rows of the records {topic}/0/0-83, {topic}/1/0-56"


def test_what_was_lost_and_changed_is_repaired(streams: StreamsUnderTest) -> None:
    right, topic = rows(streams, "events"), streams.topic
    lost, changed = damage(streams)
    damaged = rows(streams, "events")
    assert breaches(streams) != ()
    found = compare(streams, ReplayScope(offsets=(f"{topic}/0/0-1000", f"{topic}/1/0-1000")))
    assert (found.added, found.missing) == (lost, 0) and found.changed >= changed > 40
    assert rows(streams, "events") == damaged

    replay_of(streams, ReplayScope(since=datetime(2026, 3, 1, tzinfo=UTC))).swap(streams.session)
    assert rows(streams, "events") == right and breaches(streams) == ()
    lakehouse = LakehouseResource(root=streams.context.lakehouse_root)
    said = explain(load_streams(), lakehouse, streams.kafka, event_id="page_view1")
    assert "A replay has changed it since sessions read it: not repaired yet." in said


@pytest.mark.release
@OF_ALL
def test_gold_follows_a_swap_that_is_undone_and_one_that_is_not(streams: StreamsUnderTest) -> None:
    right = {name: rows(streams, name) for name in NAMES}
    damage(streams)
    damaged, replay = rows(streams, "events"), replay_of(streams)
    replay.swap(streams.session)
    replay.undo(streams.session)
    assert rows(streams, "events") == damaged
    with pytest.raises(NotReadyError, match="no finished swap"):
        replay.undo(streams.session)
    streams.drain("events", *NAMES)
    for name in NAMES:
        verdict = run_check(streams.session, Path(streams.context.lakehouse_root), name)
        assert verdict.passed and rows(streams, name) != right[name], verdict.description

    replay_of(streams).swap(streams.session)
    streams.drain("events", *NAMES)
    for name in NAMES:
        prove_sound(streams, name)
        assert rows(streams, name) == right[name]


@pytest.mark.release
@OF_ALL
def test_rows_that_come_back_are_not_read_a_second_time(streams: StreamsUnderTest) -> None:
    right = {name: rows(streams, name) for name in ("events", *NAMES)}
    DeltaTable(streams.context.table_uri("silver.events")).delete("kafka_offset < 20")
    found = compare(streams)
    assert (found.added, found.missing, found.changed) == (40, 0, 0)
    replay_of(streams).swap(streams.session)
    streams.drain("events", *NAMES)
    for name in NAMES:
        prove_sound(streams, name)
    assert {name: rows(streams, name) for name in right} == right


@pytest.mark.release
@OF_ALL
def test_a_part_by_offsets_or_by_time(streams: StreamsUnderTest) -> None:
    damage(streams)
    topic, everything = streams.topic, compare(streams)
    halves = (f"{topic}/0/0-40",), (f"{topic}/0/40-1000", f"{topic}/1/0-1000")
    parts = [compare(streams, ReplayScope(offsets=offsets)) for offsets in halves]
    assert sum(part.added for part in parts) == everything.added
    assert sum(part.changed for part in parts) == everything.changed
    assert sum(part.rows for part in parts) == everything.rows
    assert min(part.differences for part in parts) > 0

    early = datetime(2026, 3, 1, tzinfo=UTC)
    assert compare(streams, ReplayScope(since=early)).differences == everything.differences
    with pytest.raises(UsageError, match=f"nothing to replay.*has read {topic}/0/0-83, {topic}/1/0-56"):
        compare(streams, ReplayScope(since=datetime.now(UTC) + timedelta(hours=1)))


@pytest.mark.parametrize(
    ("offsets", "said"),
    [
        ("nonsense", "must be topic/partition/from-until"),
        ("{topic}/0/1", "must be topic/partition/from-until"),
        ("other/0/0-10", "the stream reads"),
        ("{topic}/7/0-10", r"partitions \[0, 1\]"),
        ("{topic}/0/500-600", "nothing to replay"),
    ],
)
def test_offsets_that_mean_nothing_are_refused(streams: StreamsUnderTest, offsets: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        compare(streams, ReplayScope(offsets=(offsets.format(topic=streams.topic),)))


@pytest.mark.release
@OF_ALL
def test_what_would_be_refused_now_stays_and_is_said(streams: StreamsUnderTest) -> None:
    before = rows(streams, "events")
    stricter = replace(streams, context=replace(streams.context, max_record_bytes=150))
    found = compare(stricter)
    assert found.differences == 0 and found.rows < 137
    assert f"{137 - found.rows} accepted records would be refused now (oversized): they stay." in found.notes
    replay_of(stricter).swap(streams.session)
    assert rows(streams, "events") == before


@pytest.mark.release
@OF_ALL
def test_who_is_forgotten_and_what_was_a_repetition_does_not_come_back(streams: StreamsUnderTest) -> None:
    for name in ("silver.events", "silver.deduplicated_events", "silver.quarantined_events"):
        DeltaTable(streams.context.table_uri(name)).delete()
    Register(streams.context).write("u3", new_row("a test", "", datetime.now(UTC)))
    found = compare(streams)
    replay_of(streams).swap(streams.session)
    present = streams.rows("silver.events", "from t order by event_id")
    ids = [row["event_id"] for row in present]
    assert found.added == len(ids) == len(set(ids)) == 137 - sum("u3" in event.decode() for event in _all_events())
    assert "u3" not in {row["user_id"] for row in present}
    # The first of the two came in partition 0.
    assert {row["kafka_partition"] for row in present if row["event_id"] == "page_view3"} <= {0}
    assert any("other records are in no table" in note for note in found.notes)


def _all_events() -> list[bytes]:
    return [*build_events(range(100)), *(late(minute) for minute in range(3, 6))]


@pytest.mark.release
@OF_ALL
def test_rows_that_are_there_twice_are_refused(streams: StreamsUnderTest) -> None:
    uri = streams.context.table_uri("silver.events")
    write_deltalake(uri, DeltaTable(uri).to_pyarrow_table().slice(0, 7), mode="append")
    assert compare(streams).doubled == 7
    with pytest.raises(UsageError, match="7 rows more than once"):
        replay_of(streams).swap(streams.session)


@pytest.fixture
def own(spark: Any, kafka: KafkaResource, tmp_path: Path) -> StreamsUnderTest:
    """A topic and a lakehouse of one's own, both empty."""
    topic = f"kafka-replay-{tmp_path.name}"
    ensure_topic(kafka, topic, 1)
    settings = Settings(home=tmp_path / "home", kafka_bootstrap_servers="", publish=False)
    lakehouse = LakehouseResource(root=str(tmp_path / "lakehouse"))
    return StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic)


@pytest.mark.release
def test_what_kafka_has_deleted_is_named(own: StreamsUnderTest) -> None:
    topic = own.topic
    with pytest.raises(UsageError, match="has read nothing yet"):
        compare(own)
    own.send(build_events(range(9)))
    own.drain("events")
    for future in own.kafka.admin().delete_records([TopicPartition(topic, 0, 4)]).values():
        future.result(30)
    assert compare(own).rows == 8
    with pytest.raises(UsageError, match=f"Kafka holds {topic}/0 from offset 4 on"):
        compare(own, ReplayScope(offsets=(f"{topic}/0/0-8",)))


@pytest.mark.release
def test_an_event_that_is_changed_and_then_found_late_is_repaired(own: StreamsUnderTest) -> None:
    own.send(build_events(range(100)))
    own.drain("events", "sessions")
    own.send([late(minute) for minute in range(3, 6)])
    own.drain("events")
    damage(own)
    replay_of(own).swap(own.session)
    own.drain("events", "sessions")
    listed = own.rows("platform.late_events", "from t where event_id like 'late%' and repaired_at is not null")
    assert {row["event_id"] for row in listed if row["source_version"] is None} == {"late3", "late4", "late5"}
    assert {row["event_id"] for row in listed if row["source_version"] is not None} != set()
    prove_sound(own, "sessions")


@pytest.mark.release
def test_it_may_be_cut_short_anywhere(
    streams: StreamsUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Called again it comes to the same end: the swap, and then its undoing."""
    damage(streams)
    damaged = rows(streams, "events")
    steps = Steps(monkeypatch, {DeltaWriter: ("put", "replace"), Folder: ("write_file", "remove")})
    for action, expected_cuts in (("swap", 5), ("undo", 4)):
        do = getattr(replay_of(streams), action)
        root, into = Path(streams.context.lakehouse_root), tmp_path / action
        cuts = [streams.at(copy) for copy in steps.copy_before_each(root, into, partial(do, streams.session))]
        assert len(cuts) == expected_cuts
        end = rows(streams, "events")
        assert (end == damaged) == (action == "undo")
        for cut in cuts:
            replay = replay_of(cut)
            getattr(replay, action)(cut.session)
            assert rows(cut, "events") == end and not replay.is_half_done()
            expect_repairs_by_the_newest_version(cut)


def expect_repairs_by_the_newest_version(streams: StreamsUnderTest) -> None:
    late = DeltaTable(streams.context.table_uri("platform.late_events")).to_pyarrow_table()
    waiting = late.filter(pc.field("source_version").is_valid() & pc.field("repaired_at").is_null())
    versions = waiting.filter(pc.field("query") == NAMES[0])["source_version"]
    assert pc.max(versions).as_py() == streams.version("silver.events")
