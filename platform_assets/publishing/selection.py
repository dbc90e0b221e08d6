"""Which streams the settings have published by transactions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from platform_assets.streaming.stream_spec import Stream, TableStream, select_derived

if TYPE_CHECKING:
    from resources.settings import Settings

POSITIONS_TOPIC = "headrace-published-positions"
"""The topic in which each published topic's position stands, by its name. Compacted, of one partition."""

GROUP_NAME = "published"


def select_transactional(streams: Iterable[Stream], settings: Settings) -> tuple[TableStream, ...]:
    """Selects those whose topics get each version of their table in a transaction.

    A topic of states is none: its rows are of several tables, and a repetition replaces itself.
    """
    if not (settings.publish and settings.publish_transactional):
        return ()
    return tuple(s for s in select_derived(streams) if s.publish_topic and s.published_state is None)
