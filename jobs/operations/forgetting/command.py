"""What `headrace forget-user` does: drain, erase, drain, VACUUM, compute again, prove."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from jobs.operations.forgetting.alerts import erase_alerts, remove_files
from jobs.operations.forgetting.proof import Proof, search_files
from jobs.operations.forgetting.published import publish_erasure
from jobs.operations.forgetting.readers import wait_for_readers
from jobs.operations.forgetting.sinks import follow_erasure
from jobs.operations.forgetting.topics import build_erasers, list_without_users
from jobs.operations.forgetting.waiting import list_what_waits
from jobs.operations.replay.shadow import FOLDER
from jobs.supervision.application import borrow_application
from jobs.supervision.held_group import hold_group
from jobs.supervision.host import Application, host_group
from jobs.supervision.owned_groups import OwnedGroups, own_groups
from jobs.supervision.stream_context import build_stream_context
from jobs.supervision.terminal import Terminal, WriteLine
from platform_assets.errors import InterruptedByUserError, UsageError
from platform_assets.fraud.alerts_page import ALERTS_PAGE
from platform_assets.streaming.register.forgotten_users import Register, new_row, put_erasure
from platform_assets.streaming.register.found_traces import NOTHING_ELSE, AlsoErased, Traces, UnsureRecord
from platform_assets.streaming.stream_spec import Stream, StreamGroup, select_derived, select_ingest
from resources.duckdb import DuckDBResource
from resources.kafka import KafkaResource
from resources.kafka_topics import read_retention
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from resources.spark.session import SparkResource

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from platform_assets.streaming.context import StreamContext

# Twice while the groups rest. What is left of years of windows is repaired while the streams run.
_REPAIR_SECONDS = 15.0
# The same text for each user, so that the next call takes over a group that an erasure left half done.
_PAUSED_FOR = "a user is being forgotten; if that has ended, call it again for the same user"


@dataclass(frozen=True)
class Forgotten:
    """The outcome: `rows` removed by table, the proof by the files, and `waits`: sentences on what nobody can hurry.

    `unsure`: what mentions the user and stays until somebody has looked at it.
    """

    rows: Mapping[str, int]
    proof: Proof
    waits: tuple[str, ...]
    unsure: tuple[UnsureRecord, ...]


class Erasure:
    """Erases one user while all groups rest: first `take_out`, then `remove_files` when nobody reads the old files."""

    def __init__(
        self,
        user: str,
        streams: Sequence[Stream],
        context: StreamContext,
        by: str,
        reason: str,
        also: AlsoErased = NOTHING_ELSE,
    ) -> None:
        self._user = user
        self._also = also
        self._register = Register(context)
        self._erasers = build_erasers(user, self._register.hash(user), streams, context)
        self._row = self._register.row_of(user) or new_row(by, reason, datetime.now(UTC))

    def take_out(
        self, session: SparkSession, drain: Callable[[], None], write: WriteLine
    ) -> tuple[list[Traces], dict[str, int]]:
        """Erases the rows; `drain` lets every stream over accepted records read all of them.

        Returns what was found of each topic that has users, and the erased rows by table.
        """
        write("the streams read what there is")
        drain()
        self._register.write(self._user, {**self._row, "erased_at": None})
        found, rows = [], Counter[str]()
        for table, eraser in self._erasers.items():
            found.append(eraser.find_traces(self._also))
            rows.update(eraser.erase(session, found[-1]))
            if (commit := eraser.find_erasing_commit()) is not None:
                self._row = put_erasure(self._row, table, *commit)
        # With the rest of the row: from here on the account of the streams needs it.
        self._register.write(self._user, {**self._row, "erased_at": None})
        write(f"{sum(rows.values()):,} rows are taken out; the streams pass them")
        drain()
        return found, dict(rows)

    def remove_files(self, demand: Callable[[], None]) -> None:
        """Runs VACUUM and marks the erasure as done. `demand` raises where the groups are not ours any more."""
        for eraser in self._erasers.values():
            demand()  # a file that another host is about to commit would go too
            eraser.vacuum()
        self._register.write(self._user, {**self._row, "erased_at": datetime.now(UTC)})


def forget_user(
    groups: Sequence[StreamGroup],
    user: str,
    settings: Settings,
    instance: dg.DagsterInstance,
    by: str,
    reason: str,
    wait_seconds: float,
    write: WriteLine,
    also: AlsoErased,
    compute_changed_days: Callable[[dg.DagsterInstance, LakehouseResource], bool],
) -> Forgotten:
    """Erases all rows of one user, and what mentions the user if it is told to; keeps the user out from then on.

    The groups rest while rows and files are removed, and are resumed; what is summed up of the user's days is computed
    again while they run. Batch runs that may read the old files are stopped when `wait_seconds` are over. Cut short,
    the groups stay paused, and the same call does the rest; a call for a user who is forgotten does it all again.
    `compute_changed_days` computes reports of days that have changed, and says whether all could be. Raises
    `HeadraceError`; `UsageError` for an empty name.
    """

    def say(line: str) -> None:
        write(f"forget-user: {line}")

    if not user.strip():
        raise UsageError("Name the user whose rows are to be erased.")
    streams = [stream for group in groups for stream in group.streams]
    derived = select_derived(streams)
    for line in list_without_users(streams):
        say(line)
    lakehouse = LakehouseResource.from_settings(settings)
    with KafkaResource.from_settings(settings) as kafka, ExitStack() as held:
        # A replay writes rows too. The JVM keeps its locks: a killed one's writes are over when they are free.
        replays = held.enter_context(own_groups([f"replay-{s.name}" for s in streams], "forget", settings, instance))
        owned: list[OwnedGroups] = []

        def demand() -> None:
            for each in owned:
                each.demand()

        context = build_stream_context(settings, kafka, lakehouse, streams, check_lease=demand)
        context = replace(context, repair_seconds=_REPAIR_SECONDS)
        for each in context.ingest.values():
            read_retention(kafka, each.topic)  # a right that is missing for this is told before anything is erased
        with ExitStack() as rest:
            for group in groups:
                holding = hold_group(
                    group, "forget", settings, instance, by, _PAUSED_FOR, lambda: Register(context).is_half_done()
                )
                owned.append(rest.enter_context(holding))
            erasure = Erasure(user, streams, context, by, reason, also)
            spark = SparkResource.from_settings(settings, app_name="forget-user")
            with spark.running(replays.lock_fds) as session:

                def drain() -> None:
                    _drain(lambda: borrow_application(session, spark.jvm_pid, derived, context), settings, write)

                found, rows = erasure.take_out(session, drain, say)
            left = follow_erasure(groups, settings, lakehouse, demand, say)
            left += publish_erasure(groups, settings, kafka, lakehouse, demand, say)
            if alerts := erase_alerts(lakehouse, DuckDBResource.from_settings(settings), user):
                say(f"{alerts:,} alerts on the user are taken out")
            replays.demand()
            lakehouse.folder.remove(FOLDER)
            wait_for_readers(instance, wait_seconds, say)
            lakehouse.folder.remove(ALERTS_PAGE)
            erasure.remove_files(demand)
            remove_files(lakehouse)
        waits = (*list_what_waits(found, select_derived(streams), context, kafka), *left)
    say("the streams go on; reports of the user's days are computed again")
    if not compute_changed_days(instance, lakehouse):
        waits = (
            *waits,
            "Reports of some days could not be computed: see the run in the UI. They still count the user.",
        )
    say("all files are read for the proof")
    unsure = tuple(record for traces in found for record in traces.unsure)
    proof = search_files(lakehouse, user, [stream.topic for stream in select_ingest(streams)], context.schemas)
    return Forgotten(rows, proof, waits, unsure)


def _drain(
    open_application: Callable[[], AbstractContextManager[Application]], settings: Settings, write: WriteLine
) -> None:
    port, grace = Terminal("forget-user", write), settings.stop_grace_seconds
    if not host_group(open_application, port, grace_seconds=grace, bounded=True).finished:
        raise InterruptedByUserError("Interrupted. Call it again for the same user: it does the rest.")
