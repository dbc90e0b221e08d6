"""The Spark application that a host runs its stream group in: broker, lakehouse, JVM and engine put together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from jobs.supervision.host import Application, RunningGroup
from platform_assets.streaming.stream_spec import Stream, StreamGroup
from resources.native_memory import bound_native_memory
from resources.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from platform_assets.streaming.context import StreamContext
    from resources.lakehouse import LakehouseResource


@contextmanager
def open_application(
    group: StreamGroup,
    settings: Settings,
    lock_fd: int,
    *,
    close_windows: bool = False,
    check_lease: Callable[[], None] | None = None,
) -> Iterator[Application]:
    """Yields the application, its queries not yet started. The JVM inherits `lock_fd`, the group's lock.

    `check_lease` is called before each commit and raises when the group is another host's.

    What can be refused cheaply is tried first: a missing broker, topic or folder costs no JVM start. When the block
    ends the JVM is dead and the embedded broker no longer in use by this process. Raises `HeadraceError`.
    """
    bound_native_memory()  # before the libraries are loaded
    if group.sinks:
        yield _build_sinks(group, settings, check_lease)
        return
    if group.alerts:
        with _open_alerts(group, settings, check_lease) as application:
            yield application
        return
    if group.published:
        with _open_publishers(group, settings, check_lease) as application:
            yield application
        return
    from jobs.supervision.stream_context import build_stream_context
    from platform_assets.relays import load_relays
    from platform_assets.streaming.engine.query_group import QueryGroup
    from platform_assets.streaming.engine.relay_group import RelayGroup
    from resources.kafka import KafkaResource
    from resources.lakehouse import LakehouseResource
    from resources.log_files import bound_logs
    from resources.spark.session import SparkResource

    bound_logs(settings.home / "logs")  # what earlier JVMs printed, where no platform looks at it
    with KafkaResource.from_settings(settings) as kafka:
        lakehouse = LakehouseResource.from_settings(settings)
        relays = load_relays(group.relays)
        context = build_stream_context(
            settings, kafka, lakehouse, group.streams, relays, close_windows=close_windows, check_lease=check_lease
        )
        context = replace(context, followers=build_followers(group.streams, lakehouse, check_lease))
        spark = SparkResource.from_settings(_give_slots(settings, context), app_name=f"stream-{group.name}")
        with spark.running((lock_fd,)) as session:
            build: Callable[[], RunningGroup] = partial(QueryGroup, session, group.streams, context)
            if relays:
                build = partial(RelayGroup, session, relays, context)
            yield Application(build, spark.jvm_pid, spark.read_jvm_output)


def _build_sinks(group: StreamGroup, settings: Settings, check_lease: Callable[[], None] | None) -> Application:
    """The application of a group of sinks, which have neither Spark nor Kafka."""
    from platform_assets.sinks.sink_group import SinkGroup
    from platform_assets.sinks.target import Target
    from resources.lakehouse import LakehouseResource

    targets = [Target(table, settings.postgres_schema) for table in group.sinks]
    lakehouse = LakehouseResource.from_settings(settings)
    return Application(partial(SinkGroup, targets, settings, lakehouse, check_lease), None)


@contextmanager
def _open_alerts(
    group: StreamGroup, settings: Settings, check_lease: Callable[[], None] | None
) -> Iterator[Application]:
    """The application of the alerts, which have no Spark; and Kafka only where a topic is told of them."""
    from platform_assets.alerting.alert_group import AlertGroup
    from platform_assets.alerting.alert_spec import name_alert_query
    from platform_assets.alerting.channels import build_channels
    from platform_assets.alerts import load_alerts
    from resources.kafka import KafkaResource
    from resources.lakehouse import LakehouseResource

    alerts = [spec for spec in load_alerts() if name_alert_query(spec.name) in group.alerts]
    lakehouse = LakehouseResource.from_settings(settings)
    with ExitStack() as stack:
        kafka = stack.enter_context(KafkaResource.from_settings(settings)) if settings.alerts_topic else None
        channels = build_channels(settings, kafka)
        yield Application(partial(AlertGroup, alerts, channels, settings, lakehouse, check_lease), None)


@contextmanager
def _open_publishers(
    group: StreamGroup, settings: Settings, check_lease: Callable[[], None] | None
) -> Iterator[Application]:
    """The application of what is published by transactions, which has no Spark."""
    from jobs.supervision.publish_target import find_publish_target
    from platform_assets.publishing.publish_group import PublishGroup
    from resources.kafka import KafkaResource
    from resources.lakehouse import LakehouseResource

    lakehouse = LakehouseResource.from_settings(settings)
    with KafkaResource.from_settings(settings) as kafka:
        target = find_publish_target(settings)
        build = partial(PublishGroup, group.published, settings, kafka, lakehouse, target, check_lease)
        yield Application(build, None)


def _give_slots(settings: Settings, context: StreamContext) -> Settings:
    """Task slots for each partition of a relay's topic and one more, where they are threads of this machine.

    On another master they are somebody's to give, and `RelayGroup` refuses too few.
    """
    slots = re.fullmatch(r"local\[(\d+)\]", settings.spark_master)
    needed = 1 + sum(len(each.kafka_partitions) for each in context.ingest.values() if each.fetch_relayed is not None)
    if slots is None or needed <= int(slots[1]):
        return settings
    return settings.model_copy(update={"spark_master": f"local[{needed}]"})


def build_followers(
    streams: Sequence[Stream], lakehouse: LakehouseResource, check_lease: Callable[[], None] | None
) -> tuple[Callable[[], None], ...]:
    """The work that follows the streams in their own process; the group with the shop's events has some."""
    from platform_assets.reports.whole.session_update import SessionUpdate
    from platform_assets.topics.events import EVENTS

    if EVENTS not in (stream.main_table for stream in streams):
        return ()
    return (SessionUpdate(lakehouse, check_lease).follow,)


@contextmanager
def borrow_application(
    session: SparkSession, jvm_pid: int | None, streams: Sequence[Stream], context: StreamContext
) -> Iterator[Application]:
    """Yields an application in a JVM that somebody else has started and goes on using."""
    from platform_assets.streaming.engine.query_group import QueryGroup

    yield Application(lambda: QueryGroup(session, streams, context), jvm_pid)
