"""When what a process keeps of the tables of finished days is to be read anew."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

from platform_assets.fraud.card_profiles import find_profile_span, floor_moment
from platform_assets.tables.spec import TableSpec

# The rows of a day go on changing until its watermark has passed, and after a stop for longer: profiles are read once
# more a while after midnight, and each hour, or a day would be missing in them until the next one.
_DAY_SETTLES_AFTER = timedelta(minutes=15)
_PROFILES_LAST = timedelta(hours=1)
# A history that is being read changes its tables every few seconds, and of 200,000 cards each reading takes five: the
# process that scores would do nothing else. Without it nothing was known of any card in the first hour of a platform.
_SHARE_OF_TIME = 0.01


class PacedReading:
    """Tells for one reader: when a day begins, a while after, each hour, and in between where the tables have changed.

    Readings in between take a hundredth of the time at most. Used by one thread: `is_due`, the reading, `note`.
    """

    def __init__(self, lakehouse: Any, *tables: TableSpec) -> None:
        self._lakehouse, self._tables = lakehouse, tables
        self._noted: tuple[Any, ...] | None = None
        self._wanted: tuple[Any, ...] = ()
        self._began = self._not_before = 0.0

    def is_due(self, as_of: datetime) -> bool:
        """Whether to read now. Says so again until `note` is called."""
        found = [self._lakehouse.find_table(table.name) for table in self._tables]
        versions = tuple(None if table is None else table.version() for table in found)
        self._began, self._wanted = time.monotonic(), (_name_reading(as_of), versions)
        if self._noted is None or self._noted[0] != self._wanted[0]:
            return True
        return self._noted != self._wanted and self._began >= self._not_before

    def note(self) -> None:
        """What `is_due` has asked for has been read."""
        now = time.monotonic()
        self._noted, self._not_before = self._wanted, now + (now - self._began) / _SHARE_OF_TIME


def _name_reading(as_of: datetime) -> tuple[datetime, datetime]:
    """Names the reading that serves at a moment: its day, and the hour of it. What was read at an equal one is new."""
    return find_profile_span(as_of)[1], floor_moment(as_of - _DAY_SETTLES_AFTER, _PROFILES_LAST)
