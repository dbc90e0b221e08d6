"""Delta tables whose files Arrow reads by itself. Everything that opens a table or its files opens them here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from deltalake import DeltaTable

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset
    from pyarrow.fs import FileSystem


class ArrowReadTable(DeltaTable):
    """A `DeltaTable` that reads local files without Python.

    delta-rs hands Arrow a file system that is written in Python. Arrow's threads close such files a moment after the
    last row has been handed over; a process that ends within that moment is aborted ("terminate called without an
    active exception", https://github.com/apache/arrow/issues/34314), its work done but its exit code 134. Only an
    object store is still read that way.
    """

    def to_pyarrow_dataset(self, *args: Any, **kwargs: Any) -> Dataset:
        """As delta-rs has it; `filesystem` defaults to the table's own folder when that is local."""
        if urlsplit(self.table_uri).scheme == "file" and not args and kwargs.get("filesystem") is None:
            kwargs["filesystem"] = open_folder(self.table_uri)
        return super().to_pyarrow_dataset(*args, **kwargs)


def open_folder(uri: str, storage_options: Mapping[str, str] | None = None) -> FileSystem:
    """A table's folder, or a whole root, as Arrow's file system: paths are relative to it.

    `uri` is a local path or any that delta-rs knows. A local one is read without Python: `ArrowReadTable` says why.
    """
    from deltalake.fs import DeltaStorageHandler
    from pyarrow.fs import LocalFileSystem, PyFileSystem, SubTreeFileSystem

    if uri.startswith("file:"):
        uri = unquote(urlsplit(uri).path)
    if "://" not in uri:
        return SubTreeFileSystem(uri, LocalFileSystem())
    return PyFileSystem(DeltaStorageHandler(uri, dict(storage_options or {}) or None))
