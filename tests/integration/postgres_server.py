"""A real Postgres for a test: Debian's server in a folder of its own, on 127.0.0.1, gone when the block ends."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg2

USER = "dagster"
LIMIT_SECONDS = 60.0
_INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))


def find_binaries() -> Path | None:
    """Debian's newest server; None where the package `postgresql` is not installed."""
    return _INSTALLED[-1] if _INSTALLED else None


@contextmanager
def running_postgres(password: str = "") -> Iterator[int]:
    """The server's port. Its superuser `dagster` has a database of that name, and logs in by the password, if any."""
    binaries = find_binaries()
    assert binaries is not None
    # Postgres refuses to run as root, and a folder of pytest's is closed to others.
    as_owner = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="headrace-postgres-"))
    try:
        if as_owner:
            shutil.chown(folder, "postgres", "postgres")
        data, port = folder / "data", find_port()
        initdb = [str(binaries / "initdb"), "-D", str(data), "-U", USER, "-E", "UTF8", "--no-sync", "-A"]
        initdb += ["scram-sha-256", f"--pwfile={folder / 'password'}"] if password else ["trust"]
        (folder / "password").write_text(password)
        subprocess.run([*as_owner, *initdb], check=True, capture_output=True, cwd=folder)
        options = ["-D", str(data), "-k", str(folder), "-h", "127.0.0.1", "-p", str(port), "-F"]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [*as_owner, str(binaries / "postgres"), *options], cwd=folder, stdout=log, stderr=log
            )
        try:
            _wait_until_ready(binaries, port, server)
            createdb = [str(binaries / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", USER, USER]
            subprocess.run(createdb, check=True, capture_output=True, env={**os.environ, "PGPASSWORD": password})
            yield port
        finally:
            # The postmaster itself: `runuser` stands between it and us.
            os.kill(int((data / "postmaster.pid").read_text().split()[0]), signal.SIGINT)
            server.wait(LIMIT_SECONDS)
            deadline = time.monotonic() + LIMIT_SECONDS
            while (data / "postmaster.pid").exists() and time.monotonic() < deadline:
                time.sleep(0.1)  # a test may have started it again: then it is another process
    finally:
        shutil.rmtree(folder)


def dump_database(port: int, password: str) -> bytes:
    """All that the database has, as text."""
    binaries = find_binaries()
    assert binaries is not None
    command = [str(binaries / "pg_dump"), "-h", "127.0.0.1", "-p", str(port), "-U", USER, USER]
    environment = {**os.environ, "PGPASSWORD": password}
    return subprocess.run(command, check=True, capture_output=True, env=environment).stdout


@contextmanager
def no_connection_left(port: int, password: str) -> Iterator[None]:
    """Takes every connection that the server has to give, those that it keeps for superusers too, for the block."""
    taken = []
    try:
        with suppress(psycopg2.OperationalError):
            while True:
                taken.append(psycopg2.connect(host="127.0.0.1", port=port, user=USER, password=password, dbname=USER))
        assert taken
        yield
    finally:
        for connection in taken:
            connection.close()


def find_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(binaries: Path, port: int, server: subprocess.Popen[bytes]) -> None:
    ready = [str(binaries / "pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-U", USER]
    deadline = time.monotonic() + LIMIT_SECONDS
    while subprocess.run(ready, check=False, capture_output=True).returncode != 0:
        assert server.poll() is None and time.monotonic() < deadline, "Postgres did not start"
        time.sleep(0.1)
