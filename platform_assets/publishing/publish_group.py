"""Runs the publishers of a host, each in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from platform_assets.publishing.table_publisher import TablePublisher
from platform_assets.sinks.followers import FollowerGroup
from platform_assets.streaming.stream_spec import TableStream, name_publisher
from resources.duckdb import DuckDBResource

if TYPE_CHECKING:
    from platform_assets.streaming.formats.registered_schema import SchemaTarget
    from resources.kafka import KafkaResource
    from resources.lakehouse import LakehouseResource
    from resources.settings import Settings

# What differs between two versions of a file: DuckDB's memory for it, of each publisher that is at work.
_MEMORY_MIB = 256


class PublishGroup(FollowerGroup):
    """The publishers of these streams. A broker that is away disturbs neither the group nor the streams."""

    def __init__(
        self,
        streams: Sequence[TableStream],
        settings: Settings,
        kafka: KafkaResource,
        lakehouse: LakehouseResource,
        target: SchemaTarget | None,
        check_lease: Callable[[], None] | None = None,
    ) -> None:
        """Contacts nobody. Raises `SettingError` as `TablePublisher`."""
        engine = DuckDBResource.from_settings(settings.model_copy(update={"reports_memory_mib": _MEMORY_MIB}))
        partitions = settings.topic_partitions
        super().__init__(
            {
                name_publisher(stream): TablePublisher(
                    stream, kafka, lakehouse, engine, target, partitions, check_lease
                )
                for stream in streams
            }
        )
