"""Has topics that are published by transactions follow an erasure, before the files are gone that tell the keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from jobs.supervision.host import Application, host_group
from jobs.supervision.publish_target import find_publish_target
from jobs.supervision.terminal import Terminal, WriteLine
from platform_assets.errors import InterruptedByUserError
from platform_assets.publishing.publish_group import PublishGroup
from platform_assets.streaming.stream_spec import StreamGroup
from resources.settings import Settings

if TYPE_CHECKING:
    from resources.kafka import KafkaResource
    from resources.lakehouse import LakehouseResource


def publish_erasure(
    groups: Sequence[StreamGroup],
    settings: Settings,
    kafka: KafkaResource,
    lakehouse: LakehouseResource,
    demand: Callable[[], None],
    write: WriteLine,
) -> tuple[str, ...]:
    """Brings each such topic to its table's newest version; returns a sentence on each.

    The group is the caller's, and rests; `demand` raises where it is not any more. A broker that does not take the
    tombstones keeps the caller from removing files: no later call could tell the keys. Raises `HeadraceError`.
    """
    streams = tuple(stream for group in groups for stream in group.published)
    if not streams:
        return ()
    write("the published topics follow")
    target = find_publish_target(settings)

    @contextmanager
    def open_publishers() -> Iterator[Application]:
        yield Application(partial(PublishGroup, streams, settings, kafka, lakehouse, target, demand), None)

    port, grace = Terminal("published topics", write), settings.stop_grace_seconds
    if not host_group(open_publishers, port, grace_seconds=grace, bounded=True).finished:
        raise InterruptedByUserError("Interrupted. Call it again for the same user: it does the rest.")
    return tuple(
        f"Topic {stream.publish_topic}: the user's keys have tombstones; what was published before goes with the "
        "topic's compaction."
        for stream in streams
    )
