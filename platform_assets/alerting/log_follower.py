"""Holds what an alert and a channel have in common as `Follower`s: a table's log, and how far they are in it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from platform_assets.alerting.positions import FollowedLog

if TYPE_CHECKING:
    from resources.lakehouse import LakehouseResource


class LogFollower:
    """The part of a `Follower` that asks the log. One thread calls its methods; any may read its values."""

    def __init__(
        self,
        subject: str,
        query: str,
        table: str,
        lakehouse: LakehouseResource,
        check_lease: Callable[[], None] | None,
    ) -> None:
        self.subject = subject
        self.behind_since: datetime | None = None
        self._query, self._followed_table = query, table
        self._lakehouse, self._check_lease = lakehouse, check_lease
        self._followed = self._open_log()

    @property
    def version(self) -> int | None:
        """The table's version up to which its work is done; None before it has begun."""
        return None if self._followed.position is None else self._followed.position.version

    @property
    def lakehouse_root(self) -> str:
        """The root of the lakehouse."""
        return self._lakehouse.root_uri

    def newest_version(self) -> int | None:
        """The table's version now; None where there is no table."""
        bounds = self._followed.log.read_bounds()
        return None if bounds is None else bounds[1]

    def note_lag(self) -> None:
        """Looks when the oldest commit was made on which its work is not done."""
        if self.version is not None and self.behind_since is None:
            self.behind_since = self._followed.log.read_time(self.version + 1)

    def _open_log(self) -> FollowedLog:
        return FollowedLog(self._query, self._followed_table, self._lakehouse, self._check_lease)
