"""What `headrace replay` and the job `replay_stream` do: rehearse, make the shadow, compare, swap, undo, abandon."""

from __future__ import annotations

from contextlib import AbstractContextManager

import dagster as dg

from jobs.replay.action import ReplayAction
from jobs.replay.comparison import DIFFERENCE, Comparison, compare_with_live, read_cost
from jobs.replay.rehearsal import build_rehearsal, rehearse
from jobs.replay.shadow import Shadow, fill_shadow, open_shadow
from jobs.replay.swap import abandon, is_half_done, swap_in, undo_swap
from jobs.replay.time_range import RangeReplay, TimeRange, replay_range
from jobs.stream_context import build_stream_context
from jobs.supervision.group_lock import hold_group_lock
from jobs.supervision.held_group import hold_group
from jobs.supervision.terminal import WriteLine
from platform_assets.errors import SettingError
from platform_assets.streaming.specs import StreamGroup
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from resources.spark import SparkResource


def replay_stream(
    group: StreamGroup,
    name: str,
    action: ReplayAction,
    settings: Settings,
    instance: dg.DagsterInstance,
    by: str,
    write: WriteLine,
    within: TimeRange | None = None,
) -> Comparison | None:
    """Does one step of a replay of the stream `name`; returns what the replayed table differs in, where it was looked.

    `rehearse` runs the code of now from a copy of the live state (`jobs.replay.rehearsal`). `compare` makes the shadow
    up to the newest event, beside the live stream, and compares; `swap` does so too, and then holds the group while the
    rest is read and the table and its state are replaced; `undo` takes back the last swap; `abandon` removes shadow and
    rehearsal. With `within` the same for what is final in a range of event time, without a state
    (`jobs.replay.time_range`; not for `rehearse`). The group's run is paused by this where it lives, and resumed at the
    end. Raises `HeadraceError`; what was done is kept, and the same call goes on (a rehearsal begins anew).
    """
    if action == "rehearse" and within is not None:
        raise SettingError("A rehearsal has no range: it goes from where the live state allows to the newest event.")
    stream = next(stream for stream in group.streams if stream.name == name)
    lakehouse = LakehouseResource.from_settings(settings)
    spark = SparkResource.from_settings(settings, app_name=f"replay-{name}")
    # Against a second replay of the stream; the JVM keeps it, so a killed one's writes are over when it is free.
    with (
        hold_group_lock(settings.home, f"replay-{name}", "replay") as lock_fd,
        KafkaResource.from_settings(settings) as kafka,
    ):
        shadow = open_shadow(stream, build_stream_context(settings, kafka, lakehouse, group.streams), lakehouse)
        of_range = RangeReplay(stream, shadow.live, lakehouse)
        if action == "abandon":
            if within is None:
                abandon(shadow)
                lakehouse.remove_folder(build_rehearsal(shadow).folder)
            else:
                of_range.abandon()
            write(f"replay {name}: abandoned, nothing is left of it.")
            return None
        found = None

        def is_cut_short() -> bool:
            return is_half_done(shadow) or of_range.is_half_done()

        def held() -> AbstractContextManager[None]:
            reason = f"replay of {name}; call it again if it has ended"
            return hold_group(group, "replay", settings, instance, by, reason, is_cut_short)

        with spark.running((lock_fd,)) as session:
            if within is not None:
                return replay_range(
                    session, of_range, action, within, held, lambda line: write(f"replay {name}: {line}")
                )
            if action == "rehearse":
                rehearsal = build_rehearsal(shadow)
                found = rehearse(session, spark.jvm_pid, rehearsal, write, settings.stop_grace_seconds)
                _tell(rehearsal, found, write)
                return found
            if action == "undo":
                with held():
                    version = undo_swap(session, shadow)
                write(f"replay {name}: undone; version {version} has the rows from before the swap.")
                return None
            if not is_half_done(shadow):
                fill_shadow(session, spark.jvm_pid, shadow, write, settings.stop_grace_seconds)
                found = compare_with_live(session, shadow)
                _tell(shadow, found, write)
            if action == "swap":
                with held():
                    if not is_half_done(shadow):
                        fill_shadow(session, spark.jvm_pid, shadow, write, settings.stop_grace_seconds)
                    version = swap_in(session, shadow)
                write(
                    f"replay {name}: version {version} of {stream.main_table.name} has the replayed rows, and the "
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
            "to promote it deploy this code: the live stream goes on from its own state with it. For rows of before: "
            f"{command} --range --swap (undone by --undo)."
        )
    else:
        say(f"put it in the place of the live table: {command} --swap; remove it: --abandon")
