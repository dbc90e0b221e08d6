"""Connections to a Postgres, and its errors as ones that say what to do. No message holds a password or a row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from platform_assets.errors import (
    DatabaseRefusedError,
    DatabaseUnavailableError,
    HeadraceError,
    SettingError,
    SinkTargetError,
)

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

# Older ones know no unique index in which null is a value, and their makers support them no more.
_OLDEST_VERSION = 15
# A database behind a network that is cut: without these the first query after it would wait for a quarter of an hour.
_DEFAULTS = {
    "application_name": "headrace", "connect_timeout": "10", "keepalives_idle": "30", "keepalives_interval": "10",
    "keepalives_count": "3", "tcp_user_timeout": "30000",
}  # fmt: skip
# The server's side of the same: a host that is cut off would keep its locks until the server's own two hours are over.
# What waits for a lock of somebody else is tried again later. By transaction, for a pooler gives each another session.
_OF_A_TRANSACTION = (
    "SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO, YMD'; "
    "SET LOCAL client_min_messages = warning; SET LOCAL lock_timeout = '30s'; SET LOCAL tcp_keepalives_idle = 30; "
    "SET LOCAL tcp_keepalives_interval = 10; SET LOCAL tcp_keepalives_count = 3; SET LOCAL statement_timeout = 0"
)
# What libpq says where no log-in came about has no code.
_REFUSALS = (
    "authentication failed", "no password supplied", "pg_hba.conf", "does not exist", "certificate",
    "does not support SSL", "not permitted to log in", "permission denied",
)  # fmt: skip
# Classes of SQLSTATE, or whole ones, after which the same may succeed.
_PASSING = ("08", "40", "53", "57", "58", "25006", "25P03", "55P03")
_MISSING_RIGHT = "42501"


def connect(url: str) -> Connection:
    """Opens a connection. Parameters in the address, such as sslmode, win over Headrace's own.

    Raises `DatabaseUnavailableError`, `DatabaseRefusedError`, and `SettingError` for a server that is too old or does
    not keep text as UTF-8.
    """
    import psycopg2
    from psycopg2.extensions import make_dsn, parse_dsn

    try:
        connection = psycopg2.connect(make_dsn(**{**_DEFAULTS, **parse_dsn(url)}))
    except psycopg2.OperationalError as error:
        raise _explain(error, url) from None
    try:
        if connection.server_version < _OLDEST_VERSION * 10_000:
            raise SettingError(
                f"The Postgres at {name_place(url)} is older than version {_OLDEST_VERSION}, the oldest that sinks "
                "write. Name another in HEADRACE_POSTGRES_URL."
            )
        if (encoding := connection.get_parameter_status("server_encoding")) != "UTF8":
            raise SettingError(
                f"The database {name_place(url)} has the encoding {encoding}, which cannot hold all text. Create one "
                "with ENCODING 'UTF8', and name it in HEADRACE_POSTGRES_URL."
            )
        connection.set_client_encoding("UTF8")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: Connection, url: str, isolation: str = "READ COMMITTED") -> Iterator[Any]:
    """Yields a cursor in a transaction, which is committed at the block's end, and rolled back by an error of it.

    Names are looked up in pg_catalog only. Raises what `connect` does, and `SinkTargetError` for what the database
    refuses because of the table or the rows.
    """
    import psycopg2

    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}; {_OF_A_TRANSACTION}")
            yield cursor
    except psycopg2.Error as error:
        raise _explain(error, url) from None


def name_place(url: str) -> str:
    """Host, port and database of an address, and nothing else of it."""
    from psycopg2.extensions import parse_dsn

    parts = parse_dsn(url)
    return f"{parts.get('host', 'localhost')}:{parts.get('port', '5432')}/{parts['dbname']}"


def _explain(error: Any, url: str) -> HeadraceError:
    import psycopg2

    place, code = name_place(url), error.pgcode or ""
    if code == _MISSING_RIGHT:
        return DatabaseRefusedError(
            f"Postgres at {place} refuses: {error.diag.message_primary}. Grant the right (docs/databases.md lists "
            "them); it goes on by itself then."
        )
    is_lost = isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError) and not code
    if is_lost and any(words in str(error) for words in _REFUSALS):
        said = str(error).strip().splitlines()[-1].rpartition("FATAL:")[2].strip()
        return DatabaseRefusedError(
            f"Postgres at {place} refuses the log-in: {said}. Check HEADRACE_POSTGRES_URL and the server's pg_hba.conf."
        )
    if is_lost or code.startswith(_PASSING):
        return DatabaseUnavailableError(
            f"Postgres at {place} does not answer ({_shorten(error)}). Nothing is lost; it goes on by itself when the "
            "database is back."
        )
    # Of these classes the text names tables and columns; of the others it may have a value of a row in it.
    said = error.diag.message_primary if code.startswith(("0A", "2B", "42", "54")) else _shorten(error)
    return SinkTargetError(f"Postgres at {place} refuses what a sink writes: {said} (SQLSTATE {code}).")


def _shorten(error: Any) -> str:
    """The name of the error, for its text may have values of a row in it; where there is no code, its last line."""
    if error.pgcode:
        return type(error).__name__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].lstrip("\t ") if lines else type(error).__name__
