"""Bounds log files that another process appends to, for as long as that holds them open.

A file that is too large is copied and emptied, not renamed: its writer has it open for appending (`O_APPEND`) and goes
on at its new end. What is written between the copy and the emptying is lost.
"""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

# A daemon that fails at each tick writes 40 MB a day, for as long as nobody looks.
_LIMIT_BYTES = 10 * 1024 * 1024


def bound_logs(folder: Path) -> None:
    """Moves the content of each `.log` and `.out` file over the limit to `<name>.1`, in place of what was there.

    Spark's and the broker's own logs are below that limit: log4j bounds them. Raises nothing: the next call tries again
    what a full disk has kept from it.
    """
    for pattern in ("*.log", "*.out", "spark/*.out"):
        for path in folder.glob(pattern):
            try:
                _bound(path)
            except OSError:
                continue


def _bound(path: Path) -> None:
    if path.stat().st_size <= _LIMIT_BYTES:
        return
    try:
        shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    except OSError as error:
        if error.errno != errno.ENOSPC:  # a full disk needs the space more than a reader the lines
            raise
    with path.open("r+b") as file:
        file.truncate(0)
