"""Copies a lakehouse with its checkpoints to another place, and back: for a bad day, or to move to another root.

Tables and checkpoints belong together: a table that is ahead of its checkpoint by more than one batch is refused by the
streams. So no group may run while a copy is made, or completed. Reports may: of each table its log is copied before its
files, and a file that a log names stays for a day at least.

The audit log of a place that is restored into stays, and gets the rows of the backup's: who restored it is in it then.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jobs.operations.audit import add_audit_rows, leave_out_secrets
from jobs.operations.lakehouse_copy import LOG, CopiedFile, LakehouseCopy, copy_file, find_damage, write_file_list
from jobs.supervision.held_group import own_resting_groups
from jobs.supervision.owned_groups import own_groups
from platform_assets.errors import StorageError, UsageError
from platform_assets.kept_backups import MANIFEST, OWN_FILES, Manifest, read_manifest, write_manifest
from platform_assets.object_store import find_trouble_of_a_place
from platform_assets.store_errors import find_store_error
from platform_assets.streaming.delta.delta_tables import open_table
from platform_assets.streaming.stream_spec import StreamGroup
from platform_assets.tables.platform import AUDIT_LOG
from resources.lakehouse import LakehouseResource

if TYPE_CHECKING:
    import dagster as dg

    from resources.settings import Settings

__all__ = [
    "MANIFEST", "LiveBackup", "back_up", "back_up_live", "copy_file", "naming_disk_errors", "open_place", "read_tables",
    "restore",
]  # fmt: skip


@dataclass(frozen=True)
class LiveBackup:
    """A backup that was made while streams ran: its manifest, and for how long no group was allowed to run."""

    manifest: Manifest
    rest_seconds: float


@contextmanager
def naming_disk_errors(place: str) -> Iterator[None]:
    """Has an error of a disk, a store or a table's log say in one line which backup it ended, and why.

    Raises `StorageError` or, for a store that does not answer, `StoreUnavailableError`. Arrow's texts about a store may
    hold an address with a key: of these only the type is told.
    """
    from deltalake.exceptions import DeltaError

    try:
        yield
    except (OSError, DeltaError) as error:
        known = find_store_error(place, str(error))
        why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        at = f", {error.filename}" if isinstance(error, OSError) and error.filename else ""
        said = (
            f"The backup {leave_out_secrets(place)} has not come to its end: {why}{at}. Put that right, and begin anew."
        )
        raise known or StorageError(said) from error


def back_up(groups: Sequence[StreamGroup], settings: Settings, place: str) -> dict[str, int]:
    """Copies the lakehouse to an empty `place` (a path or URI); returns the tables' versions there.

    Raises `GroupOwnedError` while one of the groups runs on any host, `StorageError` when the place is not empty or the
    copy does not read, `UsageError` for a place within the lakehouse. A copy that was cut short can't be restored:
    remove it.
    """
    source, target = LakehouseResource.from_settings(settings), open_place(place, settings)
    with naming_disk_errors(place):
        with own_groups([group.name for group in groups], "backup", settings) as owned:
            _demand_place(source, target)
            copy, created_at = LakehouseCopy(source.folder, target.folder), datetime.now(UTC)
            copy.complete()
            owned.demand()  # a copy of tables that somebody wrote meanwhile is none
        return _finish(copy.files, source, target, created_at).tables


def back_up_live(
    groups: Sequence[StreamGroup], settings: Settings, place: str, instance: dg.DagsterInstance
) -> LiveBackup:
    """Does as `back_up` while streams run. They rest only while what is new since its start is copied.

    The supervisor starts them again afterwards, however this process ends. Raises as `back_up`, and `StorageError`
    before anything is copied where the place has too little space.
    """
    source, target = LakehouseResource.from_settings(settings), open_place(place, settings)
    _demand_place(source, target)
    _demand_space(source, target, settings)
    copy = LakehouseCopy(source.folder, target.folder)
    copy.approach()
    with own_resting_groups([group.name for group in groups], "nightly-backup", settings, instance) as owned:
        created_at, begun = datetime.now(UTC), time.monotonic()
        copy.complete()
        owned.demand()
        rest_seconds = time.monotonic() - begun
    return LiveBackup(_finish(copy.files, source, target, created_at), rest_seconds)


def restore(groups: Sequence[StreamGroup], settings: Settings, place: str) -> dict[str, int]:
    """Copies a backup to where the settings have the lakehouse, which must be empty; returns the tables' versions.

    Only an audit log may be there: it gets the backup's rows, and is not among the versions.

    Errors as `back_up`; also `StorageError` for a place without a whole backup, and for one with a damaged file. The
    streams go on where they were when it was made, as long as Kafka holds what came since.
    """
    source, target = open_place(place, settings), LakehouseResource.from_settings(settings)
    with naming_disk_errors(place), own_groups([group.name for group in groups], "restore", settings) as owned:
        wanted = demand_manifest(source).tables
        target.check_writable()
        _demand_empty(target, but=_AUDIT_FOLDER)
        owned.demand()
        copy = LakehouseCopy(source.folder, target.folder, but=_AUDIT_FOLDER)
        copy.complete()
        if damage := find_damage(source.folder, copy.files, lambda path: not path.startswith(_AUDIT_FOLDER)):
            raise StorageError(
                f"{place} is not what was written there. {damage[0]} Remove what is in {target.root_uri} now, and "
                "restore another backup."
            )
        add_audit_rows(source, target)
        wanted.pop(AUDIT_LOG.name, None)
        versions = {name: table.version() for name, table in read_tables(target).items() if name != AUDIT_LOG.name}
        if versions != wanted:
            raise StorageError(f"{place} is not the backup that its {MANIFEST} describes: {versions}, not {wanted}.")
    return versions


_AUDIT_FOLDER = f"{AUDIT_LOG.name.replace('.', '/')}/"


def open_place(place: str, settings: Settings) -> LakehouseResource:
    """A place as a lakehouse, which is what a backup is. Raises `UsageError` for one that has a log-in, or is none."""
    if trouble := find_trouble_of_a_place(place, settings.storage_options):
        raise UsageError(f"The place of a backup {trouble}.")
    return LakehouseResource.from_settings(settings.model_copy(update={"lakehouse": place}))


def demand_manifest(lakehouse: LakehouseResource) -> Manifest:
    """What a backup says of itself. Raises `StorageError` where there is no whole one."""
    manifest = read_manifest(lakehouse.folder)
    if manifest is None:
        raise StorageError(f"{lakehouse.root_uri} holds no whole backup: it has no {MANIFEST}, which is written last.")
    return manifest


def read_tables(lakehouse: LakehouseResource) -> dict[str, Any]:
    """The tables of a copy, opened, by name. Raises `StorageError` when one of their files is missing."""
    options, found = lakehouse.storage_options(), {}
    there = set(lakehouse.folder.list_files(""))
    for path in sorted({path.partition(LOG)[0] for path in there if LOG in path}):
        table = open_table(f"{lakehouse.root_uri}/{path}", options)
        # Paths as the log has them: in a URI they would be quoted.
        missing = [name for name in table.to_pyarrow_dataset().files if f"{path}/{name}" not in there]
        if missing:
            raise StorageError(f"The copy of {path} lacks {missing[0]}: remove the copy and make another.")
        found[path.replace("/", ".")] = table
    return found


def _finish(
    files: Mapping[str, CopiedFile], source: LakehouseResource, target: LakehouseResource, created_at: datetime
) -> Manifest:
    """Opens each table of the copy, and makes it a whole backup."""
    tables = read_tables(target)
    write_file_list(target.folder, files)
    manifest = Manifest(
        {name: table.version() for name, table in tables.items()},
        created_at,
        source.root_uri,
        {name: table.to_pyarrow_dataset().count_rows() for name, table in tables.items()},
        sum(file.size for file in files.values()),
    )
    write_manifest(target.folder, manifest)
    return manifest


def _demand_place(source: LakehouseResource, target: LakehouseResource) -> None:
    """Raises where no backup of the source can begin: within it, where nothing can be written, or where files are."""
    _demand_apart(source, target)
    target.check_writable("name another place")
    _demand_empty(target)


def _demand_empty(lakehouse: LakehouseResource, but: str = "") -> None:
    """Raises where there are files, except in the folder `but`."""
    if any(not but or not path.startswith(but) for path in lakehouse.folder.list_files("")):
        raise StorageError(f"{lakehouse.root_uri} is not empty: nothing was copied. Name an empty place.")


def _demand_apart(source: LakehouseResource, target: LakehouseResource) -> None:
    """Raises for a place that the next backup would copy into itself, through a link too."""
    inner, outer = (str(each.local_root.resolve() if each.local_root else each.root_uri) for each in (target, source))
    if f"{inner}/".startswith(f"{outer}/"):
        raise UsageError(f"{target.root_uri} lies in the lakehouse, {source.root_uri}. Name a place outside of it.")


def _demand_space(source: LakehouseResource, target: LakehouseResource, settings: Settings) -> None:
    """Raises before a disk is filled: it may be the one on which the streams write."""
    free = target.free_bytes()
    if free is None:
        return
    needed = sum(state.size for path, state in source.folder.find_files().items() if path not in OWN_FILES)
    needed += settings.min_free_mib << 20
    if free < needed:
        raise StorageError(
            f"{target.root_uri} has {free >> 20:,} MiB free, and a backup needs {needed >> 20:,} with "
            "HEADRACE_MIN_FREE_MIB. Nothing was copied: free space there, or name another place."
        )
