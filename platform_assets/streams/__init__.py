"""The catalogue of streams: every module in this folder that defines `STREAM` is one. A new stream is a new file."""

from __future__ import annotations

import importlib
import pkgutil

from platform_assets.streaming.stream_spec import Stream, StreamGroup, select_derived, select_ingest
from resources.settings import load_settings


def load_streams() -> tuple[Stream, ...]:
    """All streams, those that read Kafka first: the others read their tables. Names are unique.

    A module may have `build_stream(settings)` too, where a setting says what the stream does. Raises `SettingError`.
    """
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    streams: list[Stream] = [
        module.build_stream(load_settings()) if hasattr(module, "build_stream") else module.STREAM
        for module in modules
        if hasattr(module, "STREAM")
    ]
    streams.sort(key=lambda stream: stream.name)
    return (*select_ingest(streams), *select_derived(streams))


def load_stream_groups() -> tuple[StreamGroup, ...]:
    """The groups that the supervisor keeps running: one Spark application with all streams."""
    return (StreamGroup(name="clickstream", streams=load_streams()),)
