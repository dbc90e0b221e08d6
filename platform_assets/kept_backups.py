"""Backups as they lie at a place: which ones there are, what each says of itself, and what its rehearsal came to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

import msgspec

from platform_assets.errors import StorageError
from platform_assets.folders import Folder

# Written last: a copy without it was cut short.
MANIFEST = "headrace_backup.json"
FILE_LIST = "headrace_backup_files.json"
REHEARSAL = "headrace_backup_rehearsed.json"
DAGSTER_DUMP = "headrace_backup_dagster.dump"
OWN_FILES = frozenset({MANIFEST, FILE_LIST, REHEARSAL, DAGSTER_DUMP})
"""What lies in a backup and is no file of the lakehouse."""

# To the microsecond: two that are begun by hand one after the other are two folders.
_NAME = "backup-%Y-%m-%dT%H%M%S.%fZ"


@dataclass(frozen=True)
class Manifest:
    """What a backup says of itself: each table's version and rows, and when it was made (UTC).

    `rows` is empty in one that an older version made.
    """

    tables: dict[str, int]
    created_at: datetime
    root: str = ""
    rows: dict[str, int] = field(default_factory=dict)
    size_bytes: int = 0


@dataclass(frozen=True)
class Rehearsal:
    """What became of a backup that was restored for a trial. It passed where there is no breach."""

    at: datetime
    breaches: tuple[str, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether the backup can be restored."""
        return not self.breaches


@dataclass(frozen=True)
class KeptBackup:
    """A whole backup among those of a place. `rehearsal` is None where it has not been restored yet."""

    name: str
    manifest: Manifest
    rehearsal: Rehearsal | None


def name_backup(at: datetime) -> str:
    """The name of the folder of a backup that begins now; names sort as their times do."""
    return at.astimezone(UTC).strftime(_NAME)


def list_names(place: Folder) -> list[str]:
    """The folders of backups at a place, oldest first, whole or not. Other folders there are not looked at."""
    return [name for name in place.list_folders() if _is_name(name)]


def list_backups(place: Folder) -> list[KeptBackup]:
    """The whole backups at a place, oldest first. Raises `StorageError` for a manifest that cannot be read."""
    found = []
    for name in list_names(place):
        if (manifest := read_manifest(place, name)) is not None:
            found.append(KeptBackup(name, manifest, read_rehearsal(place, name)))
    return found


def read_manifest(place: Folder, name: str = "") -> Manifest | None:
    """What the backup of this name says of itself (empty: the one at the place itself); None where it is not whole.

    Raises `StorageError` for a text that is no manifest.
    """
    path = f"{name}/{MANIFEST}" if name else MANIFEST
    content = place.read_file(path)
    if content is None:
        return None
    try:
        # The root that stands next to them may hold bytes that msgspec's own JSON refuses.
        return msgspec.convert(json.loads(content), Manifest)
    except (ValueError, msgspec.ValidationError) as error:
        raise StorageError(f"{place.uri}/{path} cannot be read ({error}). Remove that backup.") from error


def write_manifest(backup: Folder, manifest: Manifest) -> None:
    """Makes a backup a whole one."""
    content = asdict(manifest) | {"created_at": manifest.created_at.isoformat()}
    backup.write_file(MANIFEST, json.dumps(content, indent=1).encode())


def read_rehearsal(place: Folder, name: str) -> Rehearsal | None:
    """The verdict on the backup of this name; None where there is none. Raises `StorageError` for another text."""
    path = f"{name}/{REHEARSAL}"
    content = place.read_file(path)
    try:
        return None if content is None else msgspec.json.decode(content, type=Rehearsal)
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        raise StorageError(f"{place.uri}/{path} cannot be read ({error}). Remove that file.") from error


def write_rehearsal(place: Folder, name: str, rehearsal: Rehearsal) -> None:
    """Keeps the verdict with its backup."""
    place.write_file(f"{name}/{REHEARSAL}", msgspec.json.encode(rehearsal))


def find_superfluous(names: Sequence[str], whole: Sequence[str], kept: int, proved: str) -> list[str]:
    """Which backups go, oldest first, so that the newest `kept` whole ones stay, and `proved` in any case.

    `proved` was made and restored just now. Only what is older goes: by its name, which a clock has given. Where a
    clock was ahead once, backups of that time are newer than this one, and must not take its place: nobody may ever
    have restored them. Both `names` and the `whole` ones among them are sorted, oldest first.
    """
    staying = {*whole[-kept:], proved}
    return [name for name in names if name not in staying and name < proved]


def _is_name(name: str) -> bool:
    try:
        datetime.strptime(name, _NAME)  # noqa: DTZ007 (only whether it is one)
    except ValueError:
        return False
    return True
