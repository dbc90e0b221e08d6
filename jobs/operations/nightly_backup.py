"""The nightly backup: made while streams run, restored for a trial, and only then are older ones removed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from jobs.operations.backup import (
    LiveBackup,
    back_up_live,
    demand_manifest,
    naming_disk_errors,
    open_place,
    read_tables,
)
from jobs.operations.dagster_dump import dump_dagster
from jobs.operations.lakehouse_copy import LakehouseCopy, find_damage
from jobs.supervision.owned_groups import own_groups
from platform_assets.checks.ledger import audit_stream
from platform_assets.errors import HeadraceError, SettingError, StorageError
from platform_assets.folders import Folder
from platform_assets.kept_backups import (
    MANIFEST,
    KeptBackup,
    Manifest,
    Rehearsal,
    find_superfluous,
    list_backups,
    list_names,
    name_backup,
    write_rehearsal,
)
from platform_assets.streaming.stream_spec import StreamGroup, select_ingest
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource

if TYPE_CHECKING:
    import dagster as dg

    from resources.settings import Settings

# Two nights' backups at once would remove each other's; the lock and the lease under this name hold on every host.
_BACKUPS = "backups"
_MOST_SHOWN = 5


@dataclass(frozen=True)
class Night:
    """What a night came to: the new backup, its rehearsal, which ones were removed, and what is said of Dagster."""

    name: str
    live: LiveBackup
    rehearsal: Rehearsal
    removed: tuple[str, ...]
    dagster: str


def make_nightly_backup(
    groups: Sequence[StreamGroup], settings: Settings, instance: dg.DagsterInstance, say: Callable[[str], None]
) -> Night:
    """Makes a backup below HEADRACE_BACKUP_PLACE, rehearses its restore, and removes older ones if that passed.

    `groups` are all that there are. `say` is told of each step. Raises `SettingError` without a place, `StorageError`
    for a backup that cannot be restored, or without Dagster's storage (nothing is removed then), and what
    `back_up_live` raises. Whenever it ends or is killed the streams go on, and a backup without its manifest is removed
    by a later night.
    """
    if not settings.backup_place:
        raise SettingError("HEADRACE_BACKUP_PLACE is not set: say there where nightly backups are to lie.")
    with ExitStack() as held:
        held.enter_context(own_groups([_BACKUPS], "nightly-backup", settings, instance))
        name = name_backup(datetime.now(UTC))
        place = f"{settings.backup_place.rstrip('/')}/{name}"
        held.enter_context(naming_disk_errors(place))
        live = back_up_live(groups, settings, place, instance)
        say(f"{name}: {len(live.manifest.tables)} tables; the streams rested for {live.rest_seconds:.1f} s.")
        rehearsal = rehearse(groups, settings, name)
        if not rehearsal.passed:
            shown = "\n".join(rehearsal.breaches[:_MOST_SHOWN])
            raise StorageError(f"The backup {place} was restored for a trial and is not what was copied:\n{shown}")
        say(f"{name} was restored for a trial in {rehearsal.seconds:.0f} s: it is whole.")
        # A server that pg_dump does not know must not keep the tables' backup from being proved.
        dagster = dump_dagster(instance, open_place(place, settings).folder)
        say(dagster)
        removed = remove_superfluous(open_place(settings.backup_place, settings).folder, settings.backups_kept, name)
    return Night(name, live, rehearsal, tuple(removed), dagster)


def rehearse(groups: Sequence[StreamGroup], settings: Settings, name: str) -> Rehearsal:
    """Restores the backup of this name into a folder of its own, judges what is there, and removes it again.

    Each file is compared with the digest of what was copied, each table with the manifest, and the ledger of each
    topic is balanced there, with the checkpoint of its query. The verdict is kept with the backup. Raises
    `StorageError` without a whole backup or space for a second copy, and what Kafka and the store raise.
    """
    place = open_place(settings.backup_place, settings).folder
    source = open_place(f"{settings.backup_place.rstrip('/')}/{name}", settings)
    manifest, begun = demand_manifest(source), time.monotonic()
    scratch = open_place(str(settings.home / "backup_rehearsal"), settings)
    scratch.folder.remove("")  # of a rehearsal that was killed
    try:
        _demand_space(scratch, manifest, settings)
        copy = LakehouseCopy(source.folder, scratch.folder)
        copy.complete()
        # A damaged file is not opened: readers end in ways of their own.
        damage = find_damage(source.folder, copy.files, lambda path: True)
        breaches = damage or _judge(groups, manifest, scratch, settings)
    finally:
        scratch.folder.remove("")
    rehearsal = Rehearsal(datetime.now(UTC), tuple(breaches), time.monotonic() - begun)
    write_rehearsal(place, name, rehearsal)
    return rehearsal


def remove_superfluous(place: Folder, kept: int, proved: str) -> list[str]:
    """Removes all but the newest `kept` whole backups, and what was cut short before; returns the names of these.

    `proved` is the backup that was restored just now: it stays, whatever the clocks of other nights have said.
    """
    whole = [backup.name for backup in list_backups(place) if _counts(backup)]
    found = find_superfluous(list_names(place), whole, kept, proved)
    for name in found:
        place.remove(f"{name}/{MANIFEST}")  # half of it must not be taken for a whole one
        place.remove(name)
    return found


def _counts(backup: KeptBackup) -> bool:
    """One that failed its rehearsal is not among those that are kept, and goes with the next one that passes."""
    return backup.rehearsal is None or backup.rehearsal.passed


def _demand_space(scratch: LakehouseResource, manifest: Manifest, settings: Settings) -> None:
    needed, free = manifest.size_bytes + (settings.min_free_mib << 20), scratch.free_bytes()
    if free is not None and free < needed:
        raise StorageError(
            f"{scratch.root_uri} has {free >> 20:,} MiB free, and to restore the backup for a trial takes "
            f"{needed >> 20:,} with HEADRACE_MIN_FREE_MIB. The backup is there, and no older one was removed."
        )


def _judge(
    groups: Sequence[StreamGroup], manifest: Manifest, restored: LakehouseResource, settings: Settings
) -> list[str]:
    """What is wrong with the restored tables, a line each."""
    try:
        tables = read_tables(restored)
    except HeadraceError as error:
        return [str(error)]
    breaches = []
    for name in sorted(tables.keys() | manifest.tables.keys()):
        wanted = (manifest.tables.get(name), manifest.rows.get(name))
        table = tables.get(name)
        found = (None, None) if table is None else (table.version(), table.to_pyarrow_dataset().count_rows())
        if found != wanted:
            breaches.append(f"{name} has version {found[0]} and {found[1]} rows, and had {wanted[0]} and {wanted[1]}.")
    if breaches:
        return breaches
    with KafkaResource.from_settings(settings) as kafka:
        for stream in select_ingest(stream for group in groups for stream in group.streams):
            if all(table.name in tables for table in stream.tables):
                audit = audit_stream(stream, restored, kafka)
                breaches += [f"{stream.name}: {breach}" for breach in audit.breaches]
    return breaches
