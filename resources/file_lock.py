"""Advisory locks between processes (flock): they end with the process that holds them, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

# How often a waiter looks again. flock has no time limit of its own; a blocking call could not be given up.
_POLL_SECONDS = 0.05


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Takes a lock on an open descriptor when nobody is in the way. Returns whether it was taken; never waits."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def acquire(path: Path, *, shared: bool = False, timeout_seconds: float) -> int:
    """Opens (and creates) `path`, waits for its lock and returns the descriptor that holds it.

    Closing the descriptor frees the lock. Raises `TimeoutError` when the lock is not free within the limit; the
    descriptor is closed then. The descriptor is close-on-exec: a child process does not inherit the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + timeout_seconds
    try:
        while not try_lock(descriptor, shared=shared):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} stayed locked for {timeout_seconds:g} s")
            time.sleep(_POLL_SECONDS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextlib.contextmanager
def exclusive(path: Path, *, timeout_seconds: float) -> Iterator[None]:
    """Holds the exclusive lock of `path` for the block. Raises `TimeoutError` like `acquire`."""
    descriptor = acquire(path, timeout_seconds=timeout_seconds)
    try:
        yield
    finally:
        os.close(descriptor)
