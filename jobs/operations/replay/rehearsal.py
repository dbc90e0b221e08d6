"""Rehearses an upgrade: the current code resumes from a copy of the live state and is compared with the live stream.

The live stream goes on meanwhile with the code that it has. Its checkpoint holds the state of some hundred batches: the
copy is cut at one of them, and what the current code writes from there on is compared with what the live one wrote. So
it takes as long as the batches since, not as long as a history; and it shows whether the code can go on with the state
at all. The table is not copied: rows that neither has written since are the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from jobs.operations.backup import copy_file
from jobs.operations.replay.comparison import (
    DIFFERENCE,
    Comparison,
    compare_rows,
    read_events_between,
    read_states,
    read_table,
)
from jobs.operations.replay.shadow import Shadow, fill_shadow
from jobs.supervision.terminal import WriteLine
from platform_assets.errors import NotReadyError, PlanChangedError
from platform_assets.streaming.checkpoint.checkpoint import Checkpoint
from platform_assets.streaming.delta.delta_tables import open_table, read_commit_infos
from platform_assets.streaming.moments import at_micros
from platform_assets.streaming.repair.table_difference import leave_out_keys, read_pending, select_final
from platform_assets.streaming.result_span import as_moment, has_ended
from platform_assets.tables.platform import LATE_EVENTS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# The rehearsal leaves out this share of the checkpoint's oldest batches: the live query removes them one by one, and
# the copy must be done before it comes to the first that is needed.
_PERCENT_LEFT = 20
# Each batch is at most one commit; others' commits (repairs, upkeep) lie between.
_COMMITS_SEARCHED = 2000
# Files of state are named by their version, which is the batch's number and one: 12.zip, 12.changelog.
_STATE_VERSION = re.compile(r"/state/.*/(\d+)(?:_[^/]*)?\.(?:zip|changelog|delta|snapshot)$")
_BATCH_FILE = re.compile(r"/(?:offsets|commits)/(\d+)$")


@dataclass(frozen=True)
class StartingPoint:
    """A batch that the live query has done: the current code resumes after it.

    `at` is when it was planned, `watermark` what it closed, `table_version` the newest version of the table without
    anything of a later batch.
    """

    batch_id: int
    at: datetime
    watermark: datetime
    table_version: int


def build_rehearsal(shadow: Shadow) -> Shadow:
    """The place of a stream's rehearsal, next to that of its replay."""
    return replace(shadow, suffix=".rehearsal")


def rehearse(
    session: SparkSession, jvm_pid: int | None, shadow: Shadow, write: WriteLine, grace_seconds: float
) -> Comparison | None:
    """Runs the current code from a copy of the live state up to the newest event, and compares. Starts over each time.

    Returns what differs in rows that have become final since the copy; None: nothing has. Raises `NotReadyError`
    while the checkpoint holds too few batches, `PlanChangedError` when the code can't go on with the state, and what
    `fill_shadow` raises. The live table and its state are only read.
    """
    shadow.lakehouse.folder.remove(shadow.folder)
    start = find_starting_point(shadow)
    _copy_checkpoint(shadow, start)
    write(
        f"replay {shadow.stream.name}: the current code resumes from a copy of the state after batch {start.batch_id}, "
        f"{start.at:%Y-%m-%d %H:%M:%S} UTC"
    )
    try:
        fill_shadow(session, jvm_pid, shadow, write, grace_seconds)
    except PlanChangedError as error:
        raise PlanChangedError(
            f"{error} To see what it makes of all events: headrace replay {shadow.stream.name}"
        ) from None
    return _compare(session, shadow, start)


def find_starting_point(shadow: Shadow) -> StartingPoint:
    """The newest point that the live checkpoint's state covers, less a margin.

    Raises `NotReadyError` if the state is too young.
    """
    name = shadow.stream.main_table.name
    checkpoint = Checkpoint.of(shadow.live, name)
    planned, done = checkpoint.list_planned_batches(), checkpoint.read_last_committed_batch()
    if done is None or planned[0] >= done:
        raise NotReadyError(f"{shadow.stream.name} has done too few batches to rehearse with. Try again later.")
    batch_id = planned[0] + (done - planned[0]) * _PERCENT_LEFT // 100
    plan = checkpoint.read_plan(batch_id)
    app = checkpoint.read_txn_app_id(shadow.stream.name)
    table = open_table(shadow.live.table_uri(name), shadow.live.storage_options)
    later = [
        version
        for version, info in read_commit_infos(table, _COMMITS_SEARCHED)
        if info.app == app and info.batch is not None and info.batch > batch_id
    ]
    return StartingPoint(
        batch_id=batch_id,
        at=at_micros(plan.time_micros),
        watermark=at_micros(plan.watermark_micros),
        table_version=min(later) - 1 if later else table.version(),
    )


def _copy_checkpoint(shadow: Shadow, start: StartingPoint) -> None:
    """The live checkpoint as it was after that batch. Raises `NotReadyError` when the live query was faster."""
    files, source = shadow.lakehouse.folder.files, shadow.live_checkpoint_folder
    for path in shadow.lakehouse.folder.list_files(source):
        if _is_needed(path, start.batch_id):
            copy_file(files, files, path, f"{shadow.folder}/{path}")
    left = Checkpoint.of(shadow.live, shadow.stream.main_table.name).list_planned_batches()
    if not left or left[0] > start.batch_id:
        shadow.lakehouse.folder.remove(shadow.folder)
        raise NotReadyError(
            f"The live query of {shadow.stream.name} has removed batch {start.batch_id} before its state was copied. "
            "Try again; where that does not help, pause the stream meanwhile: headrace pause --stream"
        )


def _is_needed(path: str, batch_id: int) -> bool:
    if found := _BATCH_FILE.search(path):
        return int(found[1]) <= batch_id
    if found := _STATE_VERSION.search(path):
        return int(found[1]) <= batch_id + 1
    return not path.rpartition("/")[2].startswith(".")  # half-written files of the live query


def _compare(session: SparkSession, shadow: Shadow, start: StartingPoint) -> Comparison | None:
    """Compares rows that became final since the start, except those that a repaired late event touches.

    The one table is the live one as it was, with what was written since by the current code; the other the live one.
    """
    from pyspark.sql import functions as F

    states = read_states(shadow)
    if states is None:
        return None
    live, replayed = states
    stream = shadow.stream
    until = min(live["watermark"], replayed["watermark"])
    late = read_events_between(session, shadow, live["source_version"], replayed["source_version"], until)
    for context in (shadow.live, shadow.context):
        late = late.union(read_pending(session, context.table_uri(LATE_EVENTS.name), stream, start.at))
    spec = stream.main_table
    written = read_table(session, shadow.context, spec, replayed["table_version"])
    before = read_table(session, shadow.live, spec, start.table_version)
    sides = (
        written.unionByName(leave_out_keys(before, written, stream)),
        read_table(session, shadow.live, spec, live["table_version"]),
    )
    had_ended = F.expr(has_ended(stream.span, "r", as_moment(start.watermark, "spark")))
    rehearsed, kept = (select_final(rows.alias("r").where(~had_ended), late, stream, until) for rows in sides)
    return compare_rows(session, stream, rehearsed, kept, f"{shadow.context.lakehouse_root}/{DIFFERENCE}", until)
