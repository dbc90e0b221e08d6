"""Delta tables whose files Arrow reads by itself. Everything that opens a table to read it opens one of these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from deltalake import DeltaTable

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset


class ArrowReadTable(DeltaTable):
    """A `DeltaTable` that reads local files without Python.

    delta-rs hands Arrow a file system that is written in Python. Arrow's threads close such files a moment after the
    last row has been handed over; a process that ends within that moment is aborted ("terminate called without an
    active exception", https://github.com/apache/arrow/issues/34314), its work done but its exit code 134. Only an
    object store is still read that way.
    """

    def to_pyarrow_dataset(self, *args: Any, **kwargs: Any) -> Dataset:
        """As delta-rs has it; `filesystem` defaults to the table's own folder when that is local."""
        place = urlsplit(self.table_uri)
        if place.scheme == "file" and not args and kwargs.get("filesystem") is None:
            from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

            kwargs["filesystem"] = SubTreeFileSystem(unquote(place.path), LocalFileSystem())
        return super().to_pyarrow_dataset(*args, **kwargs)
