"""A folder of files, on this machine or in an object store, for Arrow to read and write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


def open_folder(
    uri: str, storage_options: Mapping[str, str] | None = None, sizes: Mapping[str, int] | None = None
) -> FileSystem:
    """A table's folder, or a whole root, as Arrow's file system: paths are relative to it.

    `uri` is a local path or any that delta-rs knows. A local one is read without Python (`ArrowReadTable` says why) and
    without delta-rs, which takes 60 MiB in each process that uses it. `sizes` are those of files in it, in bytes, by
    their path: of others an object store is asked at each opening.
    """
    from pyarrow.fs import LocalFileSystem, PyFileSystem, SubTreeFileSystem

    if uri.startswith("file:"):
        uri = unquote(urlsplit(uri).path)
    if "://" not in uri:
        return SubTreeFileSystem(uri, LocalFileSystem())
    from deltalake.fs import DeltaStorageHandler

    return PyFileSystem(DeltaStorageHandler(uri, dict(storage_options or {}) or None, dict(sizes or {}) or None))
