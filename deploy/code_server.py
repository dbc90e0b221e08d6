"""The main process of the code server's container: serves the code, and ends the streams before it ends itself.

A container's SIGTERM reaches its first process only, while the streaming run is a grandchild that would be killed with
the container. So the run is asked to stop through the instance, as the supervisor does, and its lock is awaited.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg

from jobs.supervision.group_lock import read_lock
from jobs.supervision.lease import request_shutdown
from jobs.supervision.model import LockView
from jobs.supervision.storage_errors import find_storage_error
from platform_assets.sinks.catalogue import load_groups
from resources.settings import load_settings
from resources.stop_signals import StopSignals

# Below the container's stop_grace_period of 90 s, which also has to cover the end of the server.
_STREAMS_TIMEOUT_SECONDS = 75.0

_SERVER_TIMEOUT_SECONDS = 10.0


def main() -> int:
    """Runs until SIGTERM or SIGINT, or until the server ends by itself. Returns the server's exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="0.0.0.0", help="a container's own network (default: %(default)s)")
    parser.add_argument("--port", default="4000")
    args = parser.parse_args()
    with StopSignals() as stop:
        return serve(args.host, args.port, stop)


def serve(host: str, port: str, stop: StopSignals) -> int:
    """Runs the server until a signal comes, or it ends by itself. Returns its exit code, or 0 after a signal."""
    server = subprocess.Popen(
        # Without the proxy of `dagster code-server start`: run monitoring asks the server whether it has a run
        # (jobs/supervision/launcher.py), and new code is a new image here.
        [
            str(Path(sys.executable).parent / "dagster"),
            "api",
            "grpc",
            "--host",
            host,
            "--port",
            port,
            "--module-name",
            "platform_assets.definitions",
            "--location-name",
            "headrace",
        ],
        start_new_session=True,  # a signal to this process's group must not reach the run directly
    )
    while server.poll() is None and not stop.received.wait(0.5):
        pass
    if server.poll() is not None:
        return server.returncode
    stop_streams()
    server.terminate()
    try:
        server.wait(_SERVER_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
    return 0


def stop_streams() -> None:
    """Asks each group's host to stop and waits until the locks are free, or the time is over.

    By a signal where the instance's database is away: a host stops at a batch boundary then as well.
    """
    deadline = time.monotonic() + _STREAMS_TIMEOUT_SECONDS
    home = load_settings().home
    groups = [group.name for group in load_groups()]
    try:
        with dg.DagsterInstance.get() as instance:
            for group in groups:
                request_shutdown(instance, group, "the container stops")
    except Exception as error:
        if (known := find_storage_error(error)) is None:
            raise
        print(f"code server: {known} The streams are stopped by a signal.", file=sys.stderr, flush=True)
        for group in groups:
            _signal(read_lock(home, group))
    while any(read_lock(home, group).held for group in groups) and time.monotonic() < deadline:
        time.sleep(0.2)


def _signal(lock: LockView) -> None:
    if lock.owner is not None and lock.owner_alive:
        with contextlib.suppress(ProcessLookupError):  # it has ended since
            os.kill(lock.owner.pid, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
