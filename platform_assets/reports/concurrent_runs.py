"""Two runs may compute one day at the same time: one that a person has started, and one of the sensor."""

from __future__ import annotations

from collections.abc import Callable

# This many losses in a row mean a writer that never rests.
_MAX_TRIES = 5


def commit_over_others(write: Callable[[], object]) -> None:
    """Calls `write`, which opens a Delta table and commits to it, again when another run has committed meanwhile.

    Raises deltalake's `CommitFailedError` when others win again and again; nothing is written then.
    """
    from deltalake.exceptions import CommitFailedError

    for _ in range(_MAX_TRIES - 1):
        try:
            write()
        except CommitFailedError:
            continue
        return
    write()
