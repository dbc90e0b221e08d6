"""When rows became readable in `silver.events`: from the log's files, so that measuring costs the writer nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class Commit:
    """One version of the table: when its log file came into being (seconds since the epoch), and the files it added."""

    version: int
    at: float
    files: tuple[Path, ...]


def read_commits(table: Path) -> Iterator[Commit]:
    """The commits that added rows, oldest first. A version is readable from the moment its log file exists."""
    for log in sorted((table / "_delta_log").glob("[0-9]*.json")):
        actions = [json.loads(line) for line in log.read_text().splitlines()]
        files = tuple(table / action["add"]["path"] for action in actions if "add" in action)
        if files:
            yield Commit(int(log.stem), log.stat().st_mtime, files)


def read_latencies(commits: list[Commit]) -> npt.NDArray[np.float64]:
    """Seconds from each row's event time to the moment at which it could be read."""
    import numpy as np
    import pyarrow.parquet as pq

    found = [
        commit.at - pq.read_table(file, columns=["event_time"])["event_time"].cast("int64").to_numpy() / 1e6
        for commit in commits
        for file in commit.files
    ]
    return np.concatenate(found) if found else np.empty(0)
