"""The embedded schema registry: Apicurio Registry as a child JVM, for tests and demonstrations without Docker.

It has Confluent's API, and Avro, Protobuf and JSON Schema with references. Confluent's own is in no public Maven
repository but Confluent's; those that Python's package index has know Avro only, or are not maintained. All its files
lie in `<home>/registry`, the schemas in `data/`: ids and versions outlive a restart. How it lives and ends: `server`.
It listens on the loopback interface, where every program of this machine may register: it asks for no account.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from platform_assets.errors import RegistryUnavailableError
from resources.embedded.registry_configuration import API_PATH, DATA_FILE, write_launch_file
from resources.embedded.server import EmbeddedServer
from resources.embedded.server_spec import ServerSpec, ServerState
from resources.registry.access import RegistryAccess
from resources.registry.schema_registry import SchemaRegistry
from resources.registry_settings import EMBEDDED
from resources.settings import Settings

# The port answers once the schemas' file is open; what a first request loads takes a moment more.
_READY_SECONDS = 30.0


class EmbeddedRegistry:
    """One process's use of the embedded schema registry of a home, as `EmbeddedServer` says."""

    def __init__(self, home: Path, port: int = 0) -> None:
        """`port` 0: the port of last time when it is free, else any free one. Nothing is started here."""
        spec = ServerSpec(
            name="registry",
            port_setting="HEADRACE_SCHEMA_REGISTRY_PORT",
            data_file=DATA_FILE,
            unavailable=RegistryUnavailableError,
            write_launch_file=write_launch_file,
        )
        self._server = EmbeddedServer(spec, home, port)

    @property
    def url(self) -> str:
        """The running registry's address. Raises `RegistryUnavailableError` when it is not running."""
        return _find_url(self._server.running())

    def state(self) -> ServerState | None:
        """The running registry; None when there is none. Never starts one."""
        return self._server.state()

    def start(self) -> SchemaRegistry:
        """Registers this process as a user and returns the running registry, starting one when there is none.

        It answers when this returns. Errors as `EmbeddedServer.start`, `RegistryUnavailableError` when the JVM does not
        come up, and `MissingDependencyError` when Java or the registry's files cannot be had.
        """
        registry = SchemaRegistry(RegistryAccess((_find_url(self._server.start()),)))
        dataclasses.replace(registry, patience_seconds=_READY_SECONDS).subjects()
        return registry

    def stop(self) -> None:
        """Ends this process's use. When nobody else uses the registry, its JVM has ended when this returns."""
        self._server.stop()


@contextlib.contextmanager
def running_registry(settings: Settings) -> Iterator[SchemaRegistry]:
    """Yields the registry: the configured one, else the embedded one, in use for the block.

    Errors as `EmbeddedRegistry.start`, and `SettingError` where the settings name none. A configured registry is not
    contacted here.
    """
    if settings.schema_registry_url != EMBEDDED:
        yield SchemaRegistry.from_settings(settings)
        return
    embedded = EmbeddedRegistry(settings.home, settings.schema_registry_port)
    try:
        yield embedded.start()
    finally:
        embedded.stop()


def find_registry(settings: Settings) -> SchemaRegistry:
    """The registry of the settings, which runs already where it is the embedded one. Nothing is started.

    Raises `SettingError` where the settings name none, `RegistryUnavailableError` where the embedded one does not run.
    """
    if settings.schema_registry_url != EMBEDDED:
        return SchemaRegistry.from_settings(settings)
    return SchemaRegistry(RegistryAccess((EmbeddedRegistry(settings.home, settings.schema_registry_port).url,)))


def _find_url(state: ServerState) -> str:
    return f"http://{state.address}{API_PATH}"
