"""Records of the shop's form in a topic of their own, and a group of streams over it next to the shop's."""

from __future__ import annotations

import dataclasses
import os
import sys

from jobs.operations.drain import drain_streams
from jobs.platform.services import prepare_environment
from platform_assets.streaming.stream_spec import KafkaStream, Stream, StreamGroup, TableStream, select_derived
from platform_assets.streams import load_streams
from platform_assets.tables.spec import TableSpec
from resources.settings import load_settings

ORDERS_TOPIC = "HEADRACE_TEST_ORDERS_TOPIC"
NAMES = ("events", "revenue_by_category", "sessions")


def _rename(table: TableSpec) -> TableSpec:
    is_of_topic = table.layer == "silver"
    return dataclasses.replace(
        table, name=table.name.replace("events", "orders") if is_of_topic else f"{table.name}_of_orders"
    )


def _over_orders(stream: TableStream) -> TableStream:
    return dataclasses.replace(
        stream,
        name=f"{stream.name}_of_orders",
        tables=tuple(map(_rename, stream.tables)),
        source=dataclasses.replace(stream.source, table=_rename(stream.source.table)),
    )


SHOP: tuple[Stream, ...] = tuple(stream for stream in load_streams() if stream.name in NAMES)
EVENTS = next(stream for stream in SHOP if isinstance(stream, KafkaStream))


def build_orders(topic: str) -> tuple[Stream, ...]:
    """The stream `orders` over this topic, and two over its table."""
    orders = KafkaStream(dataclasses.replace(EVENTS.topic, name="orders", kafka_topic=topic))
    return (orders, *map(_over_orders, select_derived(SHOP)))


def build_groups(topic: str) -> tuple[StreamGroup, StreamGroup]:
    """The shop's group and that of the orders."""
    return StreamGroup("clickstream", SHOP), StreamGroup("orders", build_orders(topic), "closed_days_orders")


def main() -> int:
    """Drains the group that the command line names, as `headrace drain` does."""
    (group,) = (group for group in build_groups(os.environ[ORDERS_TOPIC]) if group.name == sys.argv[1])
    prepare_environment(load_settings())
    return drain_streams(group, load_settings())


if __name__ == "__main__":
    sys.exit(main())
