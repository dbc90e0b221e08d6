"""What `headrace replay` and the job `replay_stream` do: rehearse, make the shadow, compare, swap, undo, abandon."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING

import dagster as dg

from jobs.operations.replay.action import ReplayAction
from jobs.operations.replay.comparison import DIFFERENCE, Comparison, compare_with_live, read_cost
from jobs.operations.replay.kafka_range import KafkaReplay
from jobs.operations.replay.rehearsal import build_rehearsal, rehearse
from jobs.operations.replay.row_replay import ReplayScope, RowReplay, replay_rows
from jobs.operations.replay.shadow import Shadow, fill_shadow
from jobs.operations.replay.swap import abandon, is_half_done, swap_in, undo_swap
from jobs.operations.replay.time_range import RangeReplay
from jobs.operations.replay.unknown_fields import UnknownFieldsReplay
from jobs.operations.stream_groups import find_groups
from jobs.supervision.held_group import hold_group
from jobs.supervision.owned_groups import OwnedGroups, own_groups
from jobs.supervision.stream_context import build_stream_context
from jobs.supervision.terminal import WriteLine
from platform_assets.errors import NotReadyError, UsageError
from platform_assets.streaming.engine.query_errors import classifying
from platform_assets.streaming.repair.expiry import warn_of_expired
from platform_assets.streaming.stream_spec import KafkaStream, Stream, StreamGroup, TableStream, select_downstream
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from resources.spark.session import SparkResource

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from platform_assets.streaming.context import StreamContext


def replay_stream(
    groups: Sequence[StreamGroup],
    name: str,
    action: ReplayAction,
    settings: Settings,
    instance: dg.DagsterInstance,
    by: str,
    write: WriteLine,
    scope: ReplayScope | None = None,
) -> Comparison | None:
    """Does one step of a replay of the stream `name`; returns what the replayed table differs in, where it was looked.

    `rehearse` runs the current code from a copy of the live state (`rehearsal`). `compare` makes the shadow
    up to the newest event, while the live stream runs, and compares; `swap` does so too, and then holds the group
    while the rest is read and the table and its state are replaced; `undo` takes back the last swap; `abandon` removes
    shadow and rehearsal. With `scope` the same for what is final in a range of event time, without a state
    (`jobs.operations.replay.time_range`; not for `rehearse`), and always so for a stream over Kafka (`kafka_range`).
    The group's run is paused by this where it lives, and resumed at the end. Raises `HeadraceError`; what was done is
    kept, and the same call goes on (a rehearsal starts over).
    """
    [group] = find_groups(groups, "", name)
    stream = next(stream for stream in group.streams if stream.name == name)
    is_over_kafka = isinstance(stream, KafkaStream)
    derived = select_downstream([stream], group.streams) if isinstance(stream, KafkaStream) else (stream,)
    if action == "rehearse" and (scope is not None or is_over_kafka):
        raise UsageError(
            "A rehearsal goes from where the live state allows to the newest event: it has no range, and a stream over "
            "Kafka has no such state."
        )
    if action == "rehearse" and isinstance(stream, TableStream) and stream.is_latest:
        raise UsageError(f"{name} has no state to go on from, and its rows are never final: compare it as a whole.")
    lakehouse = LakehouseResource.from_settings(settings)
    spark = SparkResource.from_settings(settings, app_name=f"replay-{name}")

    def say(line: str) -> None:
        write(f"replay {name}: {line}")

    with KafkaResource.from_settings(settings) as kafka, ExitStack() as locks:
        # Against a second replay; the JVM keeps them, so a killed one's writes are over when they are free.
        locked = dict.fromkeys([name, *(s.name for s in derived)])
        lock_fds = locks.enter_context(
            own_groups([f"replay-{of}" for of in locked], "replay", settings, instance)
        ).lock_fds
        owned: list[OwnedGroups] = []

        def demand() -> None:
            for each in owned:
                each.demand()

        live = build_stream_context(settings, kafka, lakehouse, group.streams, check_lease=demand)
        shadow, rows = None, _open_row_replay(stream, live, lakehouse, kafka, derived, scope or ReplayScope())
        if isinstance(stream, TableStream):
            shadow = Shadow(stream, live, lakehouse)
            if scope is None and action in ("compare", "swap") and (lost := warn_of_expired(stream, lakehouse)):
                say(lost)
        elif action in ("swap", "undo"):
            _refuse_shadows([Shadow(s, live, lakehouse) for s in derived])
        if action == "abandon":
            if shadow is None or scope is not None:
                rows.abandon()
            else:
                abandon(shadow)
                lakehouse.folder.remove(build_rehearsal(shadow).folder)
            say("abandoned, nothing is left of it.")
            return None

        def is_cut_short() -> bool:
            return rows.is_half_done() or (shadow is not None and is_half_done(shadow))

        @contextmanager
        def hold() -> Iterator[None]:
            reason = f"replay of {name}; call it again if it has ended"
            with hold_group(group, "replay", settings, instance, by, reason, is_cut_short) as held:
                owned.append(held)
                try:
                    yield
                finally:
                    owned.remove(held)

        with spark.running(lock_fds) as session, classifying(f"replay of {name}", live):
            if shadow is None or scope is not None:
                return replay_rows(session, rows, action, hold, say)

            def fill(of: Shadow) -> None:
                fill_shadow(session, spark.jvm_pid, of, write, settings.stop_grace_seconds)

            if action == "rehearse":
                rehearsal = build_rehearsal(shadow)
                found = rehearse(session, spark.jvm_pid, rehearsal, write, settings.stop_grace_seconds)
                _tell(rehearsal, found, write)
                return found
            return _replay_whole(session, shadow, action, fill, hold, write)


def _open_row_replay(
    stream: Stream,
    live: StreamContext,
    lakehouse: LakehouseResource,
    kafka: KafkaResource,
    derived: Sequence[TableStream],
    scope: ReplayScope,
) -> RowReplay:
    if isinstance(stream, KafkaStream):
        replay = UnknownFieldsReplay if scope.unknown_fields else KafkaReplay
        return replay(stream, live, lakehouse, kafka, derived, scope)
    if scope.unknown_fields:
        raise UsageError(f"{stream.name} reads no topic: only tables of accepted records have unknown fields.")
    return RangeReplay(stream, live, lakehouse, scope)


def _refuse_shadows(shadows: Sequence[Shadow]) -> None:
    """A shadow has counted the rows as they were, and would take the list of what must be repaired with it."""
    for shadow in shadows:
        if shadow.exists():
            name = shadow.stream.name
            raise NotReadyError(
                f"A replay of {name} is under way, over the rows that are to be replaced. First end it: "
                f"headrace replay {name} --swap (or --abandon)"
            )


def _replay_whole(
    session: SparkSession,
    shadow: Shadow,
    action: ReplayAction,
    fill: Callable[[Shadow], None],
    hold: Callable[[], AbstractContextManager[None]],
    write: WriteLine,
) -> Comparison | None:
    name, found = shadow.stream.name, None
    if action == "undo":
        with hold():
            version = undo_swap(session, shadow)
        write(f"replay {name}: undone; version {version} has the rows from before the swap.")
        return None
    if not is_half_done(shadow):
        fill(shadow)
        found = compare_with_live(session, shadow)
        _tell(shadow, found, write)
    if action == "swap":
        with hold():
            if not is_half_done(shadow):
                fill(shadow)
            version = swap_in(session, shadow)
        write(
            f"replay {name}: version {version} of {shadow.stream.main_table.name} has the replayed rows, and the "
            f"stream goes on from them. To go back: headrace replay {name} --undo"
        )
    return found


def _tell(shadow: Shadow, found: Comparison | None, write: WriteLine) -> None:
    def say(line: str) -> None:
        write(f"replay {shadow.stream.name}: {line}")

    cost = read_cost(shadow)
    seconds = max(cost["milliseconds"], 1) / 1000
    say(
        f"{cost['rows']:,} rows in {seconds:.1f} s of batches ({cost['rows'] / seconds:,.0f} a second); "
        f"state {cost['state_rows']:,} rows, {cost['state_bytes'] / 1e6:.1f} MB"
    )
    if found is None:
        say("nothing to compare with yet: nothing is final in one of the two tables.")
        return
    is_rehearsal, command = bool(shadow.suffix), f"headrace replay {shadow.stream.name}"
    for line in found.describe():
        say(line)
    if found.differences:
        say(f"all of them are in the Delta table {shadow.context.lakehouse_root}/{DIFFERENCE}")
    if is_rehearsal:
        say(
            "to promote it deploy this code: the live stream goes on from its own state with it. For older rows: "
            f"{command} --range --swap (undone by --undo)."
        )
    else:
        say(f"put it in the place of the live table: {command} --swap; remove it: --abandon")
