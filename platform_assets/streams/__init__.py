"""The catalogue of streams: one over each topic, and every module in this folder that defines `STREAM`."""

from __future__ import annotations

import importlib
import pkgutil

from platform_assets.streaming.stream_spec import KafkaStream, Stream, StreamGroup, TableStream
from platform_assets.topics import load_topics
from resources.settings import load_settings


def load_streams() -> tuple[Stream, ...]:
    """All streams: one for each topic first, for the others read their tables. Names are unique.

    A module may have `build_stream(settings)` too, where a setting says what the stream does. Raises `SettingError`.
    """
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    streams: list[TableStream] = [
        module.build_stream(load_settings()) if hasattr(module, "build_stream") else module.STREAM
        for module in modules
        if hasattr(module, "STREAM")
    ]
    streams.sort(key=lambda stream: stream.name)
    # Until groups choose them: the shop's alone.
    topics = [topic for topic in load_topics() if topic.name == "events"]
    sources = {topic.tables[0] for topic in topics}
    return (*map(KafkaStream, topics), *(stream for stream in streams if stream.source.table in sources))


def load_stream_groups() -> tuple[StreamGroup, ...]:
    """The groups that the supervisor keeps running: one Spark application with all streams."""
    return (StreamGroup(name="clickstream", streams=load_streams()),)
