"""Threads that follow Delta tables, each its own, as one group. The counterpart of `query_group`, without Spark.

What keeps one follower from going on (a database that is away, a table that somebody has changed) is no failure of the
group: that follower says so once, is tried again, and goes on by itself. The streams that write the tables know nothing
of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Protocol

from platform_assets.errors import (
    DatabaseUnavailableError,
    GroupOwnedError,
    HeadraceError,
    QueryFailedError,
    StoreUnavailableError,
)
from platform_assets.store_errors import find_store_error
from platform_assets.streaming.progress import QueryProgress

# How often a follower that has applied all looks for the next version: half of this is added to its lag.
_POLL_SECONDS = 0.3
# What comes back is met by all followers at once; what is away for a day is asked 2,880 times.
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 1.0, 30.0

_log = logging.getLogger(__name__)


class Follower(Protocol):
    """One table's follower. Its methods are called from one thread; `describe` and its plain values from any.

    `subject` names it in sentences: "The sink of gold.sessions". `behind_since` is when the oldest commit was made on
    which its work is not done.
    """

    subject: str
    behind_since: datetime | None

    @property
    def version(self) -> int | None:
        """The table's version up to which its work is done; None before the first."""
        ...

    @property
    def lakehouse_root(self) -> str:
        """The root of the lakehouse that the table is in."""
        ...

    def advance(self) -> bool:
        """Does the next piece of work; False when there is nothing to do now.

        Raises `HeadraceError`, and what the lakehouse's disk or store does: the next call tries the same again.
        """
        ...

    def newest_version(self) -> int | None:
        """The table's version now; None where there is no table."""
        ...

    def note_lag(self) -> None:
        """Brings `behind_since` up to date while `advance` cannot."""
        ...

    def describe(self, name: str, trouble: str, *, is_busy: bool) -> QueryProgress:
        """How far it is. `trouble` says why it stands still; empty: it does not."""
        ...

    def close(self) -> None:
        """Lets go of connections. The next call of `advance` makes them again."""
        ...


class FollowerGroup:
    """See the module. `start` once, then `reconcile`, `progress`, `failure` as often as wanted, then `stop`."""

    def __init__(self, followers: Mapping[str, Follower], last: Mapping[str, Follower] = MappingProxyType({})) -> None:
        """`last` follow what the others write: bounded ones begin when those have ended."""
        self._workers = {name: _Worker(name, follower) for name, follower in followers.items()}
        first = tuple(self._workers.values())
        self._workers |= {name: _Worker(name, follower, first) for name, follower in last.items()}
        self._bounded = False

    def start(self, *, bounded: bool = False, paused: frozenset[str] = frozenset()) -> None:
        """Starts the followers but those of `paused`; `bounded` ones end when they have done what was there."""
        self._bounded = bounded
        for name, worker in self._workers.items():
            if name not in paused:
                worker.start(bounded=bounded)

    def reconcile(
        self, paused: frozenset[str] = frozenset(), restart_at: Mapping[str, float] = MappingProxyType({})
    ) -> None:
        """Stops the followers of `paused` between two pieces of work; starts the others, anew where a wish is younger.

        Waits for none: one that is at work ends meanwhile, and is started again by a later call.
        """
        for name, worker in self._workers.items():
            if name in paused or restart_at.get(name, 0.0) > worker.started_at:
                worker.begin_stop()
            if name not in paused and not worker.is_active and worker.failure is None:
                worker.start()

    def progress(self) -> dict[str, QueryProgress]:
        """Each started follower's progress, by its name."""
        return {name: worker.progress() for name, worker in self._workers.items() if worker.started_at}

    def failure(self) -> HeadraceError | None:
        """Why the first follower ended that did; None while all is well."""
        return next((worker.failure for worker in self._workers.values() if worker.failure is not None), None)

    def is_finished(self) -> bool:
        """Whether all bounded followers have done what was there."""
        return self._bounded and not any(worker.is_active for worker in self._workers.values()) and not self.failure()

    def stop(self, grace_seconds: float) -> None:
        """Lets the work in hand end within the grace; what is cut then is done again."""
        deadline = time.monotonic() + grace_seconds
        for worker in self._workers.values():
            worker.begin_stop()
        for worker in self._workers.values():
            worker.stop(max(0.0, deadline - time.monotonic()))


