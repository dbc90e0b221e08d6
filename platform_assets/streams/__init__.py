"""The catalogue of streams: one over each topic, and every module in this folder that defines `STREAM`."""

from __future__ import annotations

import importlib
import pkgutil

from platform_assets.errors import CatalogueError, SettingError
from platform_assets.groups import load_all_groups, select_groups
from platform_assets.streaming.stream_spec import (
    KafkaStream,
    Stream,
    StreamGroup,
    TableStream,
    name_topics,
    select_derived,
    select_ingest,
)
from platform_assets.topics import load_topics
from resources.settings import load_settings


def load_all_streams() -> tuple[Stream, ...]:
    """All streams, of whatever group: one for each topic first, for the others read their tables.

    A module may have `build_stream(settings)` too, where a setting says what the stream does. Raises `SettingError`,
    and `CatalogueError` for two streams of one name or with one table.
    """
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    streams: list[TableStream] = [
        module.build_stream(load_settings()) if hasattr(module, "build_stream") else module.STREAM
        for module in modules
        if hasattr(module, "STREAM")
    ]
    streams.sort(key=lambda stream: stream.name)
    found: tuple[Stream, ...] = (*map(KafkaStream, load_topics()), *streams)
    for what, pairs in (
        ("name", [(stream.name, stream.name) for stream in found]),
        ("table", [(table.name, stream.name) for stream in found for table in stream.tables]),
    ):
        owners: dict[str, str] = {}
        for taken, name in pairs:
            if taken in owners:
                # Two queries would write it, each by the checkpoint that the other has moved.
                raise CatalogueError(f"Streams {owners[taken]} and {name} have the {what} {taken}: one may. Rename it.")
            owners[taken] = name
    return found


def load_streams() -> tuple[Stream, ...]:
    """The streams of all enabled groups, those that read Kafka first. Raises `SettingError`."""
    streams = [stream for group in load_stream_groups() for stream in group.streams]
    return (*select_ingest(streams), *select_derived(streams))


def load_all_stream_groups() -> tuple[StreamGroup, ...]:
    """Every group with its streams, enabled or not: another shell may enable others, in the same lakehouse.

    Raises as `load_stream_groups`, but for what the setting says.
    """
    catalogue = load_all_streams()
    groups = tuple(group.resolve(catalogue) for group in load_all_groups())
    owners: dict[str, str] = {}
    for group in groups:
        for stream in group.streams:
            # Two applications would write one table, each by the checkpoint that the other has moved.
            if (owner := owners.setdefault(stream.name, group.name)) != group.name:
                raise CatalogueError(
                    f"Stream {stream.name} is of the groups {owner} and {group.name}: it can be of one."
                )
    return groups


def load_stream_groups() -> tuple[StreamGroup, ...]:
    """The groups that HEADRACE_GROUPS enables: each is one Spark application, which the supervisor keeps running.

    Raises `SettingError` for a group that does not exist and for a topic that two streams would read, `CatalogueError`
    for a group that names what it cannot have, and for a stream of two groups.
    """
    settings, groups = load_settings(), {group.name: group for group in load_all_stream_groups()}
    found = tuple(groups[group.name] for group in select_groups(load_all_groups(), settings.groups))
    readers: dict[str, str] = {}
    for name, topic in name_topics((stream for group in found for stream in group.streams), settings.topic).items():
        # The platform's tables tell records apart by topic, partition and offset.
        if (reader := readers.setdefault(topic, name)) != name:
            raise SettingError(f"HEADRACE_TOPIC: topic {topic} is read by the streams {reader} and {name}: one may.")
    return found
