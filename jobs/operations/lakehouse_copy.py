"""Copies all files of a lakehouse, most of them while streams write: only what is new is left for when they rest.

Nearly all files are never changed once they are written. What tells a file from an earlier one of the same path is its
size and the time of its last write, and files that were written a moment ago are left to a later look.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from platform_assets.errors import StorageError
from platform_assets.folders import FileState, Folder, make_folder_of
from platform_assets.kept_backups import FILE_LIST, OWN_FILES, read_manifest

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

LOG = "/_delta_log/"

# A store may keep times in whole seconds, and its clock may differ from ours as much as hosts' clocks may: of a younger
# file a second write could not be told from the first.
_SETTLED_SECONDS = 30.0
# Each round copies what came during the one before. Below this the pause lasts no longer for what is left; more rounds
# than these end where more comes than the place takes.
_SHORT_ROUND_SECONDS = 20.0
_ROUNDS = 5
# An object store takes 20 ms for each file, however small: one after the other 5,000 files were two minutes of a pause.
_THREADS = 8
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class CopiedFile:
    """A file of the copy: its size in bytes and the BLAKE2b digest (128 bits, hex) of what was read and written."""

    size: int
    digest: str


class LakehouseCopy:
    """A copy that is being made: which files it has, and as of when. Raises `StorageError` where one cannot be copied.

    `but`: files whose path begins so are left out (empty: none).
    """

    def __init__(self, source: Folder, target: Folder, but: str = "") -> None:
        self._source = source
        self._target = target
        self._but = but
        self._states: dict[str, FileState] = {}
        self._files: dict[str, CopiedFile] = {}

    @property
    def files(self) -> Mapping[str, CopiedFile]:
        """What the copy holds now, by path."""
        return self._files

    def approach(self) -> None:
        """Copies what is there, in rounds until one is short, while others write. The copy is not consistent yet."""
        for _ in range(_ROUNDS):
            begun = time.time()
            settled = int((begun - _SETTLED_SECONDS) * 1e9)
            # A time of 0 is of a store that tells none.
            self._copy({path: state for path, state in self._find().items() if 0 < state.written_at_ns < settled})
            if time.time() - begun < _SHORT_ROUND_SECONDS:
                return

    def complete(self) -> None:
        """Makes the copy what the lakehouse is now. No stream may write meanwhile; reports may.

        Of each table the log is copied before its files, and a file that a log names stays for a day at least.
        """
        logs = {path: state for path, state in self._find().items() if LOG in f"/{path}"}
        self._copy(logs)
        others = {path: state for path, state in self._find().items() if LOG not in f"/{path}"}
        self._copy(others)
        for path in self._files.keys() - logs.keys() - others.keys():
            self._drop(path)

    def _find(self) -> dict[str, FileState]:
        found = self._source.find_files()
        return {
            path: state
            for path, state in found.items()
            if path not in OWN_FILES and not (self._but and path.startswith(self._but))
        }

    def _copy(self, wanted: Mapping[str, FileState]) -> None:
        new = [path for path, state in wanted.items() if self._states.get(path) != state]
        source, target = self._source.files, self._target.files

        def copy(path: str) -> CopiedFile | None:
            return copy_file(source, target, path)

        with ThreadPoolExecutor(_THREADS) as pool:
            for path, copied in zip(new, pool.map(copy, new), strict=True):
                if copied is None:
                    self._drop(path)
                else:
                    self._states[path], self._files[path] = wanted[path], copied

    def _drop(self, path: str) -> None:
        """An upkeep has removed it. A log that names it still has a table that does not open in the copy."""
        self._states.pop(path, None)
        if self._files.pop(path, None) is not None:
            self._target.remove(path)


def copy_file(source: FileSystem, target: FileSystem, path: str, new_path: str = "") -> CopiedFile | None:
    """Copies a file to the same path of another file system, or to `new_path`; None, and nothing, where it is gone."""
    new_path = new_path or path
    digest, size = hashlib.blake2b(digest_size=16), 0
    try:
        with source.open_input_stream(path) as read:
            make_folder_of(target, new_path)
            with target.open_output_stream(new_path) as written:
                while chunk := read.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    written.write(chunk)
                    size += len(chunk)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(
            f"{path} could not be copied: {error}. Free space there, remove the copy, try again."
        ) from error
    return CopiedFile(size, digest.hexdigest())


def write_file_list(backup: Folder, files: Mapping[str, CopiedFile]) -> None:
    """Keeps the digest of each file with the copy, for `find_damage`."""
    listed = {path: [file.size, file.digest] for path, file in sorted(files.items())}
    backup.write_file(FILE_LIST, json.dumps(listed, separators=(",", ":")).encode())


def find_damage(backup: Folder, files: Mapping[str, CopiedFile], is_wanted: Callable[[str], bool]) -> list[str]:
    """Compares files that were read from a backup with what was written into it; says what differs, a line each.

    An older backup has no list, and its manifest no size: nothing is said then. `is_wanted`: whether a path was to be
    read. Raises `StorageError` for a list that cannot be read.
    """
    content = backup.read_file(FILE_LIST)
    if content is None:
        manifest = read_manifest(backup)
        return [f"The file {FILE_LIST} is missing."] if manifest is not None and manifest.size_bytes else []
    listed = {path: file for path, file in _read_file_list(backup, content).items() if is_wanted(path)}
    lines = [f"The file {path} is missing." for path in sorted(listed.keys() - files.keys())]
    lines += [f"The file {path} was not in the lakehouse." for path in sorted(files.keys() - listed.keys())]
    changed = _find_changed(listed, files)
    return lines + [f"The file {path} is not what was written: it is damaged." for path in changed]


def _read_file_list(backup: Folder, content: bytes) -> dict[str, CopiedFile]:
    try:
        found = msgspec.convert(json.loads(content), dict[str, tuple[int, str]])
    except (ValueError, msgspec.ValidationError) as error:
        raise StorageError(f"{backup.uri}/{FILE_LIST} cannot be read ({error}): it is damaged.") from error
    return {path: CopiedFile(*value) for path, value in found.items()}


def _find_changed(listed: Mapping[str, CopiedFile], files: Mapping[str, CopiedFile]) -> Collection[str]:
    return sorted(path for path in listed.keys() & files.keys() if listed[path] != files[path])
