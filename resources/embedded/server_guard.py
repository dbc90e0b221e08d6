"""The guard process: the parent of an embedded server's JVM, which ends the JVM when nobody uses it any more.

    python -m resources.embedded.server_guard <launch file>

Each user of the server holds a shared lock on `users.lock`. The kernel frees such a lock however its holder ends
(kill -9 too), so a server without users is seen for certain. The guard runs in a session of its own: Ctrl-C in a
terminal reaches the users, never the guard or the JVM. Nothing beyond the standard library and the stop
signals is imported: it stays small and starts at once.

Exit codes: 0 stopped because it was asked to or nobody was left; 1 the JVM would not start or run.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from resources.stop_signals import StopSignals

# How long the server waits for a new user: bridges a run that is restarted, without a restart of the server.
_GRACE_SECONDS = 10.0

_POLL_SECONDS = 0.5

# A start takes 2-4 s on two idle cores; recovery of an unclean log takes longer, and so does a busy machine.
_START_TIMEOUT_SECONDS = 120.0

# A controlled shutdown takes well under a second; past the limit the data are recovered at the next start.
_STOP_TIMEOUT_SECONDS = 20.0

# A JVM that dies under its users (out of memory, kill -9) is started again on the same port, which clients bridge
# by themselves. More deaths than this within the window are a fault that a restart does not fix.
_MAX_RESTARTS = 5
_RESTART_WINDOW_SECONDS = 300.0

_PR_SET_PDEATHSIG = 1


class Guard:
    """Owns the JVM. `launch` is the launch file's content: folder, name, port and commands."""

    def __init__(self, launch: dict[str, Any]) -> None:
        self._launch = launch
        self._folder = Path(launch["folder"])
        self._stop = StopSignals()
        self._deaths: list[float] = []
        self._users = os.open(self._folder / "users.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def run(self) -> int:
        """Starts the JVM, watches it and its users, and returns the process's exit code."""
        with self._stop:
            return self._guard()

    def _guard(self) -> int:
        self._format()
        jvm = self._start()
        idle_since: float | None = None
        try:
            while not self._stop.received.wait(_POLL_SECONDS):
                if jvm.poll() is not None:
                    if not self._may_restart():
                        return 1
                    jvm = self._start()
                # From here to the end of the process the lock stays taken when nobody else holds it: a user who
                # comes now waits in `EmbeddedServer.start` until this server is gone, then starts the next one.
                if not self._is_unused():
                    idle_since = None
                    continue
                idle_since = idle_since or time.monotonic()
                if time.monotonic() - idle_since > _GRACE_SECONDS:
                    return 0
                fcntl.flock(self._users, fcntl.LOCK_UN)
            return 0
        finally:
            self._end(jvm)

    def _is_unused(self) -> bool:
        try:
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _may_restart(self) -> bool:
        now = time.monotonic()
        self._deaths = [death for death in self._deaths if now - death < _RESTART_WINDOW_SECONDS] + [now]
        return len(self._deaths) <= _MAX_RESTARTS

    def _format(self) -> None:
        """Makes the folder ready where the server needs that: once, before its first start."""
        if "format_command" not in self._launch or (self._folder / "data" / "meta.properties").exists():
            return
        self._report("formatting")
        if subprocess.run(self._launch["format_command"], check=False, stdin=subprocess.DEVNULL).returncode:
            raise SystemExit(f"the {self._launch['name']}'s folder could not be formatted")

    def _start(self) -> subprocess.Popen[bytes]:
        """Starts the JVM, waits until its port answers and publishes the state file."""
        jvm = subprocess.Popen(
            self._launch["command"], stdin=subprocess.DEVNULL, cwd=self._folder, preexec_fn=_die_with_parent
        )
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        try:
            while not _answers(self._launch["port"]):
                if jvm.poll() is not None:
                    raise SystemExit(
                        f"the {self._launch['name']}'s JVM ended with code {jvm.returncode} while it started"
                    )
                if self._stop.received.wait(0.05) or time.monotonic() > deadline:
                    raise SystemExit(
                        f"the {self._launch['name']} was stopped, or did not open its port in time, while it started"
                    )
        except BaseException:
            self._end(jvm)
            raise
        self._publish(jvm.pid)
        return jvm

    def _publish(self, jvm_pid: int) -> None:
        state = {"port": self._launch["port"], "guard_pid": os.getpid(), "jvm_pid": jvm_pid}
        partial = self._folder / ".state.json"
        partial.write_text(json.dumps(state))
        partial.replace(self._folder / "state.json")
        self._report(f"{self._launch['name']} pid {jvm_pid} on port {self._launch['port']}")

    def _end(self, jvm: subprocess.Popen[bytes]) -> None:
        if jvm.poll() is None:
            jvm.terminate()
            try:
                jvm.wait(_STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                jvm.kill()
                jvm.wait()
        with contextlib.suppress(FileNotFoundError):
            (self._folder / "state.json").unlink()
        self._report("stopped")

    def _report(self, message: str) -> None:
        print(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} guard {os.getpid()}: {message}", flush=True)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _die_with_parent() -> None:
    """Makes the kernel end the JVM when the guard dies, even by kill -9 (Linux). Runs in the child, before exec."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def main(launch_file: Path) -> int:
    """Runs one guard; a second one for the same folder ends at once, for the first holds `guard.lock`."""
    launch = json.loads(launch_file.read_text())
    descriptor = os.open(Path(launch["folder"]) / "guard.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # A process that looks whether a guard lives holds the lock for an instant: that must not stop a start.
    deadline = time.monotonic() + _POLL_SECONDS * 4
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return Guard(launch).run()
        except BlockingIOError:
            if time.monotonic() > deadline:
                return 0
            time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
