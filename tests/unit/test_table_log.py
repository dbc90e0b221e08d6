"""What versions of a Delta table changed, by its log: each action as the protocol has it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from platform_assets.errors import TableSchemaError
from platform_assets.sinks.table_log import LogGapError, Step, TableLog

METADATA = {"metaData": {"id": "the-table", "configuration": {}}}


def add(path: str, *, data_change: bool = True, **more: Any) -> dict[str, Any]:
    return {"add": {"path": path, "size": 10, "partitionValues": {}, "dataChange": data_change, **more}}


def remove(path: str, *, data_change: bool = True) -> dict[str, Any]:
    return {"remove": {"path": path, "dataChange": data_change}}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., TableLog]:
    """Writes a log with these commits."""

    def write_commits(*commits: list[dict[str, Any]]) -> TableLog:
        folder = tmp_path / "_delta_log"
        folder.mkdir()
        for version, actions in enumerate(commits):
            lines = [{"commitInfo": {"timestamp": 1_000 * version}}, *actions]
            text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
            (folder / f"{version:020d}.json").write_text(text)
        return TableLog("gold.t", str(tmp_path), {})

    return write_commits


def read_step(log: TableLog, after: int) -> Step | None:
    digest = log.read_digest(after)
    assert digest is not None
    return log.read_step(after, digest, "the-table")


def list_paths(step: Step | None) -> tuple[int, list[str], list[str]]:
    assert step is not None
    return step.version, [file.path for file in step.added], [file.path for file in step.removed]


def test_a_file_that_came_and_went_is_in_neither_list(write: Callable[..., TableLog]) -> None:
    log = write([METADATA], [add("a"), add("b")], [remove("a"), add("c")], [remove("b"), add("a")], [remove("c")])
    assert list_paths(read_step(log, 0)) == (4, ["a"], [])
    assert list_paths(read_step(log, 1)) == (4, [], ["b"])
    assert read_step(log, 4) is None


def test_a_compaction_is_passed_over_at_the_beginning_and_ends_a_step_elsewhere(write: Callable[..., TableLog]) -> None:
    rewrite = [remove("a", data_change=False), remove("b", data_change=False), add("ab", data_change=False)]
    log = write([METADATA], [add("a")], [add("b")], rewrite, [remove("ab"), add("c")])
    assert list_paths(read_step(log, 0)) == (2, ["a", "b"], [])
    assert list_paths(read_step(log, 2)) == (4, ["c"], ["ab"])


def test_partitions_are_read_of_an_action_or_of_its_path(write: Callable[..., TableLog]) -> None:
    log = write(
        [METADATA],
        [remove("day=2026-01-01/note=a%2520b/x.parquet"), add("y", partitionValues={"day": None})],
    )
    step = read_step(log, 0)
    assert step is not None
    assert [dict(file.partition) for file in (*step.removed, *step.added)] == [
        {"day": "2026-01-01", "note": "a b"}, {"day": None},
    ]  # fmt: skip


def test_signs_that_end_a_line_elsewhere_end_none_of_a_log(write: Callable[..., TableLog]) -> None:
    log = write([METADATA], [add("a", stats='{"maxValues": {"text": "\u2028\u0085\x1c"}}')])
    assert list_paths(read_step(log, 0)) == (1, ["a"], [])


@pytest.mark.parametrize(
    ("commit", "said"),
    [
        ([add("a", deletionVector={"storageType": "u"})], "has deletion vectors, which sinks, alerts and publishers"),
        (
            [{"metaData": {"id": "the-table", "configuration": {"delta.columnMapping.mode": "name"}}}],
            "maps its columns",
        ),
    ],
)
def test_what_files_do_not_say_is_refused(
    commit: list[dict[str, Any]], said: str, write: Callable[..., TableLog]
) -> None:
    with pytest.raises(TableSchemaError, match=said):
        read_step(write([METADATA], commit), 0)


def test_another_table_is_a_gap(write: Callable[..., TableLog]) -> None:
    log = write([METADATA], [add("a")], [{"metaData": {"id": "another", "configuration": {}}}])
    with pytest.raises(LogGapError, match="is another table"):
        read_step(log, 0)
    with pytest.raises(LogGapError, match="is another table"):
        log.read_step(0, "another commit", "the-table")
    with pytest.raises(LogGapError, match=r"has no version 7"):
        log.demand_followed(7, "any")
