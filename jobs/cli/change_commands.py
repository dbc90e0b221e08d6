"""The command `headrace remove-absent`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from jobs.cli.reason_option import KEPT, reason_option
from jobs.cli.shown_text import show
from resources.settings import load_settings

if TYPE_CHECKING:
    from resources.lakehouse import LakehouseResource
    from resources.settings import Settings

_SHOWN = 10


@click.command("remove-absent")
@click.argument("name", metavar="TOPIC")
@click.option("--send", is_flag=True, help="Send a delete event for each such row to the topic.")
@reason_option(f"With --send: {KEPT[0].lower()}{KEPT[1:]}")
def remove_absent(name: str, send: bool, reason: str) -> None:
    """Show current rows that a snapshot did not contain.

    It is the newest complete one of Debezium. Such rows were deleted while Debezium was away. --send has them deleted.
    More in docs/change-events.md.
    """
    from jobs.operations.audit import audited, describe_act
    from resources.lakehouse import LakehouseResource

    settings = load_settings()
    lakehouse = LakehouseResource.from_settings(settings)
    act = describe_act("remove-absent", reason, {"topic": name}) if send else None
    with audited(lakehouse, act) as outcome:
        sent = _remove_absent(name, send, settings, lakehouse)
        outcome.detail = f"{sent:,} deletes sent"


def _remove_absent(name: str, send: bool, settings: Settings, lakehouse: LakehouseResource) -> int:
    """Shows what is absent, and sends its deletes where that is asked for; returns how many."""
    from jobs.operations import absent_rows as operation
    from jobs.simulator.producer import PRODUCER_OPTIONS
    from platform_assets.streams import load_streams
    from resources.duckdb import DuckDBResource
    from resources.embedded.broker import running_broker
    from resources.kafka import KafkaResource

    stream, current = operation.choose_streams(load_streams(), name)
    changes, table = (lakehouse.find_table(each.name) for each in (stream.tables[0], current.main_table))
    absent = None
    if changes is not None and table is not None:
        with DuckDBResource.from_settings(settings).connected() as connection:
            absent = operation.find_absent(connection, current, changes, table)
    if absent is None:
        print(f"{name}: no snapshot was read to its end, so nobody can say which rows it would have contained.")
        return 0
    count = f"{len(absent.keys):,} rows of {current.main_table.name} are older, and it did not contain them"
    print(f"{name}: the newest complete snapshot was taken at {absent.taken_at:%Y-%m-%d %H:%M:%S} UTC; {count}.")
    for key in absent.keys[:_SHOWN]:
        print(show(f"  {', '.join(f'{field}={value}' for field, value in key.items())}"))
    if not send or not absent.keys:
        return 0
    topic = stream.topic.kafka_topic or settings.topic
    with running_broker(settings), KafkaResource.from_settings(settings) as kafka:
        operation.send_deletes(kafka.producer(**PRODUCER_OPTIONS), topic, operation.build_deletes(stream.topic, absent))
    print(f"{len(absent.keys):,} deletes were sent to {topic}; the group takes them in with its next batches.")
    return len(absent.keys)
