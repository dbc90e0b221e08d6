"""`headrace requeue`: re-ingests quarantined records with the current parser, after the cause was fixed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import dagster as dg

from jobs.operations.questions import parse_moment
from jobs.supervision.held_group import hold_group
from jobs.supervision.stream_context import build_stream_context
from platform_assets.streaming.repair.requeue import RecordFilter, Requeue, Requeuer
from platform_assets.streaming.stream_spec import StreamGroup
from platform_assets.tables.coordinates import Coordinates
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings


def build_record_filter(
    reasons: Sequence[str], since: str | None, until: str | None, offsets: Sequence[str]
) -> RecordFilter:
    """Reads what a person has typed. Raises `UsageError` for a time or a place that cannot be read."""
    return RecordFilter(
        frozenset(reasons),
        parse_moment("--since", since),
        parse_moment("--until", until),
        frozenset(map(Coordinates.parse, offsets)),
    )


def requeue_records(
    group: StreamGroup,
    record_filter: RecordFilter,
    settings: Settings,
    instance: dg.DagsterInstance,
    by: str,
    *,
    accept: bool,
) -> Requeue:
    """Says what would become of the chosen records; with `accept` ingests those that the current parser accepts.

    The group rests meanwhile: its run is paused where one lives, and resumed. The streams then read what was taken in,
    as late events where it is late. An earlier call that was cut short is finished first. Raises `HeadraceError`.
    """
    lakehouse = LakehouseResource.from_settings(settings)
    with KafkaResource.from_settings(settings) as kafka:
        context = build_stream_context(settings, kafka, lakehouse, group.ingest)
    if not accept:
        now = datetime.now(UTC)
        requeuers = (Requeuer(stream, context) for stream in group.ingest)
        return _sum_up(portion for each in requeuers for portion in each.plan_portions(record_filter, by, now))
    with hold_group(group, "requeue", settings, instance, by, "quarantined records are re-ingested") as owned:
        context = replace(context, check_lease=owned.demand)
        planned = []
        for stream in group.ingest:
            requeuer = Requeuer(stream, context)
            requeuer.finish()
            for portion in requeuer.plan_portions(record_filter, by, datetime.now(UTC)):
                requeuer.commit(portion)
                planned.append(portion)
    return _sum_up(planned)


def describe_taken(group: str, found: Requeue) -> str:
    """What was taken in of a group's topics, as a phrase."""
    return f"{group}: {found.count('accepted'):,} accepted, {found.count('deduplicated'):,} repeated"


def _sum_up(requeues: Iterable[Requeue]) -> Requeue:
    """Adds up those of all topics of a group."""
    marks, refused = [], Counter[str]()
    for requeue in requeues:
        marks += requeue.marks
        refused.update(requeue.refused)
    return Requeue(marks, refused)
