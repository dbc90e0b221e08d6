"""The process that loads the definitions for Dagster's daemon and web server, one for both, for as long as they run.

Left to themselves each of the two starts a server, and the daemon another one each minute: several imports of
everything in memory, and seconds of a core each minute for nothing. Here another server takes the place of the one
before only when that has died or does not answer, or when the code on disk has changed. Runs are children of the server
that started them: one that is replaced goes on until its runs have ended, and a kill of the server leaves them alive.

Dagster's processes are given a symbolic link to the server's socket. They connect anew for each call, so that a call
reaches the server that the link names. Once a second they ask for the server's id, and load all again when it is
another.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import yaml
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._grpc.client import DagsterGrpcClient
from dagster_shared.serdes import serialize_value

from jobs.supervision.fingerprint import find_sources
from platform_assets.errors import TransientError

_log = logging.getLogger(__name__)

# A server whose platform was killed must not stay for ever: it ends after this long without a heartbeat, once its runs
# have ended. With less a machine under load, where heartbeats come late, would lose a healthy one.
_ORPHAN_SECONDS = 45
# Until a dead server is replaced each call of Dagster fails; each look costs a living one some milliseconds.
_LOOK_SECONDS = 2.0
# Until the first one answers the daemon waits for it, and a start is in a hurry.
_FIRST_LOOK_SECONDS = 0.2
# A look at the code costs 5 ms, and code that is being saved or checked out is not to be loaded: two looks must agree.
_CODE_LOOK_SECONDS = 10.0
# A start takes 3 s, and a minute on a machine that is out of breath. One that has not answered by then never will.
_START_SECONDS = 180.0
# One server that ends before it has answered is an accident, for instance of memory; this many in a row are a defect.
_ATTEMPTS = 5
_CODE = ("platform_assets", "jobs", "resources")


class CodeServerFailedError(TransientError):
    """No code server stays up; the message names its log."""


@dataclass
class _Server:
    process: subprocess.Popen[bytes]
    socket: Path
    has_answered: bool = False
    started: float = field(default_factory=time.monotonic)

    def beat(self) -> bool:
        """Sends the heartbeat that keeps it alive; whether it was answered, for which it gets a minute."""
        try:
            DagsterGrpcClient(socket=str(self.socket)).heartbeat()
        except DagsterUserCodeUnreachableError:
            return False
        return True


class CodeServer:
    """Starts a server when made and keeps one running until `leave`; `close` once all have ended.

    `workspace` is a workspace file that names one module, in the folder with the code. `spawn` starts Dagster's program
    with some arguments, its output going to `log`.
    """

    def __init__(self, workspace: Path, spawn: Callable[[list[str]], subprocess.Popen[bytes]], log: Path) -> None:
        self._root = workspace.parent
        self._spawn = spawn
        self._log = log
        # A socket's path has at most 107 bytes, and a platform's home may have more. Nobody else may enter this folder.
        self._folder = Path(tempfile.mkdtemp(prefix="headrace-"))
        self._link = self._folder / "socket"
        module = yaml.safe_load(workspace.read_text())["load_from"][0]["python_module"]
        with dg.DagsterInstance.get() as instance:
            self._command = [
                "api", "grpc", "--lazy-load-user-code", "--heartbeat", "--heartbeat-timeout", str(_ORPHAN_SECONDS),
                "--inject-env-vars-from-instance", "--instance-ref", serialize_value(instance.get_ref()),
                "--location-name", module["location_name"], "--module-name", module["module_name"],
            ]  # fmt: skip
        self.workspace = self._folder / "workspace.yaml"
        """The file by which Dagster's other processes find the server."""
        address = {"socket": str(self._link), "location_name": module["location_name"]}
        self.workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": address}]}))
        self._servers: list[_Server] = []
        self._starts = self._failures = 0
        self._starting, self._end, self._answered = threading.Lock(), threading.Event(), threading.Event()
        self._start()
        self._watcher = threading.Thread(target=self._watch, name="code-server-watch", daemon=True)
        self._watcher.start()

    @property
    def pids(self) -> list[int]:
        """The server, and those before it whose runs go on."""
        return [server.process.pid for server in self._servers if server.process.poll() is None]

    def wait(self) -> None:
        """Waits until a server answers, so that the definitions can be loaded. Raises what `check` raises."""
        while not self._answered.wait(_LOOK_SECONDS):
            self.check()

    def check(self) -> None:
        """Raises `CodeServerFailedError` when one server after the other ends before it answers, or none is watched."""
        if self._failures >= _ATTEMPTS or not self._watcher.is_alive():
            raise CodeServerFailedError(f"The code server cannot be kept running. Its log: {self._log}.")

    def leave(self) -> None:
        """Starts and keeps alive no server from now on; the caller ends those of `pids`."""
        with self._starting:
            self._end.set()

    def close(self) -> None:
        """Removes the sockets."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> None:
        with self._starting:
            if self._end.is_set():
                return
            self._starts += 1
            self._code = self._code_seen = _read_code_times(self._root)
            self._next_code_look = time.monotonic() + _CODE_LOOK_SECONDS
            socket = self._folder / str(self._starts)
            self._servers.append(_Server(self._spawn([*self._command, "--socket", str(socket)]), socket))

    def _watch(self) -> None:
        while not self._end.wait(_LOOK_SECONDS if self._answered.is_set() else _FIRST_LOOK_SECONDS):
            newest = self._servers[-1]
            reason = self._find_reason_to_replace(newest)
            if reason:
                _log.warning("Another code server is started: %s.", reason)
                self._failures = 0 if newest.has_answered else self._failures + 1
                self._start()
            self._servers = [s for s in self._servers if s is self._servers[-1] or s.process.poll() is None]

    def _find_reason_to_replace(self, server: _Server) -> str:
        """Empty where there is none. Lets Dagster's processes have the server once it answers."""
        if (code := server.process.poll()) is not None:
            return f"the one before ended (exit code {code})"
        if not server.beat():
            is_late = server.has_answered or time.monotonic() - server.started > _START_SECONDS
            return "the one before does not answer" if is_late and server.process.poll() is None else ""
        if not server.has_answered:
            server.has_answered = True
            link = self._folder / "socket.new"
            link.symlink_to(server.socket)
            link.replace(self._link)
            self._answered.set()
        return "the code has changed" if self._has_new_code() else ""

    def _has_new_code(self) -> bool:
        """Whether the code on disk differs from that of the newest server, and did so in the same way a while ago."""
        if time.monotonic() < self._next_code_look:
            return False
        self._next_code_look = time.monotonic() + _CODE_LOOK_SECONDS
        before, self._code_seen = self._code_seen, _read_code_times(self._root)
        return before == self._code_seen != self._code


def _read_code_times(root: Path) -> dict[str, int]:
    """When each file of the code location was changed last."""
    found = {}
    for path in find_sources(root, _CODE):
        with contextlib.suppress(FileNotFoundError):  # it was removed since the folder was read
            found[str(path)] = path.stat().st_mtime_ns
    return found
