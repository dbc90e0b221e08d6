"""The embedded broker: a real single-node Apache Kafka (KRaft) as a child JVM, for a machine without Docker.

All its files lie in `<home>/broker`; how it lives and ends: `server`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from platform_assets.errors import BrokerUnavailableError
from resources.embedded.broker_configuration import write_launch_file
from resources.embedded.server import EmbeddedServer
from resources.embedded.server_spec import ServerSpec, ServerState
from resources.ports import free_port
from resources.settings import Settings


@dataclass(frozen=True)
class BrokerState(ServerState):
    """A running broker."""

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients."""
        return self.address


class EmbeddedBroker:
    """One process's use of the embedded broker of a home, as `EmbeddedServer` says."""

    def __init__(self, home: Path, port: int = 0, partition_mib: int = 0) -> None:
        """`port` 0: the port of last time when it is free, else any free one. Nothing is started here.

        `partition_mib` is how much each partition keeps; 0: a share of the disk.
        """
        partition_bytes = partition_mib * 1024 * 1024
        spec = ServerSpec(
            name="broker",
            port_setting="HEADRACE_KAFKA_PORT",
            data_file="data/.lock",
            unavailable=BrokerUnavailableError,
            write_launch_file=lambda folder, chosen: write_launch_file(folder, chosen, free_port(), partition_bytes),
        )
        self._server = EmbeddedServer(spec, home, port)

    @property
    def bootstrap_servers(self) -> str:
        """The running broker's address. Raises `BrokerUnavailableError` when it is not running."""
        return self._server.running().address

    def state(self) -> BrokerState | None:
        """The running broker, proved by its processes and its port; None when there is none. Never starts one."""
        state = self._server.state()
        return None if state is None else _as_broker(state)

    def start(self) -> BrokerState:
        """Registers this process as a user and returns the running broker, starting one when there is none.

        Errors as `EmbeddedServer.start`; `BrokerUnavailableError` when the JVM does not come up.
        """
        return _as_broker(self._server.start())

    def stop(self) -> None:
        """Ends this process's use. When nobody else uses the broker, its JVM has ended when this returns."""
        self._server.stop()


@contextlib.contextmanager
def running_broker(settings: Settings) -> Iterator[str]:
    """Yields the bootstrap servers: the configured ones, else those of the embedded broker, in use for the block.

    Errors as `EmbeddedBroker.start`. A configured broker is not contacted here.
    """
    if not settings.uses_embedded_broker:
        yield settings.kafka_bootstrap_servers
        return
    broker = EmbeddedBroker(settings.home, settings.kafka_port, settings.kafka_partition_mib)
    state = broker.start()
    try:
        yield state.bootstrap_servers
    finally:
        broker.stop()


def _as_broker(state: ServerState) -> BrokerState:
    return BrokerState(state.port, state.guard, state.jvm)
