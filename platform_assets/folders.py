"""A folder of files, on this machine or in an object store: what lies there besides rows, and Arrow's view of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from platform_assets.object_store import arrow_options, is_s3, normalize_uri

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


def open_folder(
    uri: str, storage_options: Mapping[str, str] | None = None, sizes: Mapping[str, int] | None = None
) -> FileSystem:
    """A table's folder, or a whole root, as Arrow's file system: paths are relative to it.

    `uri` is a local path or any that delta-rs knows. A local one and S3 are read without Python (`ArrowReadTable` says
    why) and without delta-rs, which takes 60 MiB in each process that uses it. `sizes` are those of files in it, in
    bytes, by their path: of others another store is asked at each opening.
    """
    from pyarrow.fs import LocalFileSystem, PyFileSystem, S3FileSystem, SubTreeFileSystem

    if (local := _find_local(uri)) is not None:
        return SubTreeFileSystem(local, LocalFileSystem())
    if is_s3(uri):
        place = normalize_uri(uri).partition("://")[2]
        return SubTreeFileSystem(place, S3FileSystem(**arrow_options(storage_options or {})))
    from platform_assets.object_files import ObjectStoreHandler

    return PyFileSystem(ObjectStoreHandler(uri, dict(storage_options or {}) or None, dict(sizes or {}) or None))


@dataclass(frozen=True)
class FileState:
    """A file as its folder has it: size in bytes, and when it was written last, in nanoseconds since the epoch."""

    size: int
    written_at_ns: int


@dataclass(frozen=True)
class Folder:
    """The files under a place; each path is relative to it. Nothing is looked at before it is asked for.

    `uri` as in `open_folder`; `storage_options` may hold secrets. Errors of the disk or the store are raised as Arrow
    and Python have them (`OSError`). May be used from any thread.
    """

    uri: str
    storage_options: Mapping[str, str] = field(default_factory=dict, repr=False)

    @cached_property
    def files(self) -> FileSystem:
        """The folder as Arrow's file system."""
        return open_folder(self.uri, self.storage_options)

    @property
    def _local(self) -> Path | None:
        local = _find_local(self.uri)
        return None if local is None else Path(local)

    def read_file(self, path: str) -> bytes | None:
        """The content of a file; None where there is no such file."""
        try:
            with self.files.open_input_stream(path) as source:
                return bytes(source.readall())
        except FileNotFoundError:
            return None

    def list_files(self, path: str = "") -> list[str]:
        """The files under a path, sorted, relative to this folder; none where there is no such path.

        An empty file of another store is none: Hadoop marks folders by such, and no file of ours or Spark's is empty.
        """
        return sorted(self.find_files(path))

    def find_files(self, path: str = "") -> dict[str, FileState]:
        """The files that `list_files` lists, each with what tells it from an earlier file of the same path."""
        from pyarrow.fs import FileSelector

        selector = FileSelector(path, recursive=True, allow_not_found=True)
        found = [file for file in self.files.get_file_info(selector) if file.is_file]
        are_all_files = self._local is not None or is_s3(self.uri)
        return {file.path: FileState(file.size, file.mtime_ns or 0) for file in found if file.size or are_all_files}

    def list_folders(self) -> list[str]:
        """The names of the folders right under this one, sorted; none where it is not there."""
        from pyarrow.fs import FileSelector, FileType

        found = self.files.get_file_info(FileSelector("", allow_not_found=True))
        return sorted(each.base_name for each in found if each.type == FileType.Directory)

    def write_file(self, path: str, content: bytes) -> str:
        """Writes a file and returns its URI. A reader sees it whole, old or new, also after a crash."""
        if (local := self._local) is None:
            with self.files.open_output_stream(path) as out:
                out.write(content)
            return f"{self.uri}/{path}"
        place = local / path
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f".{place.name}.{os.getpid()}")
        draft.write_bytes(content)
        draft.replace(place)
        return str(place)

    def remove(self, path: str) -> None:
        """Removes all that lies under a path, or the one file that it is; nothing where there is nothing."""
        if (local := self._local) is not None:
            place = local / path
            if place.is_dir():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)
            return
        if is_s3(self.uri):
            self._remove_in_s3(path)
            return
        # An object store has no folders to remove, and the handler can remove single files only.
        found = self.list_files(path)
        if not found and path and self.read_file(path) is not None:
            found = [path]
        for name in found:
            self.files.delete_file(name)

    def _remove_in_s3(self, path: str) -> None:
        """Removes the marks of Hadoop's folders too: by these Spark would take a removed checkpoint for one."""
        from pyarrow.fs import FileType

        kind = self.files.get_file_info(path).type
        if kind == FileType.File:
            self.files.delete_file(path)
        elif kind == FileType.Directory:
            self.files.delete_dir_contents(path)
            self._remove_empty(path)
            if path:
                self._remove_mark(path)

    def _remove_empty(self, path: str) -> None:
        """Removes folders that a store keeps as such (SeaweedFS), from the innermost; Amazon's has none."""
        from pyarrow.fs import FileSelector, FileType

        for found in self.files.get_file_info(FileSelector(path, allow_not_found=True)):
            if found.type == FileType.Directory:
                self._remove_empty(found.path)
                self._remove_mark(found.path)

    def _remove_mark(self, path: str) -> None:
        self.files.create_dir(path, recursive=False)  # a mark can be removed, and the folder goes with it
        self.files.delete_dir(path)

    def move(self, path: str, new_path: str) -> None:
        """Moves all that lies under a path to another, where nothing is; called again after a crash, to its end.

        In an object store file by file, the one named `metadata` last: a checkpoint is none without it.
        """
        if (local := self._local) is not None:
            (local / new_path).parent.mkdir(parents=True, exist_ok=True)
            (local / path).rename(local / new_path)
            return
        found = sorted(self.list_files(path), key=lambda name: name.endswith("/metadata"))
        for name in found:
            with self.files.open_input_stream(name) as source:
                self.write_file(f"{new_path}{name.removeprefix(path)}", source.readall())
        for name in reversed(found):
            self.files.delete_file(name)


def make_folder_of(files: FileSystem, path: str) -> None:
    """Makes the folder of a file that is to be written, where there must be one before: on a disk alone.

    A store would keep a mark of it, with a request of its own.
    """
    from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

    if isinstance(files, SubTreeFileSystem) and isinstance(files.base_fs, LocalFileSystem):
        # Not by the folder's own file system, to which the folder itself is no path.
        files.base_fs.create_dir(files.base_path + path.rpartition("/")[0], recursive=True)


def _find_local(uri: str) -> str | None:
    """The path of a place on this machine; None of another's."""
    if uri.startswith("file:"):
        return unquote(urlsplit(uri).path)
    return uri if "://" not in uri else None
