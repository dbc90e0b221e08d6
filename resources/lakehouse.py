"""The lakehouse root: where tables and checkpoints lie, on a local disk or behind any Hadoop or object-store URI."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import dagster as dg
from pydantic import PrivateAttr

from platform_assets.errors import StorageError
from resources.settings import Settings, load_settings

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyarrow.fs import FileSystem


class LakehouseResource(dg.ConfigurableResource[Any]):
    """Paths of all tables, and a reader of them that is independent of Spark.

    Storage options (keys of an object store) come from the settings and are no fields, so that Dagster neither stores
    nor shows them.
    """

    root: str = ""
    """A path, a `file:` URI or any `scheme://` URI; empty: the settings' root."""

    _settings: Settings | None = PrivateAttr(default=None)

    @classmethod
    def from_settings(cls, settings: Settings) -> LakehouseResource:
        """The resource that these settings describe. Nothing is created."""
        resource = cls(root=settings.lakehouse)
        resource._settings = settings
        return resource

    @property
    def root_uri(self) -> str:
        """The root: an absolute path when local, else the URI; without a slash at its end."""
        return normalize_root(self.root or load_settings().lakehouse)

    @property
    def local_root(self) -> Path | None:
        """The root as a path; None when it is not on this machine's file system."""
        return None if "://" in self.root_uri else Path(self.root_uri)

    def table_uri(self, name: str) -> str:
        """Where the table `silver.events` lies: `<root>/silver/events`."""
        layer, table = name.split(".")
        return f"{self.root_uri}/{layer}/{table}"

    def checkpoint_uri(self, name: str) -> str:
        """Where the checkpoint of the query that feeds `silver.events` lies: `<root>/_checkpoints/silver/events`."""
        layer, table = name.split(".")
        return f"{self.root_uri}/_checkpoints/{layer}/{table}"

    def check_writable(self) -> None:
        """Creates the root when it is local, and proves by a probe that files can be written in it.

        Raises `StorageError` naming the path and what to do. A remote root is not contacted: a commit proves it.
        """
        root = self.local_root
        if root is None:
            return
        probe = root / f".headrace-probe-{os.getpid()}"
        try:
            root.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"x" * 4096)  # an empty file can be made on a full disk
            probe.unlink()
        except OSError as error:
            with contextlib.suppress(OSError):
                probe.unlink()
            raise StorageError(
                f"The lakehouse {root} cannot be written ({error.strerror}). Give this user the right to write there, "
                "free space, or set HEADRACE_LAKEHOUSE to another place."
            ) from None

    def free_bytes(self) -> int | None:
        """Free space for this user under the root; None when it is not local. The root need not exist yet."""
        root = self.local_root
        if root is None:
            return None
        existing = next(folder for folder in (root, *root.parents) if folder.exists())
        return shutil.disk_usage(existing).free

    def delta_table(self, name: str) -> DeltaTable:
        """The table through delta-rs, at its latest version. Raises deltalake's `TableNotFoundError`."""
        from platform_assets.delta_reader import ArrowReadTable

        return ArrowReadTable(self.table_uri(name), storage_options=self.storage_options() or None)

    def find_table(self, name: str) -> DeltaTable | None:
        """As `delta_table`; None for a table that nobody has made yet."""
        from deltalake.exceptions import TableNotFoundError

        try:
            return self.delta_table(name)
        except TableNotFoundError:
            return None

    def filesystem(self) -> FileSystem:
        """The root as Arrow's file system: paths are relative to it."""
        from platform_assets.folders import open_folder

        return open_folder(self.root_uri, self.storage_options())

    def write_file(self, path: str, content: bytes) -> str:
        """Writes a file beside the tables, `<root>/<path>`, and returns its URI. A reader sees it whole, old or new."""
        root = self.local_root
        if root is None:
            with self.filesystem().open_output_stream(path) as out:
                out.write(content)
            return f"{self.root_uri}/{path}"
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f".{place.name}.{os.getpid()}")
        draft.write_bytes(content)
        draft.replace(place)
        return str(place)

    def remove_checkpoint(self, name: str) -> None:
        """Removes the checkpoint of the query that feeds a table; nothing where there is none."""
        self.remove_folder(self.checkpoint_uri(name).removeprefix(f"{self.root_uri}/"))

    def remove_folder(self, path: str) -> None:
        """Removes all that lies under `<root>/<path>`; nothing where there is nothing."""
        if self.local_root is not None:
            if (self.local_root / path).exists():
                shutil.rmtree(self.local_root / path)
            return
        # An object store has no folders to remove, and the handler can remove single files only.
        files = self.filesystem()
        for name in self.list_files(path):
            files.delete_file(name)

    def move_folder(self, path: str, new_path: str) -> None:
        """Moves `<root>/<path>` to `<root>/<new_path>`, where nothing is; called again after a crash, to its end.

        In an object store file by file, the one named `metadata` last: a checkpoint is none without it.
        """
        if self.local_root is not None:
            (self.local_root / new_path).parent.mkdir(parents=True, exist_ok=True)
            (self.local_root / path).rename(self.local_root / new_path)
            return
        files = self.filesystem()
        found = sorted(self.list_files(path), key=lambda name: name.endswith("/metadata"))
        for name in found:
            with files.open_input_stream(name) as source:
                self.write_file(f"{new_path}{name.removeprefix(path)}", source.readall())
        for name in reversed(found):
            files.delete_file(name)

    def list_files(self, path: str) -> list[str]:
        """The files under `<root>/<path>`, relative to the root; none where there is no such folder."""
        from pyarrow.fs import FileSelector

        selector = FileSelector(path, recursive=True, allow_not_found=True)
        return sorted(found.path for found in self.filesystem().get_file_info(selector) if found.is_file)

    def read_file(self, path: str) -> bytes | None:
        """The content of `<root>/<path>`; None where there is no such file."""
        try:
            with self.filesystem().open_input_stream(path) as source:
                return bytes(source.readall())
        except FileNotFoundError:
            return None

    def storage_options(self) -> dict[str, str]:
        """Object-store options for readers outside Spark (delta-rs, DuckDB). May hold secrets: never log it."""
        return dict((self._settings or load_settings()).storage_options)


def normalize_root(root: str) -> str:
    """One spelling for each place: absolute path for local ones (`file:` URIs too), no slash at the end."""
    if root.startswith("file:"):
        return str(Path(unquote(urlsplit(root).path)))
    if "://" in root:
        return root.rstrip("/")
    return str(Path(root).expanduser().absolute())
