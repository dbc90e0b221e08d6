"""Ids that a registry has just said it does not have."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from threading import Lock

# A producer with a wrong id sends it with each record, and each batch would ask again. An id that is registered within
# this time, after it was asked for, is taken for missing so long: nobody has it before it is registered.
_SECONDS = 10.0
# Random ids must not fill the memory.
_MOST = 10_000


class MissingIds:
    """Keeps what was said of an id for some seconds. Of any thread."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._lock = now, Lock()
        self._said: dict[Hashable, tuple[float, str]] = {}

    def find(self, key: Hashable) -> str | None:
        """What was said of the id; None where nothing was, or long ago."""
        until, said = self._said.get(key, (0.0, ""))
        return said if self._now() < until else None

    def add(self, key: Hashable, said: str) -> None:
        """Keeps what was said. The oldest is forgotten where there are too many."""
        with self._lock:
            self._said.pop(key, None)
            self._said[key] = (self._now() + _SECONDS, said)
            if len(self._said) > _MOST:
                del self._said[next(iter(self._said))]
