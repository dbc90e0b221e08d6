"""DuckDB for the reports: one connection in this process, with a bound on its memory and a folder to spill to."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import PrivateAttr

from platform_assets.errors import MissingDependencyError
from resources.scratch import make_scratch_folder
from resources.settings import Settings, load_settings

if TYPE_CHECKING:
    import duckdb


class DuckDBResource(dg.ConfigurableResource[Any]):
    """Opens connections that spill into the settings' `home`. Nothing is opened before `connected`."""

    memory_mib: int = 0
    """Memory of a connection, in MiB; 0: the setting `reports_memory_mib`."""

    _settings: Settings | None = PrivateAttr(default=None)

    @classmethod
    def from_settings(cls, settings: Settings) -> DuckDBResource:
        """The resource that these settings describe."""
        resource = cls(memory_mib=settings.reports_memory_mib)
        resource._settings = settings
        return resource

    @contextlib.contextmanager
    def connected(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to an empty database in memory for the block; times are UTC.

        Raises `MissingDependencyError` when DuckDB is not installed.
        """
        try:
            import duckdb
        except ImportError as error:
            raise MissingDependencyError(
                f"DuckDB, by which reports and checks read tables, cannot be loaded ({error}). Run `make setup`."
            ) from error
        settings = self._settings or load_settings()  # Dagster's copy of a resource has no private attributes
        folder = make_scratch_folder(settings.home / "reports")
        try:
            # Without a limit DuckDB takes four fifths of the machine: the kernel would kill the streams for a report.
            config: dict[str, str | bool | int | float | list[str]] = {
                "memory_limit": f"{self.memory_mib or settings.reports_memory_mib}MiB",
                "temp_directory": str(folder),
            }
            with duckdb.connect(config=config) as connection:
                connection.execute("SET TimeZone = 'UTC'")
                # Rows have no order in a table: DuckDB would keep one, and hold them back for it.
                connection.execute("SET preserve_insertion_order = false")
                yield connection
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class KeptConnection:
    """A connection that one thread uses again and again: to open one costs 40 ms of CPU.

    `connected` as `DuckDBResource.connected`, but what the block leaves behind is there in the next one. After an error
    in the block, and after `close`, the next one begins with a new connection.
    """

    def __init__(self, engine: DuckDBResource) -> None:
        self._engine = engine
        self._opened = contextlib.ExitStack()
        self._connection: duckdb.DuckDBPyConnection | None = None

    @contextlib.contextmanager
    def connected(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The connection, for the block. Raises as `DuckDBResource.connected`."""
        if self._connection is None:
            self._connection = self._opened.enter_context(self._engine.connected())
        try:
            yield self._connection
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Lets go of the connection and its memory."""
        self._connection = None
        self._opened.close()
