"""Which process is meant: a pid alone is no identity, for the kernel gives it out again, and so does every host."""

from __future__ import annotations

import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class ProcessIdentity:
    """One process and no other, across hosts and boots.

    `start` is the boot, a colon, and `start_tick`: containers give out the same pids at every boot. Records of running
    hosts have these fields by name, so the names and the form of `start` stay.
    """

    host: str
    pid: int
    start: str

    @property
    def start_tick(self) -> int:
        """The moment it started: kernel ticks since the boot on Linux, else microseconds."""
        return int(self.start.rpartition(":")[2])


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of the live process `pid` of this host; None when there is none. A zombie is not alive."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists():
            # Field 22, counted after the command name, which may itself hold blanks and parentheses.
            tick = int(stat.read_text().rpartition(")")[2].split()[19])
        else:
            tick = int(process.create_time() * 1_000_000)
    except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
        return None
    boot = _BOOT_ID.read_text().strip()[:8] if _BOOT_ID.exists() else ""
    return ProcessIdentity(socket.gethostname(), pid, f"{boot}:{tick}")


def is_alive(process: ProcessIdentity) -> bool | None:
    """Whether exactly this process (not a later one with its pid) lives.

    None: it is on another host, so that nobody here can know.
    """
    if process.host != socket.gethostname():
        return None
    return identify(process.pid) == process


def kill(process: ProcessIdentity, signal_number: int = signal.SIGKILL) -> bool:
    """Sends a signal to exactly this process. Returns False, and does nothing, when it is gone or on another host."""
    if not is_alive(process):
        return False
    try:
        os.kill(process.pid, signal_number)
    except ProcessLookupError:
        return False
    return True


def wait_until_gone(identities: tuple[ProcessIdentity, ...], timeout_seconds: float) -> bool:
    """Waits until none of these processes lives. Returns whether that came true within the limit."""
    deadline = time.monotonic() + timeout_seconds
    while any(is_alive(identity) for identity in identities):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
