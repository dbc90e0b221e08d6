"""Stops a group while there is still room to stop in: a disk that is full takes the batch in flight with it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

from platform_assets.errors import StorageError

_MIB = 1024 * 1024


def find_shortage(folders: Iterable[str], min_free_bytes: int) -> StorageError | None:
    """An error for the first of these local folders on whose disk less is free; None while all have enough."""
    for folder in folders:
        free = shutil.disk_usage(folder).free
        if free < min_free_bytes:
            return StorageError(
                f"Only {free // _MIB:,} MiB are free under {folder}: the streams have stopped between two batches, "
                f"nothing is lost. Free space, or lower HEADRACE_MIN_FREE_MIB ({min_free_bytes // _MIB:,})."
            )
    return None
