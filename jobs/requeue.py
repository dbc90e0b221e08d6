"""`headrace requeue`: quarantined records through the parser of now, after the cause was mended."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg

from jobs.stream_context import build_stream_context
from jobs.supervision.held_group import hold_group
from platform_assets.errors import SettingError
from platform_assets.streaming.requeue import Choice, Requeue, Requeuer
from platform_assets.streaming.specs import KafkaSource, StreamGroup
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings


def build_choice(reasons: list[str], since: str | None, until: str | None, offsets: list[str]) -> Choice:
    """From what a person has typed. Raises `SettingError` for a time or a place that cannot be read."""
    places = set()
    for text in offsets:
        topic, _, rest = text.partition("/")
        partition, _, offset = rest.partition("/")
        if not (topic and partition.isdigit() and offset.isdigit()):
            raise SettingError(f"--offset {text}: write it as topic/partition/offset, for instance shop/0/42.")
        places.add((topic, int(partition), int(offset)))
    moments = [_parse_moment(name, text) for name, text in (("--since", since), ("--until", until))]
    return Choice(frozenset(reasons), moments[0], moments[1], frozenset(places))


def requeue_records(
    group: StreamGroup,
    choice: Choice,
    settings: Settings,
    instance: dg.DagsterInstance,
    by: str,
    *,
    accept: bool,
) -> Requeue:
    """Says what would become of the chosen records; with `accept` takes in those that the parser of now accepts.

    The group rests meanwhile: its run is paused where one lives, and resumed. The streams then read what was taken in,
    as late events where it is late. An earlier call that was cut short is finished first. Raises `HeadraceError`.
    """
    (stream,) = (stream for stream in group.streams if isinstance(stream.source, KafkaSource))
    lakehouse = LakehouseResource.from_settings(settings)
    with KafkaResource.from_settings(settings) as kafka:
        context = build_stream_context(settings, kafka, lakehouse)
    if not accept:
        return Requeuer(stream, context).plan(choice, by, datetime.now(UTC))
    with hold_group(group, "requeue", settings, instance, by, "quarantined records are taken in again"):
        requeuer = Requeuer(stream, context)
        requeuer.finish()
        planned = requeuer.plan(choice, by, datetime.now(UTC))
        requeuer.commit(planned)
    return planned


def _parse_moment(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SettingError(f"{name} {text}: write it as ISO-8601, for instance 2026-03-01T12:00:00Z.") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
