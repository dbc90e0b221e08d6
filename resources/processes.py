"""Which process is meant: a pid alone is not an identity, for the kernel gives it out again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class ProcessIdentity:
    """A process on this host: its pid and the moment it started (kernel ticks on Linux, else microseconds)."""

    pid: int
    start_tick: int


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of the live process `pid`; None when there is none. A zombie is not alive."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists():
            # Field 22, counted after the command name, which may itself hold blanks and parentheses.
            return ProcessIdentity(pid, int(stat.read_text().rpartition(")")[2].split()[19]))
        return ProcessIdentity(pid, int(process.create_time() * 1_000_000))
    except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
        return None


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether exactly this process (not a later one with its pid) still runs."""
    return identify(identity.pid) == identity


def kill(identity: ProcessIdentity, signal_number: int) -> bool:
    """Sends a signal to exactly this process. Returns False when it is already gone."""
    if not is_alive(identity):
        return False
    try:
        psutil.Process(identity.pid).send_signal(signal_number)
    except psutil.NoSuchProcess:
        return False
    return True
