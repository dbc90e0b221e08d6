"""What an embedded server is, and what a running one is known by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from platform_assets.errors import TransientError
from resources.ports import HOST
from resources.processes import ProcessIdentity


@dataclass(frozen=True)
class ServerState:
    """A running server: its port and the two processes behind it."""

    port: int
    guard: ProcessIdentity
    jvm: ProcessIdentity

    @property
    def address(self) -> str:
        """Host and port for clients."""
        return f"{HOST}:{self.port}"


@dataclass(frozen=True)
class ServerSpec:
    """What one embedded server has of its own."""

    name: str
    """In messages, and of its folder in the home and its log."""
    port_setting: str
    data_file: str
    """Path below the folder of a file on which the JVM holds a POSIX lock while it uses its data."""
    unavailable: type[TransientError]
    """Raised when it does not run, or does not start."""
    write_launch_file: Callable[[Path, int], Path]
    """Writes into the folder what the guard needs to run it at a port, and returns that file's path."""
