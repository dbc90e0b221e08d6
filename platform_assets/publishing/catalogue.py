"""The group of what is published by transactions, next to those of the streams and of the sinks."""

from __future__ import annotations

from platform_assets.errors import CatalogueError
from platform_assets.publishing.selection import GROUP_NAME, select_transactional
from platform_assets.sinks import catalogue as sinks
from platform_assets.streaming.stream_spec import StreamGroup
from resources.settings import load_settings


def load_groups() -> tuple[StreamGroup, ...]:
    """The groups of the streams and of the sinks, and last the group `published` where a stream is published so.

    Last, so that a drain of one after the other has written the tables before. Raises as those.
    """
    groups = sinks.load_groups()
    streams = [stream for group in groups for stream in group.streams]
    published = select_transactional(streams, load_settings())
    if not published:
        return groups
    if any(group.name == GROUP_NAME for group in groups):
        raise CatalogueError(
            f"The group {GROUP_NAME} of platform_assets/groups has the name of the published topics' one. Rename it."
        )
    return (*groups, StreamGroup(GROUP_NAME, (), f"closed_days_{GROUP_NAME}", published=published))
