"""What the embedded broker is started with."""

from __future__ import annotations

import random
import shutil
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest

from resources.embedded.broker_configuration import (
    find_partition_bytes,
    new_cluster_id,
    server_properties,
    write_launch_file,
)


def test_cluster_id_never_looks_like_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    source = random.Random(7)
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=source.getrandbits(128)))
    identifiers = {new_cluster_id() for _ in range(500)}
    assert len(identifiers) == 500
    assert all(len(identifier) == 22 and not identifier.startswith("-") for identifier in identifiers)


def test_broker_listens_on_the_loopback_interface_only() -> None:
    properties = server_properties(Path("/home/broker"), 9092, 9093, 5)
    addresses = [listener.split("://")[1] for listener in properties["listeners"].split(",")]
    assert addresses == ["127.0.0.1:9092", "127.0.0.1:9093"]
    assert properties["auto.create.topics.enable"] == "false"
    assert int(properties["message.max.bytes"]) >= 8 * 1024 * 1024
    assert properties["log.retention.bytes"] == "5"
    assert int(properties["replica.fetch.max.bytes"]) >= int(properties["message.max.bytes"])


SEGMENT = 256 * 1024 * 1024


@pytest.mark.parametrize(
    ("free", "partitions", "kept"),
    [
        (240 * SEGMENT, 3, 9 * SEGMENT),  # a twelfth of the half, without the segment that is written to
        (240 * SEGMENT, 40, 2 * SEGMENT),
        (2 * SEGMENT, 3, SEGMENT),
    ],
)
def test_partitions_share_half_of_what_the_disk_has_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, partitions: int, kept: int
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    for number in range(partitions):
        (tmp_path / "data" / f"shop-events-{number}").mkdir(parents=True)
    (tmp_path / "data" / "__consumer_offsets-0").mkdir()
    assert find_partition_bytes(tmp_path) == pytest.approx(kept, rel=0.001)
    write_launch_file(tmp_path, 9092, 9093)
    lines = (tmp_path / "server.properties").read_text().splitlines()
    assert f"log.retention.bytes={find_partition_bytes(tmp_path)}" in lines
    write_launch_file(tmp_path, 9092, 9093, 7)
    assert "log.retention.bytes=7" in (tmp_path / "server.properties").read_text().splitlines()


def test_what_the_broker_holds_counts_as_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its share would otherwise shrink with every start, and delete what it has written before."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=240 * SEGMENT))
    (tmp_path / "data" / "shop-events-0").mkdir(parents=True)
    before = find_partition_bytes(tmp_path)
    (tmp_path / "data" / "shop-events-0" / "0.log").write_bytes(b"x" * 24 * 1024 * 1024)
    assert find_partition_bytes(tmp_path) - before == pytest.approx(1024 * 1024, rel=0.05)


def test_a_start_deletes_nothing_that_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resources.embedded.broker_configuration._SEGMENT_BYTES", 4096)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    for number, size in enumerate((1024 * 1024, 3 * 1024 * 1024)):
        folder = tmp_path / "data" / f"shop-events-{number}"
        folder.mkdir(parents=True)
        (folder / "0.log").write_bytes(b"x" * size)
    assert find_partition_bytes(tmp_path) >= 3 * 1024 * 1024
