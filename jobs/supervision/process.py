"""Processes told apart for certain, across hosts and boots: built on `resources.processes`, which knows one boot."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

from jobs.supervision.model import ProcessIdentity
from resources.processes import identify

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def read_identity(pid: int) -> ProcessIdentity | None:
    """The identity of the process that has `pid` now on this host, or None when there is none (a zombie is none)."""
    start = _read_start(pid)
    return None if start is None else ProcessIdentity(socket.gethostname(), pid, start)


def is_alive(process: ProcessIdentity) -> bool | None:
    """Whether exactly this process lives. None: it is on another host, so that nobody here can know."""
    if process.host != socket.gethostname():
        return None
    return _read_start(process.pid) == process.start


def kill(process: ProcessIdentity) -> bool:
    """SIGKILLs exactly this process. Returns False, and does nothing, when it is gone or on another host."""
    if not is_alive(process):
        return False
    try:
        os.kill(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _read_start(pid: int) -> str | None:
    """The process's start tick, with the boot it counts from: containers give out the same pids at every boot."""
    process = identify(pid)
    if process is None:
        return None
    boot = _BOOT_ID.read_text().strip()[:8] if _BOOT_ID.exists() else ""
    return f"{boot}:{process.start_tick}"
