"""Removes files in a table's folder that no version names: what a process left that was killed before its commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deltalake import DeltaTable

# A writer names its files minutes after it has made the first; a batch that spills, or a backfill, after hours. What
# VACUUM by the log misses, because the log was shortened since, is as old as this too.
UNNAMED_FILES_HOURS = 7 * 24


def remove_unnamed_files(table: DeltaTable, kept_hours: int = 0) -> None:
    """Removes them a week after they were written, or after `kept_hours` if that is longer.

    Those too that a version has replaced so long ago: nobody may be reading an older one. Lists the whole folder.
    """
    hours = max(UNNAMED_FILES_HOURS, kept_hours)
    table.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=True)
