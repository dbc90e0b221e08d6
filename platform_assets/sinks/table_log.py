"""What the versions of a Delta table added and removed, file by file, as a sink follows them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from platform_assets.errors import NotReadyError, TableSchemaError
from platform_assets.streaming.delta.commit_info import CommitInfo
from platform_assets.streaming.delta.commit_log import CommitLog

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

# A transaction of Postgres holds what it has deleted and inserted until its end, and is done whole again after a kill.
_MOST_BYTES = 64 * 1024 * 1024
_MOST_COMMITS = 1_000


class LogGapError(NotReadyError):
    """Versions that a sink has not applied cannot be followed: the text says why. Its table is then loaded anew."""


@dataclass(frozen=True)
class DataFile:
    """One Parquet file of the table. `partition` has the values of columns that the file itself does not hold."""

    path: str
    size_bytes: int
    partition: Mapping[str, str | None]


@dataclass(frozen=True)
class Step:
    """Versions of a table, put together: files of the last one that the first one's predecessor had not, and reversed.

    `version` is the last one, `digest` stands for its commit, and `committed_at` is when that was made.
    `first_committed_at`: the first one.
    """

    version: int
    digest: str
    added: tuple[DataFile, ...]
    removed: tuple[DataFile, ...]
    first_committed_at: datetime
    committed_at: datetime


class TableLog:
    """The log of one table. Its methods may be called from any thread, and raise what the disk or the store raises."""

    def __init__(self, name: str, uri: str, storage_options: Mapping[str, str]) -> None:
        self._name = name
        self._log = CommitLog(uri, "", storage_options)

    @property
    def files(self) -> FileSystem:
        """The table's folder."""
        return self._log.filesystem

    def read_bounds(self) -> tuple[int, int] | None:
        """The oldest version whose commit the log holds, and the newest; None where there is no table."""
        try:
            return self._log.oldest_version(), self._log.newest_version()
        except (FileNotFoundError, ValueError):  # no folder, or one without a commit
            return None

    def read_digest(self, version: int) -> str | None:
        """What stands for the commit of this version, and for no other's; None when the log does not hold it."""
        actions = self._log.read_actions(version)
        return None if actions is None else _digest(actions)

    def read_time(self, version: int) -> datetime | None:
        """When this version was committed; None as in `read_digest`."""
        actions = self._log.read_actions(version)
        return None if actions is None else _read_time(actions)

    def read_info(self, version: int) -> CommitInfo | None:
        """What Headrace has written into the commit of this version; None for another writer's, and as above."""
        actions = self._log.read_actions(version) or []
        info: dict[str, Any] = next((a["commitInfo"] for a in actions if "commitInfo" in a), {})
        return CommitInfo.parse(info.get("userMetadata"))

    def demand_followed(self, version: int, digest: str) -> None:
        """Raises `LogGapError` when the versions after this one cannot be followed, or it is not this table's."""
        bounds = self.read_bounds()
        if bounds is None:
            raise LogGapError(f"{self._name} is gone")
        oldest, newest = bounds
        self._demand_same(version, digest)
        if newest < version:
            raise LogGapError(f"{self._name} has no version {version} any more")
        if oldest > version + 1:
            raise LogGapError(f"the log of {self._name} no longer holds version {version + 1}")

    def _demand_same(self, version: int, digest: str) -> None:
        actions = self._log.read_actions(version)
        if actions is not None and _digest(actions) != digest:
            raise LogGapError(f"{self._name} is another table, or was put back to an older state")

    def read_step(self, after: int, digest: str, table_id: str, until: int | None = None) -> Step | None:
        """What the next versions changed, as many as one transaction takes; None while there is no later version.

        `digest` is that of the commit `after`. `until` is the last version that may be among them.

        A file that came and went within them is in neither list. A compaction, which changes no row, can only be at
        the beginning: what it has replaced is then in the database already. Raises `LogGapError` for another table,
        `TableSchemaError` for one whose files do not hold its rows.
        """
        added: dict[str, DataFile] = {}
        removed: dict[str, DataFile] = {}
        times: list[datetime] = []
        version, size = after, 0
        last = after + _MOST_COMMITS if until is None else min(until, after + _MOST_COMMITS)
        while size < _MOST_BYTES and version < last:
            actions = self._log.read_actions(version + 1)
            if actions is None or ((added or removed) and _rearranges(actions)):
                break
            if version == after:  # a table that was made anew may have come as far meanwhile
                self._demand_same(after, digest)
            version, digest = version + 1, _digest(actions)
            times.append(_read_time(actions))
            self._demand_plain(actions, table_id)
            for action in actions:
                size += self._take(action, added, removed)
        if version == after:
            return None
        return Step(version, digest, tuple(added.values()), tuple(removed.values()), times[0], times[-1])

    def _take(self, action: Mapping[str, Any], added: dict[str, DataFile], removed: dict[str, DataFile]) -> int:
        """Notes one action; returns the bytes that it adds to what must be read."""
        kind = next((kind for kind in ("add", "remove") if kind in action), None)
        if kind is None or not action[kind].get("dataChange", True):
            return 0
        body = action[kind]
        # Of an older writer's `remove` the log has no partition: it is part of the path then.
        partition = body.get("partitionValues") or _read_partition(unquote(body["path"]))
        file = DataFile(unquote(body["path"]), int(body.get("size") or 0), partition)
        here, there = (added, removed) if kind == "add" else (removed, added)
        if there.pop(file.path, None) is None:
            here[file.path] = file
        return file.size_bytes

    def _demand_plain(self, actions: list[dict[str, Any]], table_id: str) -> None:
        for action in actions:
            if "metaData" in action:
                if action["metaData"]["id"] != table_id:
                    raise LogGapError(f"{self._name} is another table")
                if (action["metaData"].get("configuration") or {}).get("delta.columnMapping.mode", "none") != "none":
                    raise TableSchemaError(
                        f"{self._name} maps its columns (delta.columnMapping.mode), which sinks, alerts and "
                        "publishers do not read. Make it anew without that."
                    )
            if (action.get("add") or {}).get("deletionVector"):
                raise TableSchemaError(
                    f"{self._name} has deletion vectors, which sinks, alerts and publishers do not read. Set "
                    "delta.enableDeletionVectors to false, and run REORG TABLE ... APPLY (PURGE)."
                )


def _rearranges(actions: list[dict[str, Any]]) -> bool:
    """Whether the commit has files whose rows were there before, as that of a compaction."""
    return any(not body.get("dataChange", True) for a in actions for kind in ("add", "remove") if (body := a.get(kind)))


def _digest(actions: list[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(actions, sort_keys=True).encode()).hexdigest()[:32]


def _read_time(actions: list[dict[str, Any]]) -> datetime:
    """The commit's own time; the protocol leaves it to the writer whether there is one."""
    millis = next((a["commitInfo"].get("timestamp") for a in actions if "commitInfo" in a), None)
    return datetime.now(UTC) if millis is None else datetime.fromtimestamp(int(millis) / 1000, UTC)


def _read_partition(path: str) -> dict[str, str | None]:
    pairs = (folder.partition("=") for folder in path.split("/")[:-1])
    return {name: None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value) for name, _, value in pairs if name}
