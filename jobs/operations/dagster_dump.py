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


def dump_dagster(instance: dg.DagsterInstance, backup: Folder) -> str:
    """Dumps the instance's database into a backup, and says in one sentence what was done, or why nothing was.

    Raises `StorageError` where pg_dump fails, with the last line that it wrote. The password is in its environment.
    """
    url = getattr(instance.run_storage, "postgres_url", None)
    if url is None:
        return "Dagster's storage is not on Postgres: its files are not in the backup (docs/backup.md)."
    program = shutil.which("pg_dump")
    if program is None:
        return "Dagster's storage is not in the backup: pg_dump is not installed here (docs/backup.md)."
    parts = make_url(url)
    given = {
        "PGHOST": parts.host, "PGPORT": parts.port, "PGUSER": parts.username, "PGPASSWORD": parts.password,
        "PGDATABASE": parts.database,
    }  # fmt: skip
    environment = {**os.environ, **{name: str(value) for name, value in given.items() if value is not None}}
    process = subprocess.Popen(
        [program, "--format=custom", "--no-password"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    with process, backup.files.open_output_stream(DAGSTER_DUMP) as written:
        shutil.copyfileobj(process.stdout, written)
        said = process.stderr.read().decode(errors="replace") if process.stderr is not None else ""
    if process.returncode != 0:
        backup.remove(DAGSTER_DUMP)
        line = next(reversed(said.strip().splitlines()), "it said nothing")
        raise StorageError(f"Dagster's storage could not be dumped: {line}")
    return f"Dagster's storage is in the backup, as {DAGSTER_DUMP}."
