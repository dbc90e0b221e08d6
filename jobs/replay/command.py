"""What `headrace replay` and the job `replay_stream` do: make the shadow, show the difference, swap, undo, abandon."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import dagster as dg

from jobs.replay.comparison import DIFFERENCE, Comparison, compare_with_live, read_cost
from jobs.replay.shadow import Shadow, fill_shadow, open_shadow
from jobs.replay.swap import is_half_done, swap_in, undo_swap
from jobs.stream_context import build_stream_context
from jobs.supervision.group_lock import hold_group_lock, read_lock
from jobs.supervision.lease import write_control
from jobs.supervision.terminal import WriteLine
from platform_assets.errors import GroupOwnedError
from platform_assets.streaming.specs import StreamGroup
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from resources.spark import SparkResource

ReplayAction = Literal["compare", "swap", "undo", "abandon"]
_LOCK_POLL_SECONDS = 0.5


def replay_stream(
    group: StreamGroup,
    name: str,
    action: ReplayAction,
    settings: Settings,
    instance: dg.DagsterInstance,
    by: str,
    write: WriteLine,
) -> Comparison | None:
    """Does one step of a replay of the stream `name`; returns what the replayed table differs in, where it was looked.

    `compare` makes the shadow up to the newest event, beside the live stream, and compares; `swap` does so too, and
    then holds the group while the rest is read and the table and its state are replaced; `undo` takes back the last
    swap; `abandon` removes the shadow. The group's run is paused by this where it lives, and resumed at the end. Raises
    `HeadraceError`; what was done is kept, and the same call goes on.
    """
    stream = next(stream for stream in group.streams if stream.name == name)
    lakehouse = LakehouseResource.from_settings(settings)
    spark = SparkResource.from_settings(settings, app_name=f"replay-{name}")
    # Against a second replay of the stream; the JVM keeps it, so a killed one's writes are over when it is free.
    with (
        hold_group_lock(settings.home, f"replay-{name}", "replay") as lock_fd,
        KafkaResource.from_settings(settings) as kafka,
    ):
        shadow = open_shadow(stream, build_stream_context(settings, kafka, lakehouse, group.streams), lakehouse)
        if action == "abandon":
            lakehouse.remove_folder(shadow.folder)
            write(f"replay {name}: abandoned, nothing is left of it.")
            return None
        found = None
        with spark.running((lock_fd,)) as session:
            if action == "undo":
                with _held(group, shadow, settings, instance, by):
                    version = undo_swap(session, shadow)
                write(f"replay {name}: undone; version {version} has the rows from before the swap.")
                return None
            if not is_half_done(shadow):
                fill_shadow(session, spark.jvm_pid, shadow, write, settings.stop_grace_seconds)
                found = compare_with_live(session, shadow)
                _tell(shadow, found, write)
            if action == "swap":
                with _held(group, shadow, settings, instance, by):
                    if not is_half_done(shadow):
                        fill_shadow(session, spark.jvm_pid, shadow, write, settings.stop_grace_seconds)
                    version = swap_in(session, shadow)
                write(
                    f"replay {name}: version {version} of {stream.main_table.name} has the replayed rows, and the "
                    f"stream goes on from them. To go back: headrace replay {name} --undo"
                )
        return found


@contextmanager
def _held(
    group: StreamGroup, shadow: Shadow, settings: Settings, instance: dg.DagsterInstance, by: str
) -> Iterator[None]:
    """Holds the group's lock for the block; pauses its run first, where one lives, and resumes the group afterwards.

    It stays paused, with the reason, where the block was cut short half-way through a swap.
    """
    to_pause = read_lock(settings.home, group.name).owner_mode == "run"
    if to_pause:
        write_control(
            instance, group.name, "pause", by, f"replay of {shadow.stream.name}; call it again if it has ended"
        )
        _wait_until_free(group, settings)
    try:
        with hold_group_lock(settings.home, group.name, "replay"):
            yield
    finally:
        if to_pause and not is_half_done(shadow):
            write_control(instance, group.name, "resume", by)


def _wait_until_free(group: StreamGroup, settings: Settings) -> None:
    """The supervisor's next tick asks the run to stop, and its batches in flight may take as long as the grace."""
    limit = settings.supervisor_interval_seconds * 2 + settings.stop_grace_seconds * 2
    deadline = time.monotonic() + limit
    while (lock := read_lock(settings.home, group.name)).held:
        if time.monotonic() > deadline:
            raise GroupOwnedError(
                f"The stream group {group.name} is still owned by {lock.text} after {limit:.0f} s. It is paused now: "
                "is a supervisor running? When it has stopped, call this again."
            )
        time.sleep(_LOCK_POLL_SECONDS)


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
    say(
        f"{found.rows:,} rows of the replay are final, until {found.until:%Y-%m-%d %H:%M:%S} UTC. "
        f"Beside the live table: {found.added:,} added, {found.missing:,} missing, {found.changed:,} changed."
    )
    for row in found.samples:
        say(f"  {row}")
    if found.differences:
        say(f"all of them are in the Delta table {shadow.context.lakehouse_root}/{DIFFERENCE}")
    say(f"put it in the place of the live table: headrace replay {shadow.stream.name} --swap; remove it: --abandon")
