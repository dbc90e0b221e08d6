"""A checkpoint is read as files, with no Spark."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from platform_assets.errors import CheckpointMismatchError
from platform_assets.folders import Folder
from platform_assets.streaming.checkpoint.checkpoint import Checkpoint, OffsetRange, Plan, PlannedBatch

MILLIS = 1_790_000_000_000


def write_plan(place: Path, batch_id: int, source: object, watermark_millis: int = 0) -> None:
    """Writes a plan as Spark 4.2 does: a version, the batch's metadata, and one line a source."""
    metadata = {"batchWatermarkMs": watermark_millis, "batchTimestampMs": MILLIS + batch_id, "conf": {}}
    log = place / "offsets"
    log.mkdir(parents=True, exist_ok=True)
    (log / str(batch_id)).write_text(f"v1\n{json.dumps(metadata)}\n{json.dumps(source)}\n")
    (log / f".{batch_id}.crc").write_bytes(b"crc")


def write_commit(place: Path, batch_id: int) -> None:
    (place / "commits").mkdir(parents=True, exist_ok=True)
    (place / "commits" / str(batch_id)).write_text("v1\n{}")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The checkpoint of a query over Kafka that has done two batches and has planned a third."""
    place = tmp_path / "checkpoint"
    (place / "sources" / "0").mkdir(parents=True)
    (place / "sources" / "0" / "0").write_bytes(b'\0v1\n{"t":{"0":5}}')
    (place / "metadata").write_text('{"id":"one-life"}')
    for batch_id, offsets in enumerate(({"0": 7}, {"0": 7, "1": 3}, {"0": 9, "1": 3})):
        write_plan(place, batch_id, {"t": offsets}, watermark_millis=batch_id * 1000)
    write_commit(place, 0)
    write_commit(place, 1)
    return place


@pytest.fixture
def checkpoint(place: Path) -> Checkpoint:
    return Checkpoint(Folder(str(place)))


def test_a_checkpoint_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    empty = Checkpoint(Folder(str(tmp_path / "nowhere")))
    assert empty.read_generation() is None
    assert empty.list_planned_batches() == []
    assert empty.read_last_committed_batch() is None
    assert empty.read_last_plan() is None
    assert empty.find_unfinished_batch() is None
    assert empty.read_next_offsets() is None


def test_generation_names_the_transactions(checkpoint: Checkpoint) -> None:
    assert checkpoint.read_generation() == "one-life"
    assert checkpoint.read_txn_app_id("events") == "headrace/events/one-life"


def test_ranges_go_from_the_batch_before_or_the_first_offsets(checkpoint: Checkpoint) -> None:
    micros = MILLIS * 1000
    assert checkpoint.read_planned_batch(0) == PlannedBatch(0, micros, (OffsetRange("t", 0, 5, 7),))
    # Partition 1 was added: it is read from its first offset.
    added = (OffsetRange("t", 0, 7, 7), OffsetRange("t", 1, 0, 3))
    assert checkpoint.read_planned_batch(1) == PlannedBatch(1, micros + 1000, added)


def test_the_last_plan_is_of_the_last_batch_that_is_done(checkpoint: Checkpoint) -> None:
    assert checkpoint.list_planned_batches() == [0, 1, 2]
    assert checkpoint.read_last_plan() == (1, Plan((MILLIS + 1) * 1000, 1_000_000, {"t": {"0": 7, "1": 3}}))


def test_an_unfinished_batch_is_read_again_from_its_beginning(checkpoint: Checkpoint, place: Path) -> None:
    unfinished = checkpoint.find_unfinished_batch()
    assert unfinished is not None and unfinished.batch_id == 2
    assert checkpoint.read_next_offsets() == {"t": {0: 7, 1: 3}}
    write_commit(place, 2)
    assert checkpoint.find_unfinished_batch() is None
    assert checkpoint.read_next_offsets() == {"t": {0: 9, 1: 3}}


def test_a_forgotten_plan_leaves_no_checksum_by_which_the_next_one_is_refused(
    checkpoint: Checkpoint, place: Path
) -> None:
    checkpoint.forget_plan(2)
    assert sorted(path.name for path in (place / "offsets").iterdir()) == [".0.crc", ".1.crc", "0", "1"]


def test_own_text_is_written_whole_and_without_an_older_checksum(checkpoint: Checkpoint, place: Path) -> None:
    (place / ".ours.json.crc").write_bytes(b"crc")
    checkpoint.write_text("ours.json", "{}")
    assert checkpoint.read_text("ours.json") == "{}"
    assert sorted(path.name for path in place.iterdir() if path.is_file()) == ["metadata", "ours.json"]


@pytest.mark.parametrize(("missing", "asked"), [("offsets/2", 2), ("offsets/1", 2), ("sources/0/0", 0)])
def test_an_incomplete_checkpoint_is_named(checkpoint: Checkpoint, place: Path, missing: str, asked: int) -> None:
    (place / missing).unlink()
    with pytest.raises(CheckpointMismatchError, match=str(place)):
        checkpoint.read_planned_batch(asked)
