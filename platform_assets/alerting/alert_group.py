"""The alerts and channels of a host, each in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from platform_assets.alerting.alert_follower import AlertFollower
from platform_assets.alerting.alert_spec import AlertSpec, name_alert_query, name_channel_query
from platform_assets.alerting.channel_follower import ChannelFollower
from platform_assets.alerting.channels import Channel
from platform_assets.sinks.followers import FollowerGroup
from resources.duckdb import DuckDBResource

if TYPE_CHECKING:
    from resources.lakehouse import LakehouseResource
    from resources.settings import Settings

# What differs between two versions of a file: DuckDB's memory for it, of each follower that is at work.
_MEMORY_MIB = 256


class AlertGroup(FollowerGroup):
    """Alerts first, then what tells of them. A channel that is away disturbs no alert."""

    def __init__(
        self,
        alerts: Sequence[AlertSpec],
        channels: Sequence[Channel],
        settings: Settings,
        lakehouse: LakehouseResource,
        check_lease: Callable[[], None] | None = None,
    ) -> None:
        engine = DuckDBResource.from_settings(settings.model_copy(update={"reports_memory_mib": _MEMORY_MIB}))
        super().__init__(
            {name_alert_query(spec.name): AlertFollower(spec, lakehouse, engine, check_lease) for spec in alerts},
            {
                name_channel_query(channel.name): ChannelFollower(channel, lakehouse, engine, check_lease)
                for channel in channels
            },
        )
