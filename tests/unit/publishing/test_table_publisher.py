"""A published table: each version once for readers of committed records, whatever is killed, by a real broker."""

from __future__ import annotations

import io
import json
import logging
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pytest
from deltalake import CommitProperties

from jobs.supervision.publish_target import Registrar
from platform_assets.errors import BrokerUnavailableError, GroupOwnedError
from platform_assets.publishing.publish_group import PublishGroup
from platform_assets.sinks.table_log import LogGapError
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.formats.registered_schema import SchemaTarget
from platform_assets.streaming.stream_spec import name_publisher
from resources.registry.schema_registry import SchemaRegistry
from resources.settings import Settings
from tests.unit.publishing.published_table import PublishedTable, build_stream
from tests.unit.sinks.sunk_table import FULL_ROW, build_row, wait_for

ROOT = Path(__file__).parents[3]


def numbers(published: PublishedTable) -> list[tuple[str, int, bool]]:
    """(version, number of the row, whether a row is there) of all records, in the order of the versions."""
    found = [(r.headers["version"], json.loads(r.key)["number"], r.value is not None) for r in published.read()]
    return sorted(found, key=lambda each: (int(each[0]), each[1]))


def test_each_version_is_published_once_with_what_it_changed(published: PublishedTable) -> None:
    table, publisher = published.table, published.open_publisher()
    assert publisher.advance() is False, "there is no table yet"
    table.append([{**FULL_ROW, "sums": {"a": 1e300}}, build_row(2)])
    published.follow(publisher)
    table.append([build_row(3, amount=0.5), build_row(4)])
    table.upsert([build_row(3, amount=1.5), build_row(5)])
    table.delete([4])
    table.compact()
    table.upsert([build_row(5), build_row(2)])  # as they are already
    published.follow(publisher)
    assert numbers(published) == [
        ("1", 1, True), ("1", 2, True), ("2", 3, True), ("2", 4, True), ("3", 3, True), ("3", 5, True), ("4", 4, False),
    ]  # fmt: skip
    assert {record.headers["query"] for record in published.read()} == {"published_rows"}
    published.demand_exact()
    assert publisher.version == table.open_table().version()
    before = published.read()
    published.follow()  # another process, which goes on where the first one was
    assert published.read() == before


def test_a_header_says_which_batch_or_why(published: PublishedTable) -> None:
    table = published.table
    table.append([build_row(1), build_row(2), build_row(3), build_row(4)])
    publisher = published.follow()
    for info, number in (
        (CommitInfo.of_batch("published_rows", "app", 17), 1),
        (CommitInfo(CommitKind.REPAIR, "published_rows"), 2),
        (CommitInfo(CommitKind.ERASURE, "hash"), 3),
        (CommitInfo(CommitKind.EXPIRY, "2026-01-02"), 4),
    ):
        metadata = CommitProperties(custom_metadata={"userMetadata": info.as_json()})
        table.open_table().delete(f"number = {number}", commit_properties=metadata)
    published.follow(publisher)
    gone = {json.loads(r.key)["number"]: r.headers["batch"] for r in published.read() if r.value is None}
    assert gone == {1: "17", 2: "repair", 3: "erasure"}, "rows that have expired stay in the topic"


