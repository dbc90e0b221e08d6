"""The group's lock file: at most one process, or its JVM, writes a group's tables from this host.

An `flock` belongs to the open file, not to the process: a process that inherits the descriptor holds it too. The host
passes it to Spark's JVM, so that after a kill -9 of the host the lock is free only once the JVM is dead as well.
For the same reason nothing here ever unlocks: descriptors are closed, and the last one to close frees the lock.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec

from jobs.supervision.model import LockView
from platform_assets.errors import GroupOwnedError, StorageError
from resources.file_lock import acquire, try_lock
from resources.processes import ProcessIdentity, identify, is_alive

# A supervisor's tick probes the lock by taking it for microseconds; without a second try a host that starts at that
# instant would be refused by nobody.
_TRY_SECONDS = 2.0
_STARTING = "starting"


def lock_path(home: Path, group: str) -> Path:
    """The path of the group's lock under `HEADRACE_HOME`."""
    return home / "locks" / f"{group}.lock"


LockMode = Literal[
    "run", "drain", "recompute", "acknowledge", "backup", "nightly-backup", "restore", "replay", "requeue", "forget",
    "reset-time",
]  # fmt: skip


@contextmanager
def hold_group_lock(home: Path, group: str, mode: LockMode, run_id: str = "") -> Iterator[int]:
    """Takes the group's lock and yields its descriptor, to be passed to the JVM. Released when all holders closed it.

    Raises `GroupOwnedError`, naming the owner, when another process holds it for longer than a probe lasts, and
    `StorageError` when the folder cannot be written.
    """
    path = lock_path(home, group)
    try:
        fd = _acquire(path, _TRY_SECONDS)
    except TimeoutError:
        owner = _describe(_read_content(path))
        raise GroupOwnedError(
            f"The stream group {group} is owned by {owner}. Stop it first (Terminate in the UI, or end that process)."
        ) from None
    try:
        me = identify(os.getpid())
        content = {"v": 1, "mode": mode, "run_id": run_id, "process": vars(me) if me else None, "since": time.time()}
        _write_content(fd, content)
        yield fd
    finally:
        os.close(fd)


def read_lock(home: Path, group: str) -> LockView:
    """The lock as a bystander sees it; the content is believed only while the lock is held."""
    path = lock_path(home, group)
    if not path.exists():
        return LockView(held=False)
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if try_lock(fd):
            return LockView(held=False)
    finally:
        os.close(fd)
    content = _read_content(path)
    owner = msgspec.convert(content["process"], ProcessIdentity) if content.get("process") else None
    return LockView(
        held=True,
        owner_mode=str(content.get("mode", "")),
        owner_run_id=str(content.get("run_id", "")),
        owner=owner,
        owner_alive=None if owner is None else is_alive(owner),
        text=_describe(content),
    )


@contextmanager
def daemon_lock(home: Path) -> Iterator[None]:
    """Takes the lock of the Dagster daemon on this home: two daemons can launch one run twice.

    Raises `GroupOwnedError` when another holds it, `StorageError` when the folder cannot be written.
    """
    path = lock_path(home, "daemon")
    try:
        fd = _acquire(path, 0.0)
    except TimeoutError:
        pid = _read_content(path).get("process", {}).get("pid", "unknown")
        raise GroupOwnedError(
            f"Another Headrace daemon (pid {pid}) runs on {home}. Stop it, or set HEADRACE_HOME to another folder."
        ) from None
    try:
        _write_content(fd, {"v": 1, "mode": "daemon", "process": {"pid": os.getpid()}})
        yield
    finally:
        os.close(fd)


@contextmanager
def holding_streams_back(home: Path) -> Iterator[None]:
    """While it lasts no supervisor on this home acts: what the streams need (broker, topic) is still being started.

    A daemon takes as long to start as a broker does, and may be started at the same time. Ends with its process,
    however that ends. Raises `StorageError` when the folder cannot be written.
    """
    fd = _acquire(lock_path(home, _STARTING), _TRY_SECONDS)
    try:
        yield
    finally:
        os.close(fd)


def are_streams_held_back(home: Path) -> bool:
    """Whether somebody is within `holding_streams_back`."""
    return read_lock(home, _STARTING).held


def _acquire(path: Path, timeout_seconds: float) -> int:
    try:
        return acquire(path, timeout_seconds=timeout_seconds)
    except TimeoutError:  # an OSError too
        raise
    except OSError as error:
        raise StorageError(
            f"The lock file {path} cannot be written: {error.strerror}. Make the folder writable, or set HEADRACE_HOME."
        ) from error


def _write_content(fd: int, content: dict[str, Any]) -> None:
    """Says who holds the lock; raises `StorageError` on a full disk."""
    data = json.dumps(content).encode()
    os.lseek(fd, 0, os.SEEK_SET)
    try:
        os.write(fd, data)
        os.ftruncate(fd, len(data))
    except OSError as error:
        raise StorageError(f"The lock file cannot be written: {error.strerror}. Free some space.") from error


def _read_content(path: Path) -> dict[str, Any]:
    """What the owner wrote; empty when it has not yet written or wrote something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and content.get("v") == 1 else {}


def _describe(content: dict[str, Any]) -> str:
    process = content.get("process") or {}
    who = f"pid {process.get('pid', 'unknown')} on {process.get('host', 'this host')}"
    return describe_owner(str(content.get("mode")), str(content.get("run_id")), who)


def describe_owner(mode: str, run_id: str, who: str) -> str:
    """What a person reads about an owner: what it does, and `who`, its process."""
    match mode:
        case "run":
            return f"run {run_id[:8]} ({who})"
        case "drain":
            return f"a drain ({who})"
        case "acknowledge":
            return f"an acknowledgement that is being recorded ({who})"
        case "recompute":
            return f"a recomputation that is being prepared ({who})"
        case "forget":
            return f"a user's erasure ({who})"
        case "nightly-backup":
            return f"the nightly backup ({who})"
        case "reset-time":
            return f"a time that is being set back ({who})"
        case "backup" | "restore" | "replay" | "requeue":
            return f"a {mode} ({who})"
        case _:
            return f"a process that has not said who it is ({who})"