class _Worker:
    """One follower's thread."""

    def __init__(self, name: str, follower: Follower, before: Sequence[_Worker] = ()) -> None:
        self.failure: HeadraceError | None = None
        self.started_at = 0.0
        self._name, self._follower, self._before = name, follower, before
        self._trouble = self._said = ""
        self._busy = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_active(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self, *, bounded: bool = False) -> None:
        self.started_at = time.time()
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, args=(bounded,), name=self._name, daemon=True)
        self._thread.start()

    def begin_stop(self) -> None:
        self._stopping.set()

    def stop(self, timeout_seconds: float | None = None) -> None:
        self.begin_stop()
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def wait(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def progress(self) -> QueryProgress:
        return self._follower.describe(self._name, self._trouble, is_busy=self._busy)

    def _run(self, bounded: bool) -> None:
        try:
            for worker in self._before if bounded else ():
                worker.wait()
            goal = self._follower.newest_version() if bounded else None
            wait = _FIRST_WAIT_SECONDS
            while not self._stopping.is_set():
                trouble = self._try(bounded)
                if trouble is not None:
                    self._say(trouble)
                    # A table that somebody must look at is looked at as rarely as a database that stays away.
                    wait = min(_LONGEST_WAIT_SECONDS, 2 * wait)
                    self._stopping.wait(wait)
                    continue
                wait = _FIRST_WAIT_SECONDS
                if bounded and (
                    goal is None or (self._follower.version is not None and self._follower.version >= goal)
                ):
                    return
        except HeadraceError as error:
            self.failure = error
        except Exception as error:  # noqa: BLE001
            # Whatever it is, it must reach the host and not end silently with this thread.
            _log.exception("%s has failed.", self._follower.subject)
            self.failure = QueryFailedError(f"{self._follower.subject} failed: {error}")
        finally:
            self._busy = False
            self._follower.close()

    def _try(self, bounded: bool) -> HeadraceError | None:
        """Does one piece of work, or waits a moment where there is none; returns what keeps it from going on."""
        try:
            has_advanced = self._advance()
        except GroupOwnedError:
            raise
        except HeadraceError as error:
            if bounded:
                raise
            self._follower.close()
            with suppress(OSError):
                self._follower.note_lag()
            return error
        self._say_over()
        if not has_advanced:
            self._stopping.wait(_POLL_SECONDS)
        return None

    def _advance(self) -> bool:
        """What `Follower.advance` does; a lakehouse that cannot be read is an error of ours too."""
        from deltalake.exceptions import DeltaError

        self._busy = True
        try:
            return self._follower.advance()
        except (OSError, DeltaError) as error:
            said = next(iter(str(error).splitlines()), "")
            raise find_store_error(self._follower.lakehouse_root, str(error)) or StoreUnavailableError(
                f"The lakehouse cannot be read ({type(error).__name__}: {said}). It is tried again, and goes "
                "on by itself."
            ) from error
        finally:
            self._busy = False

    def _say(self, trouble: HeadraceError) -> None:
        """Says it once: a database that is away for an hour leaves one line, not one with each try."""
        kind = type(trouble).__name__ if isinstance(trouble, DatabaseUnavailableError) else str(trouble)
        if kind != self._said:
            _log.warning("%s stands still. %s", self._follower.subject, trouble)
        self._said, self._trouble = kind, str(trouble)

    def _say_over(self) -> None:
        if self._trouble:
            since = self._follower.behind_since
            behind = f", {datetime.now(UTC) - since} behind" if since is not None else ""
            _log.warning("%s goes on%s.", self._follower.subject, behind)
        self._said = self._trouble = ""
