"""Copies a lakehouse with its checkpoints to another place, and back: for a bad day, or to move to another root.

Tables and checkpoints belong together: a table that is ahead of its checkpoint by more than one batch is refused by the
streams. So no group may run meanwhile. Reports may: of each table its log is copied before its files, and a file that a
log names stays for a day at least.

The audit log of a place that is restored into stays, and gets the rows of the backup's: who restored it is in it then.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from jobs.operations.audit import add_audit_rows
from jobs.supervision.owned_groups import own_groups
from platform_assets.errors import StorageError
from platform_assets.folders import make_folder_of
from platform_assets.streaming.delta.delta_tables import open_table
from platform_assets.streaming.stream_spec import StreamGroup
from platform_assets.tables.platform import AUDIT_LOG
from resources.lakehouse import LakehouseResource

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

    from resources.settings import Settings

# Written last: a copy without it was cut short.
MANIFEST = "headrace_backup.json"
_LOG = "/_delta_log/"


def back_up(groups: Sequence[StreamGroup], settings: Settings, place: str) -> dict[str, int]:
    """Copies the lakehouse to an empty `place` (a path or URI); returns the tables' versions there.

    Raises `GroupOwnedError` while one of the groups runs on any host, `StorageError` when the place is not empty or the
    copy does not read. A copy that was cut short can't be restored: remove it.
    """
    source, target = LakehouseResource.from_settings(settings), _open(place, settings)
    with own_groups([group.name for group in groups], "backup", settings) as owned:
        _demand_empty(target)
        _copy(source, target)
        versions = _read_versions(target)
        manifest = {"tables": versions, "root": source.root_uri, "created_at": datetime.now(UTC).isoformat()}
        owned.demand()  # a copy of tables that somebody wrote meanwhile is none
        target.folder.write_file(MANIFEST, json.dumps(manifest, indent=1).encode())
    return versions


def restore(groups: Sequence[StreamGroup], settings: Settings, place: str) -> dict[str, int]:
    """Copies a backup to where the settings have the lakehouse, which must be empty; returns the tables' versions.

    Only an audit log may be there: it gets the backup's rows, and is not among the versions.

    Errors as `back_up`; also `StorageError` for a place without a whole backup. The streams go on where they were when
    it was made, as long as Kafka holds what came since.
    """
    source, target = _open(place, settings), LakehouseResource.from_settings(settings)
    log = f"{AUDIT_LOG.name.replace('.', '/')}/"
    with own_groups([group.name for group in groups], "restore", settings) as owned:
        wanted = _read_manifest(source)
        _demand_empty(target, but=log)
        owned.demand()
        _copy(source, target, but=log)
        add_audit_rows(source, target)
        wanted.pop(AUDIT_LOG.name, None)
        versions = _read_versions(target)
        versions.pop(AUDIT_LOG.name, None)
        if versions != wanted:
            raise StorageError(f"{place} is not the backup that its {MANIFEST} describes: {versions}, not {wanted}.")
    return versions


def _open(place: str, settings: Settings) -> LakehouseResource:
    return LakehouseResource.from_settings(settings.model_copy(update={"lakehouse": place}))


def _demand_empty(lakehouse: LakehouseResource, but: str = "") -> None:
    """Raises where there are files, except in the folder `but`."""
    lakehouse.check_writable()
    if any(not but or not path.startswith(but) for path in lakehouse.folder.list_files("")):
        raise StorageError(f"{lakehouse.root_uri} is not empty: nothing was copied. Name an empty place.")


def _copy(source: LakehouseResource, target: LakehouseResource, but: str = "") -> None:
    """Copies all files, except those of the folder `but`."""
    read, written = source.folder.files, target.folder.files
    for wants_logs in (True, False):
        for path in source.folder.list_files(""):
            if but and path.startswith(but):
                continue
            if (_LOG in f"/{path}") == wants_logs and path != MANIFEST:
                copy_file(read, written, path)


def copy_file(source: FileSystem, target: FileSystem, path: str, new_path: str = "") -> None:
    """Copies a file to the same path of another file system, or to `new_path`; nothing where it is gone."""
    new_path = new_path or path
    try:
        with source.open_input_stream(path) as read:
            make_folder_of(target, new_path)
            with target.open_output_stream(new_path) as written:
                shutil.copyfileobj(read, written)
    except FileNotFoundError:
        return  # an old log entry that upkeep has removed; a table that needs it does not open in the copy
    except OSError as error:
        raise StorageError(
            f"{path} could not be copied: {error}. Free space there, remove the copy, try again."
        ) from error


def _read_versions(lakehouse: LakehouseResource) -> dict[str, int]:
    """The version of each table of the copy. Raises `StorageError` when one of its files is missing."""
    options, found = lakehouse.storage_options(), {}
    there = set(lakehouse.folder.list_files(""))
    for path in sorted({path.partition(_LOG)[0] for path in there if _LOG in path}):
        table = open_table(f"{lakehouse.root_uri}/{path}", options)
        # Paths as the log has them: in a URI they would be quoted.
        missing = [name for name in table.to_pyarrow_dataset().files if f"{path}/{name}" not in there]
        if missing:
            raise StorageError(f"The copy of {path} lacks {missing[0]}: remove the copy and make another.")
        found[path.replace("/", ".")] = table.version()
    return found


def _read_manifest(lakehouse: LakehouseResource) -> dict[str, int]:
    content = lakehouse.folder.read_file(MANIFEST)
    if content is None:
        raise StorageError(f"{lakehouse.root_uri} holds no whole backup: it has no {MANIFEST}, which is written last.")
    # The root that stands next to them may hold bytes that msgspec's own JSON refuses.
    return msgspec.convert(json.loads(content)["tables"], dict[str, int])