def test_a_whole_table_is_published_in_portions(published: PublishedTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform_assets.sinks.table_version._PORTION_BYTES", 1)
    for number in range(5):
        published.table.append([build_row(number)])
    publisher = published.open_publisher()
    assert [publisher.advance() for _ in range(4)] == [True] * 4
    assert len(published.read()) == 3 and publisher.version is None
    published.table.append([build_row(9)])
    published.follow()
    assert sorted(Counter(record.headers["batch"] for record in published.read()).items()) == [
        ("other", 1),
        ("whole", 5),
    ]
    published.demand_exact()


def test_of_two_publishers_kafka_lets_the_newer_one_write(published: PublishedTable) -> None:
    published.table.append([build_row(0)])
    first = published.follow()
    second = published.follow()
    refused = 0
    for number in range(1, 5):
        published.table.append([build_row(number)])
        for each in (first, second) if number % 2 else (second, first):
            try:
                published.follow(each)
            except BrokerUnavailableError:
                refused += 1
    assert refused >= 3
    published.follow(first)
    published.demand_exact()
    assert len(published.read()) == 5


def test_a_topic_that_was_published_before_is_gone_on_with(
    published: PublishedTable, caplog: pytest.LogCaptureFixture
) -> None:
    producer = published.kafka.producer()
    producer.produce(published.topic, b"{}", b"by an earlier setting")
    producer.flush(30)
    published.table.append([build_row(1)])
    publisher = published.follow()
    assert "begins behind version 1" in caplog.text
    published.table.append([build_row(2)])
    published.follow(publisher)
    assert [json.loads(r.key)["number"] for r in published.read() if r.headers] == [2]


def test_what_the_log_no_longer_says_is_sent_as_a_whole(
    published: PublishedTable, caplog: pytest.LogCaptureFixture
) -> None:
    published.table.append([build_row(1)])
    published.follow()
    published.table.append([build_row(2)])
    published.table.append([build_row(3)])
    published.table.cut_log()
    publisher = published.follow()
    assert "All its rows are sent to" in caplog.text
    assert Counter(number for _, number, _ in numbers(published)) == {1: 2, 2: 1, 3: 1}
    published.table.append([build_row(4)])
    published.table.append([build_row(5)])
    published.table.cut_log()
    publisher.close()  # as after an error, or where the log is listed next
    with pytest.raises(LogGapError, match="cannot be published"):
        published.follow(publisher)


def test_nothing_is_committed_under_a_lost_lease(published: PublishedTable) -> None:
    published.table.append([build_row(1)])
    published.follow()
    published.table.append([build_row(2)])

    def refuse() -> None:
        raise GroupOwnedError("Another host has taken over.")

    with pytest.raises(GroupOwnedError):
        published.follow(published.open_publisher(check_lease=refuse))
    assert len(published.read()) == 1
    published.follow()
    assert len(published.read()) == 2


def test_a_position_that_nobody_can_read_is_named(published: PublishedTable) -> None:
    producer = published.kafka.producer()
    producer.produce("headrace-published-positions", b"no position", published.topic.encode(), 0)
    producer.flush(30)
    with pytest.raises(BrokerUnavailableError, match="is no position"):
        published.open_publisher().advance()
    producer.produce("headrace-published-positions", None, published.topic.encode(), 0)
    producer.flush(30)
    published.table.append([build_row(1)])
    published.follow()
    published.demand_exact()


def test_a_group_publishes_and_says_how_far_it_is(
    published: PublishedTable, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    stream = build_stream(published.topic)
    published.table.append([build_row(1, at=datetime(2026, 1, 1, tzinfo=UTC))])
    group = PublishGroup([stream], settings, published.kafka, published.table.lakehouse, None)
    group.start(bounded=True)
    wait_for(group.is_finished, "all is published")
    group.stop(10.0)
    found = group.progress()[name_publisher(stream)]
    assert found.sink is not None and (found.sink.version, found.sink.rows, found.sink.trouble) == (1, 1, "")
    published.demand_exact()


@pytest.mark.long
def test_values_may_be_of_a_registry(published: PublishedTable, schema_registry: SchemaRegistry) -> None:
    published.table.append([build_row(1, text="one", tags=["a", None]), build_row(2)])
    published.table.append([build_row(3, money=Decimal("0.07"))])
    published.follow(published.open_publisher(target=SchemaTarget("avro", Registrar(schema_registry, "BACKWARD"))))
    newest = schema_registry.newest(f"{published.topic}-value")
    assert newest is not None
    rows = {}
    for record in published.read():
        value = (record.value or "").encode(errors="surrogateescape")
        assert value[:5] == b"\0" + newest.schema.schema_id.to_bytes(4, "big")
        row: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), json.loads(newest.schema.text))
        rows[row["number"]] = row["text"], row["tags"], row["money"]
    assert rows == {1: ("one", ["a", None], None), 2: (None, None, None), 3: (None, None, Decimal("0.07"))}


@pytest.mark.long
@pytest.mark.parametrize(("step", "count"), [("begun", 2), ("produce", 4), ("commit", 2), ("committed", 2)])
def test_a_publisher_that_is_killed_publishes_each_row_once(
    published: PublishedTable, tmp_path: Path, step: str, count: int
) -> None:
    """First while it sends the whole table, then while it follows."""
    table = published.table
    table.append([build_row(number) for number in range(6)])
    assert table.lakehouse.root
    command = [sys.executable, "-m", "tests.unit.publishing.publish_process"]
    arguments = [table.lakehouse.root, published.kafka.servers(), published.topic, str(tmp_path)]
    for turn in range(2):
        killed = subprocess.run([*command, *arguments, step, str(count)], cwd=ROOT, timeout=120, check=False)
        assert killed.returncode == -signal.SIGKILL
        table.append([build_row(100 * turn + number) for number in range(100, 106)])
        table.upsert([build_row(turn, amount=float(turn)), build_row(100 * turn + 100, text="new")])
        table.delete([100 * turn + 101])
    published.follow()
    published.demand_exact()
