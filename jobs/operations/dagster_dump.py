"""Copies Dagster's storage into a backup: of Postgres, by its own pg_dump where that is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from sqlalchemy.engine import make_url

from platform_assets.errors import StorageError
from platform_assets.kept_backups import DAGSTER_DUMP

if TYPE_CHECKING:
    import dagster as dg

    from platform_assets.folders import Folder

# A server that is cut off must not keep the groups' backup waiting for the network's two minutes.
_CONNECT_SECONDS = "10"


def dump_dagster(instance: dg.DagsterInstance, backup: Folder) -> str:
    """Dumps the instance's database into a backup, and says in one sentence what was done, or why nothing was.

    pg_dump connects as Dagster does: with the same TLS and options. Raises `StorageError` where it fails, with the
    last line that it wrote, and where the dump cannot be written. The password is in its environment.
    """
    url = getattr(instance.run_storage, "postgres_url", None)
    if url is None:
        return "Dagster's storage is not on Postgres: its files are not in the backup (docs/backup.md)."
    program = shutil.which("pg_dump")
    if program is None:
        return "Dagster's storage is not in the backup: pg_dump is not installed here (docs/backup.md)."
    address, password = _read_address(url)
    process = subprocess.Popen(
        [program, "--format=custom", "--no-password", f"--dbname={address}"],
        env={**os.environ, "PGPASSWORD": password}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        with process, backup.files.open_output_stream(DAGSTER_DUMP) as written:
            shutil.copyfileobj(process.stdout, written)
            said = process.stderr.read().decode(errors="replace") if process.stderr is not None else ""
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise StorageError(f"Dagster's storage could not be dumped to {backup.uri}: {why}.") from error
    if process.returncode != 0:
        backup.remove(DAGSTER_DUMP)
        line = next(reversed(said.strip().splitlines()), "it said nothing")
        raise StorageError(f"Dagster's storage could not be dumped: {line}")
    return f"Dagster's storage is in the backup, as {DAGSTER_DUMP}."


def _read_address(url: str) -> tuple[str, str]:
    """What is no secret, as libpq takes it on a command line, and the password.

    The rest of an address is not to be lost: without its `sslmode` anybody may answer in the server's place.
    """
    from psycopg2.extensions import make_dsn, parse_dsn

    parts = parse_dsn(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))
    password = parts.pop("password", "")
    parts.pop("sslpassword", None)  # every user of the machine can read a command line
    return make_dsn(**{"connect_timeout": _CONNECT_SECONDS, **parts}), password
