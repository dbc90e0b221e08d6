"""The embedded broker: a real single-node Apache Kafka (KRaft) as a child JVM, for a machine without Docker.

All its files lie in `<home>/broker`: `data/`, `broker.log`, `guard.log`, `state.json` (port and pids, while it runs),
`port` (to come back at the same address). Users register by a shared lock on `users.lock`; `broker_guard` ends the
JVM when the last of them is gone, however it went. So: started on demand, found again by later processes, and never
an orphan.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from platform_assets.errors import BrokerUnavailableError, SettingError, StorageError
from resources import file_lock
from resources.broker_configuration import HOST, write_launch_file
from resources.processes import ProcessIdentity, identify, is_alive, kill
from resources.settings import Settings

# 2-4 s on idle cores. Longer than the guard's own limit, so that the guard's reason is what a person reads.
_START_TIMEOUT_SECONDS = 150.0

# Longer than the guard gives the JVM (20 s) before it kills it.
_STOP_TIMEOUT_SECONDS = 40.0

# The guards that this process started. They may outlive the object that started them, and Python wants a child's
# handle kept until its end is seen.
_GUARDS: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class BrokerState:
    """A running broker: its port and the two processes behind it."""

    port: int
    guard: ProcessIdentity
    jvm: ProcessIdentity

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients."""
        return f"{HOST}:{self.port}"


