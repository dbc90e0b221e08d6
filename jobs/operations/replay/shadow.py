"""A stream's shadow: the table, state and accounts that the current code makes from all events, next to the live ones.

It lies under `<root>/_replays/<stream>` and is written by the same engine as a drain, so what is swapped in has a
checkpoint from which the live stream goes on. It reads what the live stream reads, where that lies. Files and commits
that upkeep takes away are there for six hours more at least: a replay must be done in that time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jobs.supervision.application import borrow_application
from jobs.supervision.fingerprint import hash_code
from jobs.supervision.host import host_group
from jobs.supervision.terminal import Terminal, WriteLine
from platform_assets.errors import InterruptedByUserError
from platform_assets.streaming.stream_spec import TableStream
from platform_assets.tables.platform import FORGOTTEN_USERS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from platform_assets.streaming.context import StreamContext
    from resources.lakehouse import LakehouseResource

FOLDER = "_replays"
_DESCRIPTION = "replay.json"


@dataclass(frozen=True)
class Shadow:
    """The place where a replay of `stream` writes (`context`), and what it is to replace (`live`)."""

    stream: TableStream
    live: StreamContext
    lakehouse: LakehouseResource
    suffix: str = ""
    """Of the folder's name: a rehearsal has a folder of its own."""

    @property
    def folder(self) -> str:
        """The shadow's folder, relative to the lakehouse's root."""
        return f"{FOLDER}/{self.stream.name}{self.suffix}"

    @property
    def context(self) -> StreamContext:
        """The live context with another root; it publishes nothing. Users who are forgotten stay forgotten."""
        in_place = (self.stream.source.table.name, FORGOTTEN_USERS.name)
        return replace(
            self.live,
            lakehouse_root=f"{self.live.lakehouse_root}/{self.folder}",
            read_in_place={name: self.live.table_uri(name) for name in in_place},
            publish_topics=frozenset(),
            idle_timeout_seconds=None,
            check_lease=None,
        )

    @property
    def live_checkpoint_folder(self) -> str:
        """The checkpoint folder of the live query, relative to the root."""
        return f"_checkpoints/{self.stream.main_table.name.replace('.', '/')}"

    @property
    def checkpoint_folder(self) -> str:
        """The checkpoint folder of the shadow's query, relative to the root."""
        return f"{self.folder}/{self.live_checkpoint_folder}"

    def exists(self) -> bool:
        """Whether a replay has begun and was neither swapped in nor abandoned."""
        return self.lakehouse.folder.read_file(f"{self.folder}/{_DESCRIPTION}") is not None


def fill_shadow(session: SparkSession, jvm_pid: int | None, shadow: Shadow, write: WriteLine, grace: float) -> None:
    """Reads all that the source has now into the shadow, from where an earlier call has come to.

    A shadow that other code has begun is begun anew. Raises what a query dies of, and `InterruptedByUserError`; what
    was done by then is kept.
    """
    begun_by = json.dumps({"code": hash_code()}).encode()
    description = f"{shadow.folder}/{_DESCRIPTION}"
    if shadow.lakehouse.folder.read_file(description) not in (None, begun_by):
        write(f"{shadow.folder} was made by other code: it is begun anew.")
        shadow.lakehouse.folder.remove(shadow.folder)
    shadow.lakehouse.folder.write_file(description, begun_by)
    end = host_group(
        lambda: borrow_application(session, jvm_pid, [shadow.stream], shadow.context),
        Terminal(f"replay {shadow.stream.name}", write),
        grace_seconds=grace,
        bounded=True,
    )
    if not end.finished:
        raise InterruptedByUserError("The replay was interrupted. What is done is kept; the same command goes on.")
