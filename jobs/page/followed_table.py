"""Follows the log of a table: a look costs one question for the next commit's file, however large the table is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from platform_assets.streaming.delta.commit_log import CommitLog

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo

# A table that was dropped and created anew counts from 0 again: its next commit would never be found. Its old one is
# gone, or of another time.
_PROVE_SECONDS = 30.0
# Upkeep removes old commits. Who has not looked for longer than this may find no next one, though there are newer ones.
_PAUSE_SECONDS = 60.0
# A log is listed in a second where it has a hundred thousand files: a table that is not there is not asked for often.
_ABSENT_SECONDS = 5.0


class FollowedTable:
    """One table's newest version, and when it was committed (the time of the commit's file).

    `version` and `committed_at` are None while there is no table. `generation` rises when the versions that were seen
    before say nothing about the current ones: the table is another one. `was_there` stays once it was seen. From one
    thread at a time.
    """

    def __init__(self, uri: str, storage_options: Mapping[str, str], time_column: str = "") -> None:
        self.log = CommitLog(uri, time_column, storage_options)
        self.version: int | None = None
        self.committed_at: datetime | None = None
        self.generation = 0
        self.was_there = False
        self._looked_at = self._proved_at = -_ABSENT_SECONDS

    def look(self) -> None:
        """Finds the versions since the last look. Raises `OSError` where the disk or the store does not answer."""
        now = time.monotonic()
        if self.version is None:
            if now - self._looked_at >= _ABSENT_SECONDS:
                self._looked_at = self._proved_at = now
                self._find_newest()
            return
        pause, self._looked_at = now - self._looked_at, now
        if pause > _PAUSE_SECONDS or now - self._proved_at >= _PROVE_SECONDS:
            is_same = self._is_same()
            self._proved_at = now
            if pause > _PAUSE_SECONDS or not is_same:
                if not is_same:
                    self.generation += 1
                self._find_newest()
                return
        while (found := self._find(self.version + 1)) is not None:
            self.version, self.committed_at = self.version + 1, found

    def read_commit(self, version: int) -> list[dict[str, Any]] | None:
        """The actions of one version; None where the log does not hold it."""
        return self.log.read_actions(version)

    def _is_same(self) -> bool:
        assert self.version is not None
        return self._find(self.version) == self.committed_at

    def _find_newest(self) -> None:
        try:
            self.version = self.log.newest_version()
        except (FileNotFoundError, ValueError):  # no folder, or one without a commit
            self.version = self.committed_at = None
            return
        self.committed_at = self._find(self.version)
        self.was_there = True

    def _find(self, version: int) -> datetime | None:
        info: FileInfo = self.log.filesystem.get_file_info(f"_delta_log/{version:020d}.json")
        return info.mtime.astimezone(UTC) if info.is_file else None
