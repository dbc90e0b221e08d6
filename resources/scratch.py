"""Folders for what a process needs on disk while it lives: shuffle files, local state, what memory does not hold."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from resources.processes import identify


def make_scratch_folder(parent: Path) -> Path:
    """Makes a folder of this process in `parent` and returns it; the caller removes it.

    A process that was killed leaves its folder behind, with gigabytes in it: those whose process is gone are removed.
    Raises `OSError` when `parent` cannot be written.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for folder in parent.iterdir():
        pid, start_tick, *_ = [*folder.name.split("-"), "", ""]
        if pid.isdigit() and start_tick.isdigit() and not _is_alive(int(pid), int(start_tick)):
            shutil.rmtree(folder, ignore_errors=True)
    this = identify(os.getpid())
    owner = f"{this.pid}-{this.start_tick}" if this else str(os.getpid())
    return Path(tempfile.mkdtemp(prefix=f"{owner}-", dir=parent))


def _is_alive(pid: int, start_tick: int) -> bool:
    """A folder's name has neither host nor boot: its process is looked for here and now."""
    process = identify(pid)
    return process is not None and process.start_tick == start_tick