class EmbeddedBroker:
    """One process's use of the embedded broker of a home. Every user makes its own; all share one JVM.

    `start` begins the use, `stop` ends it, and the last to stop ends the JVM at once. A process that ends without
    `stop`, by kill -9 too, counts as stopped; the JVM then follows within about ten seconds.
    """

    def __init__(self, home: Path, port: int = 0, partition_mib: int = 0) -> None:
        """`port` 0: the port of last time when it is free, else any free one. Nothing is started here.

        `partition_mib` is how much each partition keeps; 0: a share of the disk.
        """
        self._folder = home / "broker"
        self._configured_port = port
        self._partition_bytes = partition_mib * 1024 * 1024
        self._registration: int | None = None

    @property
    def bootstrap_servers(self) -> str:
        """The running broker's address. Raises `BrokerUnavailableError` when it is not running."""
        state = self.state()
        if state is None:
            raise BrokerUnavailableError(
                f"The embedded broker of {self._folder.parent} is not running. Start it with `make up` or `make dev`."
            )
        return state.bootstrap_servers

    def state(self) -> BrokerState | None:
        """The running broker, proved by its processes and its port; None when there is none. Never starts one."""
        try:
            record = json.loads((self._folder / "state.json").read_text())
        except (OSError, ValueError):
            return None
        guard, jvm = identify(record["guard_pid"]), identify(record["jvm_pid"])
        if guard is None or jvm is None or not self._is_guarded() or not _answers(record["port"]):
            return None
        return BrokerState(record["port"], guard, jvm)

    def start(self) -> BrokerState:
        """Registers this process as a user and returns the running broker, starting one when there is none.

        Idempotent. Safe when several processes start at once: one starts, all find it. The port answers when this
        returns. Raises `SettingError` when the configured port is taken, `StorageError` when `<home>/broker` cannot
        be written, `BrokerUnavailableError` when the JVM does not come up; nothing is left running then.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if self._registration is None:
                # Waits while a guard that found nobody is ending its broker: see broker_guard.
                self._registration = file_lock.acquire(
                    self._folder / "users.lock", shared=True, timeout_seconds=_STOP_TIMEOUT_SECONDS
                )
            with file_lock.exclusive(self._folder / "start.lock", timeout_seconds=_START_TIMEOUT_SECONDS):
                return self.state() or self._launch()
        except TimeoutError as error:
            self._unregister()
            raise BrokerUnavailableError(
                f"Another process has been starting or stopping the embedded broker for too long ({error}). Try again."
            ) from error
        except OSError as error:
            self._unregister()
            raise StorageError(
                f"The embedded broker cannot use {self._folder} ({error}). Make it writable or set HEADRACE_HOME."
            ) from error
        except BaseException:
            self._unregister()
            raise

    def stop(self) -> None:
        """Ends this process's use. When nobody else uses the broker, its JVM has ended when this returns."""
        if self._registration is None:
            return
        self._unregister()
        descriptor = os.open(self._folder / "users.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            state = self.state()
            if state is None or not file_lock.try_lock(descriptor):
                return  # others use it, or it has ended already
            self._end(state)
        finally:
            os.close(descriptor)

    def _unregister(self) -> None:
        if self._registration is not None:
            os.close(self._registration)
            self._registration = None

    def _end(self, state: BrokerState) -> None:
        kill(state.guard, signal.SIGTERM)
        if not _wait_until_gone((state.guard, state.jvm), _STOP_TIMEOUT_SECONDS):
            kill(state.guard, signal.SIGKILL)
            kill(state.jvm, signal.SIGKILL)
            _wait_until_gone((state.guard, state.jvm), _STOP_TIMEOUT_SECONDS)
        _forget_ended_guards()

    def _is_guarded(self) -> bool:
        """Whether a guard of this folder lives: pids in a state file could meanwhile belong to others."""
        try:
            descriptor = os.open(self._folder / "guard.lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            # Shared: two processes that look at once must not take each other for the guard.
            return not file_lock.try_lock(descriptor, shared=True)
        finally:
            os.close(descriptor)

    def _launch(self) -> BrokerState:
        _forget_ended_guards()
        self._wait_for_previous()
        port, controller_port = self._choose_ports()
        launch_file = write_launch_file(self._folder, port, controller_port, self._partition_bytes)
        log = self._folder / "guard.log"
        with log.open("wb") as output:
            guard = subprocess.Popen(
                [sys.executable, "-P", "-m", "resources.broker_guard", str(launch_file)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
            )
        _GUARDS.append(guard)
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while time.monotonic() < deadline and guard.poll() is None:
            state = self.state()
            if state is not None and state.guard.pid == guard.pid:
                (self._folder / "port").write_text(str(port))
                return state
            time.sleep(0.05)
        guard.terminate()
        guard.wait()
        _forget_ended_guards()
        reason = log.read_text(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
        raise BrokerUnavailableError(
            f"The embedded broker did not start ({reason[0]}). See {log} and {self._folder / 'broker.log'}."
        )

    def _wait_for_previous(self) -> None:
        """Waits for a guard that is ending. A JVM whose guard was killed ends by itself: it is waited for too."""
        descriptor = file_lock.acquire(self._folder / "guard.lock", timeout_seconds=_STOP_TIMEOUT_SECONDS)
        os.close(descriptor)
        deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
        while time.monotonic() < deadline and (self._folder / "data" / ".lock").exists():
            with (self._folder / "data" / ".lock").open("rb+") as lock:
                try:  # Kafka holds a POSIX lock on this file, not a flock
                    fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                except (BlockingIOError, PermissionError):
                    time.sleep(0.1)

    def _choose_ports(self) -> tuple[int, int]:
        if self._configured_port:
            if not _is_free(self._configured_port):
                raise SettingError(
                    f"HEADRACE_KAFKA_PORT: port {self._configured_port} of {HOST} is taken by another program. "
                    "Choose another port, or 0 for any free one."
                )
            return self._configured_port, _free_port()
        try:
            last = int((self._folder / "port").read_text())
        except (OSError, ValueError):
            last = 0
        port = last if last and _is_free(last) else _free_port()
        return port, _free_port()


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


def _forget_ended_guards() -> None:
    _GUARDS[:] = [guard for guard in _GUARDS if guard.poll() is None]


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # The same way the broker itself binds: connections of a broker that just ended (TIME_WAIT) are not in the way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _wait_until_gone(identities: tuple[ProcessIdentity, ...], timeout_seconds: float) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while any(is_alive(identity) for identity in identities):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
