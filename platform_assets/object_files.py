"""Files in an object store for Arrow, by delta-rs. Loads both: import it where a store is opened."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from deltalake.fs import DeltaStorageHandler


class ObjectStoreHandler(DeltaStorageHandler):
    """delta-rs's handler, to whose files Arrow can write: they take no buffer of Arrow's, which is what it hands on."""

    def open_output_stream(self, path: str, metadata: dict[str, str] | None = None) -> pa.PythonFile:
        """A file that is there, whole, when it is closed."""
        return pa.PythonFile(_BytesOnly(self._handler.open_output_stream(path, metadata)), mode="w")


class _BytesOnly:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, data: Any) -> int:
        return int(self._stream.write(bytes(data)))
