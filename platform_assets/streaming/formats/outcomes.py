"""What was found for each key, or the error with which it was not."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Outcomes(Generic[K, T]):
    """Looks once for each key; errors of `kind` are outcomes too, all others go through and are not kept.

    With `most`, the oldest are forgotten. Of any thread: two that look for one key at once both look, and get the same
    outcome.
    """

    def __init__(self, kind: type[Exception], most: int | None = None) -> None:
        self._kind, self._most, self._lock = kind, most, Lock()
        self._found: dict[K, tuple[T] | Exception] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._found

    def find(self, key: K, look: Callable[[], T]) -> T:
        """What `look` gave for the key, the first time. Raises the error that it raised then."""
        outcome = self._found.get(key)
        if outcome is None:
            try:
                outcome = (look(),)
            except self._kind as error:
                outcome = error
            with self._lock:
                outcome = self._found.setdefault(key, outcome)
                while self._most is not None and len(self._found) > self._most:
                    del self._found[next(iter(self._found))]
        if isinstance(outcome, Exception):
            # Without the places at which it was raised before: they would add up, and hold what was read there.
            raise outcome.with_traceback(None)
        return outcome[0]
