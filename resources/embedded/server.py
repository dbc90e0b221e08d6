"""A server that Headrace runs itself, as a child JVM on the loopback interface: the life that all of them have.

All files of one lie in its folder: `data/`, its log, `guard.log`, `state.json` (port and pids, while it runs), `port`
(to come back at the same address). Users register by a shared lock on `users.lock`; `server_guard` ends the JVM when
the last of them is gone, however it went. So: started on demand, found again by later processes, and never an orphan.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from platform_assets.errors import SettingError, StorageError
from resources import file_lock
from resources.embedded.server_spec import ServerSpec, ServerState
from resources.ports import HOST, answers, free_port, is_free
from resources.processes import identify, kill, wait_until_gone

# 2-4 s on idle cores. Longer than the guard's own limit, so that the guard's reason is what a person reads.
_START_TIMEOUT_SECONDS = 150.0

# Longer than the guard gives the JVM (20 s) before it kills it.
_STOP_TIMEOUT_SECONDS = 40.0

# A start is found out so much later at most.
_POLL_SECONDS = 0.05

# The guards that this process started. They may outlive the object that started them, and Python wants a child's
# handle kept until its end is seen.
_GUARDS: list[subprocess.Popen[bytes]] = []


class EmbeddedServer:
    """One process's use of the embedded server of a home. Every user makes its own; all share one JVM.

    `start` begins the use, `stop` ends it, and the last to stop ends the JVM at once. A process that ends without
    `stop`, by kill -9 too, counts as stopped; the JVM then follows within about ten seconds.
    """

    def __init__(self, spec: ServerSpec, home: Path, port: int = 0) -> None:
        """`port` 0: the port of last time when it is free, else any free one. Nothing is started here."""
        self._spec = spec
        self._folder = home / spec.name
        self._configured_port = port
        self._registration: int | None = None

    def running(self) -> ServerState:
        """The running server. Raises the spec's error when it is not running."""
        state = self.state()
        if state is None:
            raise self._spec.unavailable(
                f"The embedded {self._spec.name} of {self._folder.parent} is not running. Start it with `make up` or "
                "`make dev`."
            )
        return state

    def state(self) -> ServerState | None:
        """The running server, proved by its processes and its port; None when there is none. Never starts one."""
        try:
            record = json.loads((self._folder / "state.json").read_text())
        except (OSError, ValueError):
            return None
        guard, jvm = identify(record["guard_pid"]), identify(record["jvm_pid"])
        if guard is None or jvm is None or not self._is_guarded() or not answers(record["port"]):
            return None
        return ServerState(record["port"], guard, jvm)

    def start(self) -> ServerState:
        """Registers this process as a user and returns the running server, starting one when there is none.

        Idempotent. Safe when several processes start at once: one starts, all find it. The port answers when this
        returns. Raises `SettingError` when the configured port is taken, `StorageError` when its folder cannot
        be written, the spec's error when the JVM does not come up; nothing is left running then.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if self._registration is None:
                # Waits while a guard that found nobody is ending its server: see server_guard.
                self._registration = file_lock.acquire(
                    self._folder / "users.lock", shared=True, timeout_seconds=_STOP_TIMEOUT_SECONDS
                )
            with file_lock.exclusive(self._folder / "start.lock", timeout_seconds=_START_TIMEOUT_SECONDS):
                return self._find() or self._launch()
        except TimeoutError as error:
            self._unregister()
            raise self._spec.unavailable(
                f"Another process has been starting or stopping the embedded {self._spec.name} for too long ({error}). "
                "Try again."
            ) from error
        except OSError as error:
            self._unregister()
            raise StorageError(
                f"The embedded {self._spec.name} cannot use {self._folder} ({error}). Make it writable or set "
                "HEADRACE_HOME."
            ) from error
        except BaseException:
            self._unregister()
            raise

    def stop(self) -> None:
        """Ends this process's use. When nobody else uses the server, its JVM has ended when this returns."""
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

    def _end(self, state: ServerState) -> None:
        kill(state.guard, signal.SIGTERM)
        if not wait_until_gone((state.guard, state.jvm), _STOP_TIMEOUT_SECONDS):
            kill(state.guard, signal.SIGKILL)
            kill(state.jvm, signal.SIGKILL)
            wait_until_gone((state.guard, state.jvm), _STOP_TIMEOUT_SECONDS)
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

    def _find(self) -> ServerState | None:
        """Finds the server of a guard, which may be starting a JVM that died again; None once there is no guard."""
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while (state := self.state()) is None and self._is_guarded() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return state

    def _launch(self) -> ServerState:
        _forget_ended_guards()
        self._wait_for_previous()
        port = self._choose_port()
        launch_file = self._spec.write_launch_file(self._folder, port)
        log = self._folder / "guard.log"
        with log.open("wb") as output:
            guard = subprocess.Popen(
                [sys.executable, "-P", "-m", "resources.embedded.server_guard", str(launch_file)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            )
        _GUARDS.append(guard)
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while time.monotonic() < deadline and guard.poll() is None:
            state = self.state()
            if state is not None and state.guard.pid == guard.pid:
                (self._folder / "port").write_text(str(port))
                return state
            time.sleep(_POLL_SECONDS)
        guard.terminate()
        guard.wait()
        _forget_ended_guards()
        reason = log.read_text(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
        raise self._spec.unavailable(
            f"The embedded {self._spec.name} did not start ({reason[0]}). See {log} and "
            f"{self._folder / self._spec.name}.log."
        )

    def _wait_for_previous(self) -> None:
        """Waits for a guard that is ending. A JVM whose guard was killed ends by itself: it is waited for too."""
        descriptor = file_lock.acquire(self._folder / "guard.lock", timeout_seconds=_STOP_TIMEOUT_SECONDS)
        os.close(descriptor)
        deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
        data = self._folder / self._spec.data_file
        while time.monotonic() < deadline and data.exists():
            with data.open("rb+") as lock:
                try:  # Java holds a POSIX lock on this file, not a flock
                    fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                except (BlockingIOError, PermissionError):
                    time.sleep(0.1)

    def _choose_port(self) -> int:
        if self._configured_port:
            if not is_free(self._configured_port):
                raise SettingError(
                    f"{self._spec.port_setting}: port {self._configured_port} of {HOST} is taken by another program. "
                    "Choose another port, or 0 for any free one."
                )
            return self._configured_port
        try:
            last = int((self._folder / "port").read_text())
        except (OSError, ValueError):
            last = 0
        return last if last and is_free(last) else free_port()


def _forget_ended_guards() -> None:
    _GUARDS[:] = [guard for guard in _GUARDS if guard.poll() is None]
