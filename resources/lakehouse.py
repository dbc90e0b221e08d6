"""The lakehouse root: where tables and checkpoints lie, on a local disk or behind any Hadoop or object-store URI."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import dagster as dg
from pydantic import PrivateAttr

from platform_assets import object_store
from platform_assets.errors import SettingError, StorageError
from platform_assets.folders import Folder
from platform_assets.store_errors import find_store_error
from resources.settings import Settings, load_settings

if TYPE_CHECKING:
    from deltalake import DeltaTable


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
        """The location of the table `silver.events`: `<root>/silver/events`."""
        layer, table = name.split(".")
        return f"{self.root_uri}/{layer}/{table}"

    def checkpoint_uri(self, name: str) -> str:
        """The checkpoint of the query that feeds `silver.events`: `<root>/_checkpoints/silver/events`."""
        layer, table = name.split(".")
        return f"{self.root_uri}/_checkpoints/{layer}/{table}"

    def check_writable(self, remedy: str = "set HEADRACE_LAKEHOUSE to another place") -> None:
        """Creates the root when it is local, and proves by a probe that files can be written in it.

        Raises `StorageError` naming the path and what to do, of which `remedy` is the last; for S3 also
        `StoreUnavailableError` and `SettingError`. Another remote root is not contacted: a commit proves it.
        """
        root = self.local_root
        if root is None:
            if object_store.is_s3(self.root_uri):
                self._check_store()
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
                f"{root} cannot be written ({error.strerror}). Give this user the right to write there, free space, or "
                f"{remedy}."
            ) from None

    def _check_store(self) -> None:
        options = self.storage_options()
        if trouble := object_store.find_trouble(self.root_uri, options):
            raise SettingError(f"The lakehouse {self.root_uri}: {trouble}.")
        probe = f".headrace-probe-{uuid.uuid4().hex}"
        try:
            self.folder.write_file(probe, b"x")
            self.folder.files.delete_file(probe)
        except OSError as error:
            raise find_store_error(self.root_uri, str(error)) or StorageError(
                f"The lakehouse {self.root_uri} cannot be written ({type(error).__name__}). See docs/object-store.md."
            ) from error

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
        """The table as `delta_table` opens it; None if nobody has created it yet."""
        from deltalake.exceptions import TableNotFoundError

        try:
            return self.delta_table(name)
        except TableNotFoundError:
            return None

    @property
    def folder(self) -> Folder:
        """The root, for the files next to the tables: paths are relative to it."""
        return Folder(self.root_uri, self.storage_options())

    def remove_checkpoint(self, name: str) -> None:
        """Removes the checkpoint of the query that feeds a table; nothing where there is none."""
        self.folder.remove(self.checkpoint_uri(name).removeprefix(f"{self.root_uri}/"))

    def storage_options(self) -> dict[str, str]:
        """Object-store options for readers outside Spark (delta-rs, DuckDB). May hold secrets: never log it."""
        return object_store.delta_options(self.root_uri, (self._settings or load_settings()).storage_options)


def normalize_root(root: str) -> str:
    """One spelling for each place: absolute path for local ones (`file:` too), `s3://` for S3, no slash at the end."""
    if root.startswith("file:"):
        return str(Path(unquote(urlsplit(root).path)))
    if "://" in root:
        return object_store.normalize_uri(root)
    return str(Path(root).expanduser().absolute())
